"""pybuild explore as users call it. tests/pybuild/pages looks at the pages."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        found.push(base_archive, "team/base:1")
        yield found


def head_of(page: str) -> Any:
    data = page.partition('id="data">')[2].partition("<")[0]
    content = zlib.decompress(base64.b64decode(data), -zlib.MAX_WBITS)
    return json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])


def layers_of(page: str) -> list[str]:
    return [layer["instruction"] for layer in head_of(page)["image"]["layers"]]


def test_the_page_of_an_image_wherever_it_is(
    tmp_path: Path, pybuild: Pybuild, registry: DockerRegistry, base_archive: Path
) -> None:
    pybuild("-q", "-t", "team/app:1", write_context(tmp_path / "c", f"FROM {BASE}\nCOPY Buildfile /\n"))
    done = pybuild("explore", "team/app:1", cwd=tmp_path)
    assert done.out == "team-app-1.html\n"
    assert done.err.startswith("wrote team-app-1.html (")
    page = (tmp_path / "team-app-1.html").read_text()
    assert layers_of(page)[1:] == ["COPY Buildfile / # buildkit"]
    assert "<title>team/app:1</title>" in page
    elsewhere = Pybuild(tmp_path / "other", {"HOME": str(tmp_path)})
    name = f"{registry.host}/team/base:1"
    pages = [
        pybuild("explore", BASE, "-o", "-").out,
        elsewhere("explore", f"oci-archive:{base_archive}", "-o", "-").out,
        elsewhere("explore", f"docker://{name}", "-o", "-").out,
    ]
    fetched = elsewhere("explore", name, "-o", "-")
    assert f"the store has no image {name}: reading it from its registry" in fetched.err
    described = [head_of(text) for text in (*pages, fetched.out)]
    assert len({json.dumps([each["columns"], each["image"]["digest"], each["largest"]]) for each in described}) == 1
    assert elsewhere("images").out.count("\n") == 1, "nothing is pulled"
    assert f"{registry.host}" not in elsewhere("df", "-v").out
    elsewhere.assert_whole()
    assert "RUN" not in elsewhere("history", f"docker://{name}").err


def test_two_images(tmp_path: Path, pybuild: Pybuild) -> None:
    pybuild("-q", "-t", "app", write_context(tmp_path / "c", f"FROM {BASE}\nENV A=1\nCOPY Buildfile /\n"))
    pybuild("explore", BASE, "app", "-o", tmp_path / "page.html")
    head = head_of((tmp_path / "page.html").read_text())
    assert (head["kind"], head["shared"], [image["name"] for image in head["images"]]) == ("difference", 1, [BASE, "app"])


def test_a_browser_shows_the_page(tmp_path: Path, pybuild: Pybuild) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/shown\n')
    browser.chmod(0o755)
    pybuild("explore", BASE, "-o", "a page.html", "--open", cwd=tmp_path, BROWSER=f"{browser} %s")
    assert (tmp_path / "shown").read_text() == f"file://{tmp_path}/a%20page.html\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("explore", BASE, "--open", "-o", "-"), 2, "--open needs a file"),
        (("explore", BASE, "-o", "missing/page.html"), 1, "missing"),
        (("explore", BASE, "--open", "-o", "page.html"), 1, "no browser was found to show page.html"),
        (("explore", "oci-archive:missing.tar"), 1, "missing.tar"),
        (("explore", "127.0.0.1:9/not/here:1"), 1, "127.0.0.1:9"),
        (("explore", "docker://"), 1, "error: "),
        (("history", "127.0.0.1:9/not/here:1"), 1, "not/here"),
    ],
)
def test_a_refusal(tmp_path: Path, pybuild: Pybuild, arguments: tuple[str, ...], status: int, says: str) -> None:
    error = pybuild.refused(*arguments, status=status, cwd=tmp_path, BROWSER="/nothing/here", PATH="/usr/sbin")
    assert says in error
