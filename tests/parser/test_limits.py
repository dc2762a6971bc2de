"""The limits of a recipe, and that a large recipe is read in linear time."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.parser import ExecForm, ParseError, Run, ShellForm, parse
from pybuild.values.limits import INSTRUCTIONS, LINE_CHARACTERS, RECIPE_BYTES, STAGES, WORDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def error_of(text: str | bytes) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse(text)
    return caught.value


def command(text: str | bytes) -> ShellForm | ExecForm:
    run = parse(text).stages[0].instructions[0]
    assert isinstance(run, Run)
    return run.command


def test_the_size_of_a_recipe_is_limited() -> None:
    head = b"FROM a\n"
    assert len(parse(head + b"#" * (RECIPE_BYTES.default - len(head))).stages) == 1
    assert "limit of 4 MiB" in error_of(head + b"#" * (RECIPE_BYTES.default - len(head) + 1)).message


def test_the_length_of_a_line_is_limited() -> None:
    assert isinstance(command("FROM a\nRUN " + "x" * (LINE_CHARACTERS.default - 4)), ShellForm)
    error = error_of("FROM a\n\nRUN " + "x" * (LINE_CHARACTERS.default - 3))
    assert f"limit of {LINE_CHARACTERS.default} characters" in error.message
    assert error.span.line == 3


def test_the_length_of_a_continued_line_is_limited() -> None:
    error = error_of("FROM a\nRUN x" + "\\\n " * 3 + ("y" * 1000 + "\\\n") * (LINE_CHARACTERS.default // 1000 + 1) + "z\n")
    assert f"limit of {LINE_CHARACTERS.default} characters" in error.message
    assert error.span.line == 2


def test_a_heredoc_can_be_longer_than_the_limit_of_a_line() -> None:
    body = "x" * (LINE_CHARACTERS.default + 1) + "\n"
    form = command(f"FROM a\nRUN <<E\n{body}E\n")
    assert isinstance(form, ShellForm)
    assert form.script == body


def test_the_number_of_instructions_is_limited() -> None:
    error = error_of("FROM a\n" + "USER b\n" * INSTRUCTIONS.default)
    assert f"limit of {INSTRUCTIONS.default} instructions" in error.message


def test_the_number_of_words_is_limited() -> None:
    line = "COPY " + "a " * (WORDS.default // 2) + "b\n"
    error = error_of(f"FROM a\n{line}{line}")
    assert f"limit of {WORDS.default} words" in error.message
    assert error.span.line == 3


def test_the_words_of_a_command_are_not_counted() -> None:
    line = "RUN " + "a " * (WORDS.default // 2) + "b\n"
    assert len(parse(f"FROM a\n{line}{line}").stages[0].instructions) == 2


def test_a_message_about_a_long_word_is_short() -> None:
    assert len(error_of("FROM a\n" + "X" * 100_000).message) == 400


def test_the_number_of_stages_is_limited() -> None:
    assert len(parse("FROM a\n" * STAGES.default).stages) == STAGES.default
    error = error_of("FROM a\n" * (STAGES.default + 1))
    assert f"limit of {STAGES.default} stages" in error.message
    assert error.span.line == STAGES.default + 1


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        pytest.param(b"FROM a\nRUN \0", 2, 5, id="in a line"),
        pytest.param(b"\0", 1, 1, id="alone"),
        pytest.param(b"FROM a\n# \0", 2, 3, id="in a comment"),
        pytest.param("FROM a\nRUN <<E\nä\0\nE\n".encode(), 3, 2, id="in a heredoc, behind two bytes"),
    ],
)
def test_a_nul_byte_is_an_error_at_its_place(data: bytes, line: int, column: int) -> None:
    error = error_of(data)
    assert error.message == "the recipe contains a NUL byte"
    assert (error.span.line, error.span.column) == (line, column)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        pytest.param(b"FROM a\nRUN \xff", 2, 5, id="in a line"),
        pytest.param(b"\xffFROM a", 1, 1, id="the first byte"),
        pytest.param(b"FROM a\nRUN x \\\n \xc3\xa4\xed\xa0\x80\n", 3, 3, id="in a continued line, behind two bytes"),
        pytest.param(b"# escape=\xff\nFROM a\n", 1, 10, id="in a directive"),
        pytest.param(b"FROM a\nRUN <<E\n\xff\nE\nRUN \xff", 5, 5, id="behind a heredoc, where such bytes are allowed"),
        pytest.param(b"FROM a\nLABEL a=\xff\nRUN a \\\n# \xff\n\xff", 5, 1, id="behind a label and a comment, where they are"),
    ],
)
def test_bytes_that_are_not_utf8_are_an_error_at_their_place(data: bytes, line: int, column: int) -> None:
    error = error_of(data)
    assert error.message == "invalid UTF-8"
    assert (error.span.line, error.span.column) == (line, column)


def test_bytes_of_comments_do_not_matter_and_those_of_the_config_are_replaced() -> None:
    recipe = parse(b"# \xff\nFROM a\n# \xc3\nRUN a \\\n # \xff\n b\nLABEL a=\xff \\\n b='\xfe\xff'\nCMD \xff")
    assert [item.text for item in recipe.stages[0].instructions] == ["RUN a  b", "LABEL a=\ufffd  b='\ufffd\ufffd'", "CMD \ufffd"]



def test_a_heredoc_can_contain_any_bytes() -> None:
    form = command(b"FROM a\nRUN <<E\n\xff\xc3\xa4\x80\r\nE\n")
    assert isinstance(form, ShellForm)
    assert form.script.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa4\x80\r\n"


@pytest.mark.parametrize("text", ["FROM a\nRUN \udcff", "FROM a\nRUN <<E\n\ud800\nE\n"], ids=["a line", "a heredoc"])
def test_surrogates_that_stand_for_no_byte_are_refused(text: str) -> None:
    assert error_of(text).message == "invalid UTF-8"


def test_a_hundred_thousand_continuations_are_one_line() -> None:
    form = command("FROM a\nRUN x" + "\\\n" * 100_000 + "y")
    assert form == ShellForm("xy")


def test_deeply_nested_brackets_are_text() -> None:
    text = "[" * 100_000
    assert command(f"FROM a\nRUN {text}") == ShellForm(text)
    assert isinstance(command(f"FROM a\nRUN {text}{']' * 100_000}"), ShellForm)


def test_a_list_can_be_long() -> None:
    argv = ["x"] * 100_000
    assert command(f"FROM a\nRUN {json.dumps(argv)}") == ExecForm(tuple(argv))


def test_triggers_do_not_nest() -> None:
    assert "ONBUILD isn't allowed" in error_of("FROM a\n" + "ONBUILD " * 10_000 + "RUN x").message


def test_ten_thousand_heredocs_of_one_line_are_read() -> None:
    count = 10_000
    text = "FROM a\nRUN cat " + " ".join(f"<<E{i}" for i in range(count)) + "\n"
    form = command(text + "".join(f"{i}\nE{i}\n" for i in range(count)))
    assert isinstance(form, ShellForm)
    assert [heredoc.body for heredoc in form.heredocs] == [f"{i}\n" for i in range(count)]


def test_ten_thousand_unterminated_heredocs_are_one_error() -> None:
    assert error_of("FROM a\n" + "RUN <<E\n" * 10_000).span.line == 2


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("RUN " + "--mount=type=tmpfs,target=/x " * 2000 + "y", id="flags"),
        pytest.param("ENV " + "A=b " * 50_000, id="pairs"),
        pytest.param("ENV A=" + "'" * 50_001, id="quotes"),
        pytest.param('ENV A="' + '\\"' * 50_000, id="escaped quotes without an end"),
        pytest.param('RUN ["' + '\\"' * 50_000, id="a list without an end"),
        pytest.param("COPY " + "a " * 50_000 + "/b/", id="sources"),
        pytest.param("RUN " + "<" * 100_000, id="arrows"),
        pytest.param("RUN cat " + "<<'" * 50_000, id="arrows and quotes"),
        pytest.param("COPY --from=" + '"' * 99_999 + " a b", id="a flag of quotes"),
    ],
)
def test_a_long_line_is_read_or_refused(line: str) -> None:
    try:
        recipe = parse(f"FROM a\n{line}\n")
    except ParseError as error:
        assert error.span.line == 2
    else:
        assert len(recipe.stages[0].instructions) == 1


def cost(text: str) -> int:
    """The number of Python lines that parsing executes: a measure of its time that is the same in each run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(ParseError):
            parse(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("head", "part", "tail"),
    [
        pytest.param("FROM a\n", "RUN x\n", "", id="instructions"),
        pytest.param("", "FROM a\n", "", id="stages"),
        pytest.param("FROM a\nRUN x", "\\\n # c\n y", "", id="continuations"),
        pytest.param("FROM a\nRUN x", "\\\n\n", "y", id="blank continuations"),
        pytest.param("FROM a\nENV ", "A=b ", "", id="pairs"),
        pytest.param('FROM a\nENV A="', '\\"', '"', id="escaped quotes"),
        pytest.param("FROM a\nCOPY ", "x ", "/", id="sources"),
        pytest.param("FROM a\nRUN ", "--device=a/b ", "x", id="flags"),
        pytest.param("FROM a\nCOPY ", "--exclude=a ", "x /", id="exclusions"),
        pytest.param("FROM a\nRUN --mount=target=/", "a,target=/", " x", id="mount options"),
        pytest.param("FROM a\nRUN cat ", "<<A ", "\n", id="unterminated heredocs of one line"),
        pytest.param("FROM a\n", "RUN <<A\nA\n", "", id="heredocs"),
        pytest.param("FROM a\nRUN <<A\n", "b\n", "A\n", id="lines of a heredoc"),
        pytest.param("FROM a\nCMD [", '"a",', '"b"]', id="a list"),
        pytest.param("FROM a\nCMD ", "[", "", id="brackets"),
        pytest.param("", "# c\n", "FROM a", id="comments"),
        pytest.param("FROM a\nEXPOSE ", "1-9 ", "", id="ports"),
        pytest.param("FROM a\nHEALTHCHECK --interval=", "1s", " CMD x", id="durations"),
        pytest.param("FROM a\n# \u202e", "\u202e\n#", "", id="warnings"),
        pytest.param("FROM a\nRUN ", "'", "", id="quotes"),
        pytest.param("FROM a\n", "ONBUILD RUN x\n", "", id="triggers"),
    ],
)
def test_the_time_to_parse_is_linear(head: str, part: str, tail: str) -> None:
    parse("FROM a")  # loads the grammar
    once, twice = (cost(head + part * count + tail) for count in (300, 600))
    assert twice < 2.3 * once
