"""Every block of code says its language, and is valid in it. Other tests run what can run: see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from pybuild.parser import ParseError, parse
from tests.support.cli import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
# Languages that other tests run or read, or that only show something.
ELSEWHERE = {"sh", "console", "yaml", "groovy", "Dockerfile", "text", "sql"}


def blocks() -> Iterator[tuple[str, str, str]]:
    for path in PAGES:
        text = path.read_text()
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            yield f"{path.name}:{text[: match.start()].count(chr(10)) + 1}", match[1], match[2]


@pytest.mark.parametrize(("place", "language", "text"), list(blocks()), ids=lambda value: value if ".md:" in value else "")
def test_a_block_is_valid(place: str, language: str, text: str) -> None:
    match language:
        case "python":
            ast.parse(text)
        case "toml":
            tomllib.loads(text)
        case "dockerfile":  # an example of docs/user/checks.md, or a part of a recipe
            parse(text if re.search(r"^FROM ", text, re.MULTILINE | re.IGNORECASE) else f"FROM a\n{text}")
        case "":
            assert not re.search(r"^(?:\$ )?pybuild -?\w", text, re.MULTILINE), "a block with commands says its language"
        case _:
            assert language in ELSEWHERE


def test_a_block_that_is_not_valid_is_found() -> None:
    with pytest.raises(ParseError):
        test_a_block_is_valid("a.md:1", "dockerfile", "FROM a\nCOPPY a b\n")
    with pytest.raises(AssertionError):
        test_a_block_is_valid("a.md:1", "shell", "true\n")
