"""What is left of a recipe that cannot be parsed: all its mistakes, and the lines that have none."""

from __future__ import annotations

import pytest

from pybuild.parser import ParseError
from pybuild.parser.mistakes import MAX_MISTAKES, salvage


def salvaged(text: str) -> tuple[list[int], list[list[str]]]:
    """The lines of the mistakes, and the keywords that are left, by stage."""
    left = salvage(text, "Buildfile")
    stages = left.buildfile.stages if left.buildfile is not None else ()
    keywords = [["FROM", *(instruction.keyword for instruction in stage.instructions)] for stage in stages]
    return [error.span.line for error in left.mistakes], keywords


@pytest.mark.parametrize(
    ("text", "lines", "left"),
    [
        pytest.param("FROM a\nBADCMD\nRUN x", [2], [["FROM", "RUN"]], id="a word that is no instruction"),
        pytest.param("FROM a\nENV x\nRUN x\nSTOPSIGNAL SIGNO", [2, 4], [["FROM", "RUN"]], id="several lines"),
        pytest.param("FROM a\nENV a=b c\nBADCMD\nCOPY x\nUSER y", [2, 3, 4], [["FROM", "USER"]], id="lines of both kinds"),
        pytest.param("FROM a\nval=2s --retries=5 CMD b\nENV x\nRUN y", [2, 3], [["FROM", "RUN"]], id="a line that the grammar cannot read"),
        pytest.param("RUN x\nFROM a\nRUN y", [1], [["FROM", "RUN"]], id="an instruction before FROM"),
        pytest.param("FROM a b\nRUN x\nFROM a\nUSER y", [1], [["FROM", "USER"]], id="the stage of a wrong FROM"),
        pytest.param("FROM a\nUSER y\nFROM a b\nRUN x", [3], [["FROM", "USER"]], id="the last stage is wrong"),
        pytest.param("FROM a b\nRUN x", [1], [], id="no stage is left"),
        pytest.param("BADCMD\nRUN x\nRUN y", [1, 2], [], id="no FROM"),
        pytest.param("ARG a", [1], [], id="only an ARG"),
        pytest.param("FROM a\nRUN x \\\n\n --\nCOPY \\\n  x\nUSER z", [5], [["FROM", "RUN", "USER"]], id="lines that go on"),
        pytest.param("FROM a\nCOPY <<E\nb\nE\nUSER y", [2], [["FROM", "USER"]], id="a heredoc"),
    ],
)  # fmt: skip
def test_the_mistakes_of_a_recipe(text: str, lines: list[int], left: list[list[str]]) -> None:
    assert salvaged(text) == (lines, left)


def test_warnings_keep_their_places() -> None:
    left = salvage("FROM a AS B\nBADCMD\nMAINTAINER c", "Buildfile")
    assert left.buildfile is not None
    assert [(w.span.line, w.rule) for w in left.buildfile.warnings] == [(1, "StageNameCasing"), (3, "MaintainerDeprecated")]


def test_the_number_of_mistakes_is_limited() -> None:
    lines, _ = salvaged("FROM a\n" + "ENV x\n" * 1000)
    assert lines == list(range(2, MAX_MISTAKES + 2))


def test_lines_that_the_grammar_cannot_read_end_the_search_after_some_rounds() -> None:
    assert 1 < len(salvaged("FROM a\n" + "?a=b --c=d CMD x\n" * 1000)[0]) < MAX_MISTAKES


@pytest.mark.parametrize("text", ["FROM a\0", "# escape=x\nFROM a", "FROM a\nRUN <<E\nx", "RUN \x80"])
def test_a_text_that_cannot_be_split_into_lines_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        salvage(text.encode("latin-1"), "Buildfile")
