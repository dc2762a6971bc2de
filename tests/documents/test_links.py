"""Links between the documents hold where they are read as files: on a forge, and in a checkout. `make docs` looks at those of the site.

An anchor is made of a heading as forges do it: lower case, punctuation left out, a hyphen for each space.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").rglob("*.md"))]


@cache
def prose(path: Path) -> str:
    """The text of a page without blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(path: Path) -> Iterator[str]:
    yield from re.findall(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(path)))


@cache
def anchors(path: Path) -> set[str]:
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (one := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(one)
    return found


def broken(path: Path, link: str) -> str:
    """What is wrong with a link of a page; "" if it holds."""
    if link.startswith(("https://", "http://", "mailto:")):
        return ""
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and anchor not in anchors(target):
        return f"{link}: there is no such heading"
    inside = path.is_relative_to(CHECKOUT / "docs")
    return "" if not inside or target.is_relative_to(CHECKOUT / "docs") else f"{link}: the site does not have it"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_the_links_of_a_page_hold(path: Path) -> None:
    assert [wrong for link in links(path) if (wrong := broken(path, link))] == []


def test_broken_links_are_found() -> None:
    page = CHECKOUT / "docs/user/cache.md"
    assert broken(page, "ci.md#who-may-write-to-a-cache") == broken(page, "#what-is-in-a-key") == broken(page, "https://a.example/") == ""
    assert broken(page, "no-such.md") and broken(page, "ci.md#no-such-heading") and broken(page, "../../README.md")
    assert sum(1 for path in PAGES for _ in links(path)) > 90
