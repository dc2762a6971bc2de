"""The place of an error (line and column in the file as it is on disk) and its excerpt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.parser import (
    ExpansionError,
    IgnoreFile,
    ParseError,
    PatternError,
    SizeError,
    Source,
    Span,
    expand,
    parse,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def error_of(text: str | bytes) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse(text, "dir/Buildfile")
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        pytest.param("FROM a\nBOGUS x", 2, 1, id="at the instruction"),
        pytest.param("FROM a\n   BOGUS x", 2, 4, id="behind blanks"),
        pytest.param("# x\n\nFROM a\n# y\nBOGUS", 5, 1, id="behind comments"),
        pytest.param("FROM a\r\nBOGUS\r\n", 2, 1, id="in a file with Windows line ends"),
        pytest.param("\ufeffFROM a\nBOGUS\n", 2, 1, id="behind a byte-order mark"),
        pytest.param("FROM a\nRUN <<E\nBOGUS\nE\nBOGUS", 5, 1, id="behind a heredoc"),
        pytest.param("FROM a\nRUN x \\\n# c\n y\nBOGUS", 5, 1, id="behind a continued line"),
        pytest.param("FROM a\nCOPY \\\n  --bogus \\\n a b", 3, 3, id="in a continued line"),
        pytest.param("FROM a\nCOPY \\\n# c\n\n  --bogus \\\n a b", 5, 3, id="in a continued line behind a comment"),
        pytest.param("FROM a\nEXPOSE 1 \\\n  2 \\\n\tx", 4, 2, id="on its last line, behind a tab"),
        pytest.param("FROM a\nEXPOSE ä x", 2, 8, id="columns count characters"),
        pytest.param("FROM a\nEXPOSE 😀 x", 2, 8, id="a character of four bytes is one column"),
        pytest.param("FROM a\nENV A=ä B", 2, 9, id="a character of two bytes before the error is one column"),
    ],
)
def test_an_error_has_the_place_in_the_file(text: str, line: int, column: int) -> None:
    span = error_of(text).span
    assert (span.line, span.column) == (line, column)


def test_an_error_carries_the_text_and_its_name() -> None:
    error = error_of("FROM a\nBOGUS x")
    assert error.source is not None
    assert error.source.filename == "dir/Buildfile"
    assert error.source.excerpt(error.span) == "    2 | BOGUS x\n      | ^"
    assert str(error) == error.message == "unknown instruction BOGUS"


def test_an_error_in_bytes_that_are_not_utf8_can_be_shown() -> None:
    error = error_of(b"FROM a\nRUN \xff\n")
    assert error.source is not None
    assert error.message == "invalid UTF-8"
    assert error.source.excerpt(error.span) == "    2 | RUN \\xff\n      |     ^"


@pytest.mark.parametrize(
    ("line", "column", "excerpt"),
    [
        pytest.param("abc", 3, "    1 | abc\n      |   ^", id="the caret is below the column"),
        pytest.param("a\tbc", 3, "    1 | a\tbc\n      |  \t^", id="a tab is as wide as in the line"),
        pytest.param("a\x1b[0mb", 6, "    1 | a\\x1b[0mb\n      |         ^", id="an escape sequence is spelled out"),
        pytest.param("a\u202eb", 3, "    1 | a\\x202eb\n      |        ^", id="a bidirectional control is spelled out"),
        pytest.param("", 1, "    1 | \n      | ^", id="an empty line"),
        pytest.param("abc\r", 4, "    1 | abc\n      |    ^", id="a carriage return is not shown"),
    ],
)
def test_an_excerpt_shows_the_line_and_a_caret(line: str, column: int, excerpt: str) -> None:
    assert Source("f", line).excerpt(Span(1, column, 1, column + 1)) == excerpt


def test_an_excerpt_of_a_long_line_is_a_window_around_the_column() -> None:
    line = "x" * 5000 + "!" + "y" * 5000
    shown, caret = Source("f", line).excerpt(Span(1, 5001, 1, 5002)).split("\n")
    assert len(shown) < 200
    assert shown[caret.index("^")] == "!"


def test_an_excerpt_of_a_line_behind_the_end_is_empty() -> None:
    assert Source("f", "a").excerpt(Span(7, 1, 7, 1)) == "    7 | \n      | ^"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("RUN x\nFROM a", "no build stage in current context: RUN before FROM", id="before FROM"),
        pytest.param("ARG A", "the recipe has no FROM", id="without FROM"),
        pytest.param("FROM a\nbogus x", "unknown instruction bogus", id="unknown, in lower case"),
        pytest.param("FROM a\n--x", "unknown instruction --x", id="a flag as instruction"),
        pytest.param("FROM a\nRUNx y", "unknown instruction RUNx", id="a keyword without a blank behind it"),
    ],
)
def test_an_invalid_recipe_is_refused(text: str, message: str) -> None:
    assert error_of(text).message == message


@pytest.mark.parametrize("character", ["\u202a", "\u202e", "\u2066", "\u2069"])
def test_a_bidirectional_control_character_is_a_warning(character: str) -> None:
    recipe = parse(f"FROM a\nRUN x {character}y\n")
    (warning,) = recipe.warnings
    assert (warning.span.line, warning.span.column) == (2, 7)
    assert f"U+{ord(character):04X}" in warning.message


def test_there_are_at_most_100_warnings() -> None:
    assert len(parse("FROM a\nRUN " + "\u202e" * 1000).warnings) == 100


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda text: IgnoreFile.parse(f"[{text}"), id="a pattern"),
        pytest.param(parse_size, id="a size"),
        pytest.param(lambda text: expand("${A:?" + text + "}", {}), id="an expansion"),
        pytest.param(lambda text: parse(f"RUN {text}"), id="a recipe"),
    ],
)
def test_a_message_about_a_long_text_is_short(read: Callable[[str], object]) -> None:
    with pytest.raises((PatternError, SizeError, ExpansionError, ParseError)) as caught:
        read("x" * 100_000)
    assert len(str(caught.value)) < 500
