"""Physical lines become logical ones: directives, comments, continuations, heredocs, and the map back to the file."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pybuild.parser import ParseError, lines, parse

PROPERTY = settings(max_examples=300)


def logical(text: str) -> list[str]:
    return [line.text for line in lines.split(lines.decode(text)).lines]


def refusal(text: str | bytes) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        pytest.param("# escape=`\nFROM a", "`", id="E1-a directive on the first line counts"),
        pytest.param("#escape=`\nFROM a", "`", id="E1-blanks around it do not matter"),
        pytest.param("  #  ESCAPE  =  `  \nFROM a", "`", id="E1-its name has no case"),
        pytest.param("# syntax=x/y:1\n# escape=`\nFROM a", "`", id="E1-others can stand before it"),
        pytest.param("\ufeff# escape=`\nFROM a", "`", id="E1-a byte-order mark can too"),
        pytest.param("# escape=`\r\nFROM a", "`", id="E1-the line can end as on Windows"),
        pytest.param("\n# escape=`\nFROM a", "\\", id="E1-a blank line ends the zone"),
        pytest.param("# hello\n# escape=`\nFROM a", "\\", id="E1-a comment ends the zone"),
        pytest.param("# foo=bar\n# escape=`\nFROM a", "\\", id="E1-an unknown directive ends the zone"),
        pytest.param("FROM a\n# escape=`", "\\", id="E1-an instruction ends the zone"),
        pytest.param("#!/bin/x\n# escape=`\nFROM a", "\\", id="E1-a shebang ends the zone"),
    ],
)
def test_the_escape_directive_counts_only_in_the_zone_at_the_top(text: str, escape: str) -> None:
    assert parse(text).escape == escape


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        pytest.param("# escape=`\n# escape=`\nFROM a", "only one escape parser directive", 2, id="E1-escape twice"),
        pytest.param("# syntax=a\n# Syntax=b\nFROM a", "only one syntax parser directive", 2, id="E1-syntax twice"),
        pytest.param("# check=skip=A\n# check=skip=A\nFROM a", "only one check", 2, id="E1-check twice"),
        pytest.param("# escape=x\nFROM a", "invalid escape character 'x'", 1, id="E1-an invalid escape character"),
        pytest.param("# check=skp=A\nFROM a", "invalid check option 'skp=A'", 1, id="an unknown check option"),
        pytest.param("# check=error=maybe\nFROM a", "expected true or false", 1, id="a check option with an invalid value"),
        pytest.param("# check=error=1;error=1\nFROM a", "duplicate check option error", 1, id="a check option twice"),
    ],
)
def test_an_invalid_directive_is_an_error_at_its_line(text: str, message: str, line: int) -> None:
    error = refusal(text)
    assert message in error.message
    assert error.span.line == line


def test_the_directives_are_values_of_the_recipe() -> None:
    recipe = parse("# syntax=docker/dockerfile:1 --flag\n# check=skip=A, B;error=true;experimental=all\nFROM a\n")
    assert recipe.syntax is not None
    assert recipe.syntax.text == "docker/dockerfile:1 --flag"
    assert recipe.checks is not None
    assert recipe.checks.skip == ("A", "B")
    assert recipe.checks.experimental == ("*",)
    assert recipe.checks.error


def test_a_check_comment_directly_above_an_instruction_applies_to_it() -> None:
    recipe = parse("FROM a\n# check=skip=A\nRUN x\n# check=skip=B\n\nRUN y\n# check=nonsense\nRUN z\n")
    assert [(line, checks.skip) for line, checks in recipe.line_checks] == [(3, ("A",))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("RUN a \\\n  b", ["RUN a   b"], id="E2-a backslash at the end continues"),
        pytest.param("RUN a\\  \t\nb", ["RUN ab"], id="E2-blanks behind it do not matter"),
        pytest.param("RUN a\\\\\nRUN b", ["RUN a\\\\", "RUN b"], id="E2-a doubled one does not continue"),
        pytest.param("RUN a \\", ["RUN a"], id="E2-the file can end in a continuation"),
        pytest.param("RUN a \\\n", ["RUN a"], id="E2-with a newline behind it"),
        pytest.param("RUN a \\\r\nb\r\nRUN c\r\n", ["RUN a b", "RUN c"], id="E2-lines can end as on Windows"),
        pytest.param("# escape=`\nRUN a `\nb\\\nRUN c", ["RUN a b\\", "RUN c"], id="E2-the escape character decides"),
        pytest.param("RUN a \\\n# no\n  # no\n b", ["RUN a  b"], id="E3-comments between its lines disappear"),
        pytest.param("RUN a && \\\n# no \\\nb", ["RUN a && b"], id="E3-a continued comment is a comment"),
        pytest.param("RUN a \\\n\n  \t\nb", ["RUN a b"], id="blank lines between its lines disappear"),
        pytest.param("\\\nRUN a", ["RUN a"], id="a line can begin with a continuation"),
        pytest.param("   RUN a", ["RUN a"], id="blanks in front of an instruction do not matter"),
        pytest.param("  # x\n\n\t\nRUN a # b", ["RUN a # b"], id="a comment takes a line of its own"),
        pytest.param("RUN a\n\\\n\\\n", ["RUN a"], id="continuations of nothing are nothing"),
    ],
)
def test_physical_lines_become_logical_ones(text: str, expected: list[str]) -> None:
    assert logical(text) == expected


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        pytest.param("RUN <<A\n# b\nA\n", ["# b\n"], id="E3-a comment in a heredoc is text"),
        pytest.param("RUN <<A\nb \\\nA\n", ["b \\\n"], id="a heredoc has no continuations"),
        pytest.param("RUN <<A\n\n\nA\n", ["\n\n"], id="blank lines in a heredoc are text"),
        pytest.param("RUN <<A\nA\n", [""], id="an empty heredoc"),
        pytest.param("RUN <<A <<B\na\nA\nb\nB\n", ["a\n", "b\n"], id="several heredocs in their order"),
        pytest.param("RUN <<A <<A\na\nA\nb\nA\n", ["a\n", "b\n"], id="several heredocs of one name"),
        pytest.param("RUN <<A\n<<B\nA\n", ["<<B\n"], id="a heredoc in a heredoc is text"),
        pytest.param("RUN <<A\n A\nA \n\tA\nA\n", [" A\nA \n\tA\n"], id="only the bare delimiter ends it"),
        pytest.param("RUN <<-A\n\tb\n\t\tA\n", ["\tb\n"], id="with a dash tabs can stand before the delimiter"),
        pytest.param("RUN a \\\n <<A\nb\nA\n", ["b\n"], id="a heredoc of a continued line begins behind it"),
        pytest.param("RUN <<A\r\nb\r\nA\r\n", ["b\r\n"], id="the ends of its lines stay"),
        pytest.param("COPY <<A /x\nb\nA", ["b\n"], id="COPY takes heredocs, and the file can end with one"),
        pytest.param("ADD <<A /x\nb\nA", ["b\n"], id="ADD takes heredocs"),
        pytest.param("onbuild run <<A\nb\nA", ["b\n"], id="a trigger takes heredocs"),
        pytest.param("RUN 3<<A\nb\nA", ["b\n"], id="a file descriptor can stand in front"),
        pytest.param("RUN --mount=type=tmpfs,target=/x <<A\nb\nA", ["b\n"], id="flags can stand in front"),
        pytest.param('RUN <<"A B"\nb\nA B', ["b\n"], id="a quoted delimiter can hold blanks"),
        pytest.param("RUN <<'A'\nb\nA", ["b\n"], id="quotes are not part of the delimiter"),
        pytest.param("RUN <<\\A\nb\nA", ["b\n"], id="a backslash is not part of the delimiter"),
        pytest.param("RUN <<$A\nb\n$A", ["b\n"], id="a variable is part of the delimiter"),
        pytest.param("# escape=`\nRUN <<`A\nb\n`A", ["b\n"], id="the backtick never escapes a delimiter"),
    ],
)
def test_the_bodies_of_heredocs(text: str, bodies: list[str]) -> None:
    (line,) = lines.split(lines.decode(text)).lines
    assert [heredoc.body for heredoc in line.heredocs] == bodies


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("RUN a <<<A", id="a here-string"),
        pytest.param("RUN a << A", id="a blank behind the arrows"),
        pytest.param("RUN a<<A", id="arrows in a word"),
        pytest.param('RUN echo "<<A"', id="arrows in quotes"),
        pytest.param("RUN echo \\<<A", id="arrows that are escaped"),
        pytest.param("RUN echo it's <<A", id="arrows on a line with a quote that is not closed"),
        pytest.param('RUN ["cat", "<<A"]', id="arrows in a JSON list"),
        pytest.param('RUN --network=none ["cat", "<<A"]', id="arrows in a JSON list behind a flag"),
        pytest.param('COPY ["<<A", "/x"]', id="arrows in the JSON list of a COPY"),
        pytest.param("CMD cat <<A", id="arrows in an instruction without heredocs"),
        pytest.param("ENV A=<<A", id="arrows in a value"),
        pytest.param("ONBUILD ENV A <<A", id="arrows in a trigger without heredocs"),
        pytest.param("RUN <<", id="arrows alone"),
        pytest.param('RUN <<""', id="an empty delimiter"),
    ],
)
def test_lines_that_open_no_heredoc(text: str) -> None:
    assert logical(f"{text}\nRUN b\nA") == [text, "RUN b", "A"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="E6-an empty file"),
        pytest.param("\n\n# x\n", id="E6-comments only"),
        pytest.param("# escape=`\n", id="E6-directives only"),
        pytest.param("\\\n", id="E6-a continuation of nothing"),
    ],
)
def test_a_file_without_instructions_is_refused(text: str) -> None:
    assert "no instructions" in refusal(text).message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("FROM a\nRUN <<A\nb\n", 2, id="E6-without an end"),
        pytest.param("FROM a\nRUN <<A\nb\nA x\n", 2, id="E6-with something behind the delimiter"),
        pytest.param("FROM a\n\nRUN x \\\n <<A\nb\n", 3, id="E6-of a continued line"),
        pytest.param("FROM a\nRUN <<A <<B\nA\nb\n", 2, id="E6-the second of a line"),
        pytest.param("FROM a\nRUN cat <<A>x\nb\nA\n", 2, id="E6-with a redirection glued to its delimiter"),
    ],
)
def test_an_unterminated_heredoc_is_an_error_at_its_first_line(text: str, line: int) -> None:
    error = refusal(text)
    assert error.message.startswith("unterminated heredoc")
    assert error.span.line == line


WORDS = st.text(st.sampled_from("abc $\"'=-["), min_size=1, max_size=12)


@PROPERTY
@given(
    st.lists(
        st.one_of(
            st.just(("comment", "# x")),
            st.just(("blank", "")),
            st.tuples(st.just("line"), WORDS),
            st.tuples(st.just("continued"), WORDS),
        ),
        max_size=12,
    )
)
@example([("continued", "a"), ("comment", "# x"), ("line", "b")])
def test_each_offset_maps_back_to_its_character(parts: list[tuple[str, str]]) -> None:
    physical = ["FROM x"]
    for kind, text in parts:
        physical.append(f"RUN {text}\\" if kind == "continued" else f"RUN {text}" if kind == "line" else text)
    read = lines.split("\n".join(physical))
    for line, offset in zip(read.lines, read.offsets, strict=True):
        for inside, character in enumerate(line.text):
            row, column = read.position(offset + inside)
            assert physical[row - 1][column - 1] == character
