"""What `make docs` adds to the documents and looks for in the site: its hooks, its faults, and what belongs into its configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pybuild
from fixtures.docs_site import OUTSIDE, linked, title, unbroken
from tests.documents.pages import faults
from tests.support.cli import CHECKOUT

CONFIGURATION = (CHECKOUT / "mkdocs.yml").read_text()
PAGE = "<html><head>{head}</head><body><article><h1 id='top'>A page</h1>{body}</article></body></html>"


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("", "<p>plain <a href='https://other.example/'>link</a> <a href='#top'>up</a> <a href='b.html#top'>b</a></p>", ""),
        ("<link rel='stylesheet' href='https://fonts.example/a.css'>", "", "loads https://fonts.example/a.css"),
        ("<link rel='preconnect' href='//cdn.example'>", "", "loads //cdn.example"),
        ("<script src='https://cdn.example/a.js'></script>", "", "loads https://cdn.example/a.js"),
        ("<style>@import 'https://cdn.example/a.css';</style>", "", "loads https://cdn.example/a.css"),
        ("", "<p style=\"background: url('http://cdn.example/a.png')\">a</p>", "loads http://cdn.example/a.png"),
        ("", "<img src='missing.png'>", "loads missing.png: there is no such file"),
        ("", "<a href='missing.html'>a</a>", "link to missing.html: there is no such page"),
        ("", "<a href='b.html#missing'>a</a>", "link to b.html#missing: the page has no such anchor"),
        ("", "<p>Two things:\n* one\n* two</p>", "shows Markdown"),
        ("", "<p>an `unclosed span</p>", "shows Markdown"),
        ("", "<p>a [link](b.md)</p>", "shows Markdown"),
        ("", "<pre><code>* a `list`</code></pre><p><code>`</code></p>", ""),
    ],
)
def test_faults_of_a_page_are_found(head: str, body: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text(PAGE.format(head="", body=""))
    (tmp_path / "a.html").write_text(PAGE.format(head=head, body=body))
    found = list(faults(tmp_path))
    assert len(found) == bool(expected)
    assert not expected or expected in found[0]


def test_addresses_in_style_sheets_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example/a.woff2) } p { background: url(data:image/png;base64,AA) }")
    assert [fault.partition(":")[0] for fault in faults(tmp_path)] == ["a.css loads https"]


def test_the_path_of_a_document_becomes_a_link() -> None:
    text = ["see `docs/user/cache.md`.", "```sh", "cat `docs/user/cache.md`", "```", "    `docs/user/cache.md`", "`CONTRIBUTING.md` says"]
    assert list(linked(text, "user/steps.md")) == [
        "see [The cache](cache.md).", *text[1:5], "[`CONTRIBUTING.md`](../project/contributing.md) says",
    ]  # fmt: skip
    assert list(linked(["`docs/user/cache.md`, `tests/conftest.py`, `docs/README.md`"], "user/cache.md")) == [
        "`docs/user/cache.md`, `tests/conftest.py`, `docs/README.md`"
    ]


def test_a_bar_in_a_cell_loses_its_backslash() -> None:
    assert list(linked([r"| `a \| b` | c |", r"`a \| b`"], "index.md")) == ["| `a | b` | c |", r"`a \| b`"]


def test_an_option_is_kept_in_one_line() -> None:
    kept = "<span class=\"option\">--no-cache</span>"
    assert unbroken("<p>write --no-cache</p><pre><code>--no-cache</code></pre><code>--no-cache</code>") == (
        f"<p>write {kept}</p><pre><code>--no-cache</code></pre><code>{kept}</code>"
    )
    assert unbroken('<a href="a--b-c">well-known - a</a>') == '<a href="a--b-c">well-known - a</a>'


def test_the_navigation_has_every_document_once() -> None:
    """mkdocs says so too, but only in `make docs`."""
    listed = re.findall(r"^ +- (?:[\w ]+: )?([\w./-]+\.md)$", CONFIGURATION.partition("\nnav:")[2], re.MULTILINE)
    documents = {str(path.relative_to(CHECKOUT / "docs")) for path in (CHECKOUT / "docs").rglob("*.md")} - {"README.md"}
    assert sorted(listed) == sorted(documents | set(OUTSIDE.values()))


def test_every_document_begins_with_its_title() -> None:
    for path in (CHECKOUT / "docs").rglob("*.md"):
        assert path.read_text().startswith("# ") and title(str(path.relative_to(CHECKOUT))), path


def test_lists_in_lists_are_indented_by_four() -> None:
    """A forge takes fewer spaces; Python's Markdown makes one list of both."""
    for path in [*(CHECKOUT / "docs").rglob("*.md"), *map(CHECKOUT.joinpath, OUTSIDE)]:
        prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"^ {1,3}(?:[*-]|\d+\.) ", prose, re.MULTILINE), path


def test_the_reference_has_every_public_name_once() -> None:
    names = re.findall(r"^::: pybuild\.(\w+)$", (CHECKOUT / "docs/user/api-reference.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(pybuild.__all__)


def test_what_the_configuration_forbids() -> None:
    assert "\n  font: false" in CONFIGURATION and "\nstrict: true" in CONFIGURATION
    assert not re.search(r"https?://", CONFIGURATION)
