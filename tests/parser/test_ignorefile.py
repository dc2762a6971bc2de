"""Ignore files: the syntax of a line, and the decision of all lines compared with a simple reference."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pybuild.parser import IgnoreFile, PatternError

PROPERTY = settings(max_examples=500)


def excluded(text: str, *paths: str) -> list[str]:
    ignore = IgnoreFile.parse(text)
    return [path for path in paths if ignore.excludes(path)]


@pytest.mark.parametrize(
    ("text", "out", "stays"),
    [
        pytest.param("a", ["a", "a/b", "a/b/c"], ["b/a", "ab"], id="E54-a name matches in the root only"),
        pytest.param("/a", ["a", "a/b"], ["b/a"], id="E54-a slash in front means nothing"),
        pytest.param("a/", ["a", "a/b"], ["b/a"], id="E54-a slash at the end means nothing"),
        pytest.param("./a//b/../c", ["a/c", "a/c/d"], ["a/b"], id="E54-a path is cleaned"),
        pytest.param("  a  \r\n", ["a"], ["b"], id="E54-blanks around it are cut off"),
        pytest.param("#a\na#", ["a#"], ["#a", "a"], id="E54-a hash is a comment in the first column"),
        pytest.param(" #a", ["#a"], ["a"], id="E54-a hash in a later column is part of the pattern"),
        pytest.param("\ufeffa", ["a"], ["b"], id="E54-a byte-order mark is not part of it"),
        pytest.param("*.log", ["x.log", "x.log/y"], ["a/x.log", "log"], id="E54-a star does not leave its directory"),
        pytest.param("**/*.log", ["x.log", "a/b/x.log"], ["log"], id="E54-two stars match in every directory"),
        pytest.param("**", ["a", "a/b", ".x"], [], id="E54-two stars alone are everything"),
        pytest.param("a/**", ["a/b", "a/b/c"], ["a", "b"], id="E54-two stars at the end are the contents"),
        pytest.param("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "z", "a/b"], id="E54-two stars between"),
        pytest.param("**z", ["z", "xz", "a/xz"], ["za"], id="E54-two stars before a name match its end"),
        pytest.param("**z*", ["z", "z1", "a/z1"], ["xz1"], id="E54-two stars before a name with a special character"),
        pytest.param("a**", ["a", "ab", "ab/c"], ["ba"], id="E54-two stars behind a name match its beginning"),
        pytest.param("a**z", ["az", "a/z", "ab/c/z"], ["abz", "a/bz"], id="E54-two stars in a name"),
        pytest.param("a**/z", ["az", "a/z", "ab/c/z"], ["abz"], id="E54-two stars in a name and a slash"),
        pytest.param("a?c", ["abc"], ["ac", "a/c"], id="E54-a question mark is one character"),
        pytest.param("[a-c]x", ["ax", "cx"], ["dx"], id="E54-a class"),
        pytest.param("\\*", ["*"], ["a"], id="E54-a backslash escapes"),
        pytest.param("a b", ["a b"], ["a", "b"], id="E54-a blank is part of a name"),
        pytest.param(".", [], ["a"], id="E54-the root cannot be excluded"),
        pytest.param("/", [], ["a"], id="E54-the root as a slash cannot be excluded"),
        pytest.param("../a", [], ["a"], id="E54-nothing is above the root"),
        pytest.param("a\n!a", [], ["a", "a/b"], id="E55-the last line that matches wins"),
        pytest.param("!a\na", ["a"], [], id="E55-the last line that matches wins, even over an earlier exception"),
        pytest.param("a\n!a/keep", ["a", "a/b"], ["a/keep", "a/keep/x"], id="E55-a path in a directory is included again"),
        pytest.param("a\n!a/keep\na/keep/x", ["a/keep/x"], ["a/keep"], id="E55-an included path is excluded again"),
        pytest.param("*\n!*.md\nREADME*", ["x", "README.md"], ["a.md"], id="E55-exceptions have exceptions"),
        pytest.param("**\n! a", ["b"], ["a", "a/c"], id="E55-blanks behind the mark are cut off"),
        pytest.param("a/*\n!a/b", ["a/c"], ["a", "a/b", "a/b/d"], id="E55-a directory whose contents are excluded"),
    ],
)
def test_excluded_and_included_paths(text: str, out: list[str], stays: list[str]) -> None:
    assert excluded(text, *out, *stays) == out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a\n!\n", "line 2: a lone ! without a pattern", id="E54-a lone mark"),
        pytest.param("!  ", "line 1: a lone ! without a pattern", id="E54-a lone mark with blanks"),
        pytest.param("a\n\n[a", "line 3: malformed character class", id="an open class"),
        pytest.param("[]", "line 1: malformed character class", id="an empty class"),
        pytest.param("a**b[", "line 1: malformed character class", id="an open class behind two stars"),
        pytest.param("a\\", "line 1: ", id="a lone backslash"),
        pytest.param("a**b\\", "line 1: ", id="a lone backslash behind two stars"),
    ],
)
def test_an_invalid_line_is_an_error_with_its_number(text: str, message: str) -> None:
    with pytest.raises(PatternError, match="ignore file, ") as caught:
        IgnoreFile.parse(text)
    assert message in str(caught.value)


def test_explain_returns_the_line_that_decides() -> None:
    ignore = IgnoreFile.parse("# all\n*\n\n  !*.md\n")
    assert ignore.explain("x") == (2, "*")
    assert ignore.explain("x.md") == (4, "!*.md")
    assert IgnoreFile.parse("a").explain("b") is None


# The reference tries every way to consume pattern and path together.


@cache
def match_names(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        least = 0 if rest else 1
        return any(match_names(tuple(rest), path[count:]) for count in range(least, len(path) + 1))
    return bool(path) and match_characters(first, path[0]) and match_names(tuple(rest), path[1:])


@cache
def match_characters(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(match_characters(pattern[1:], name[count:]) for count in range(len(name) + 1))
    return bool(name) and pattern[0] in (name[0], "?") and match_characters(pattern[1:], name[1:])


def reference(lines: list[str], path: str) -> bool:
    names = tuple(path.split("/"))
    out = False
    for line in lines:
        pattern = tuple(line.removeprefix("!").split("/"))
        if any(match_names(pattern, names[:count]) for count in range(1, len(names) + 1)):
            out = not line.startswith("!")
    return out


NAME = st.sampled_from(["a", "b", "ab", "a.b", "bb"])
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)
PART = st.sampled_from(["**", "*", "a*", "*b", "?", "a", "b", "a?b", "*.*", "ab"])
LINE = st.builds(
    lambda mark, parts: mark + "/".join(parts), st.sampled_from(["", "!"]), st.lists(PART, min_size=1, max_size=4)
)


@PROPERTY
@given(st.lists(LINE, max_size=5), PATH)
@example(["**/**/a/**"], "a/b")
@example(["a/**", "!a/**/b"], "a/a/b")
def test_all_lines_agree_with_the_reference(lines: list[str], path: str) -> None:
    assert IgnoreFile.parse("\n".join(lines)).excludes(path) == reference(lines, path)


@PROPERTY
@given(st.lists(LINE, max_size=5), st.lists(PATH, min_size=2, max_size=6))
def test_paths_can_be_asked_about_in_any_order(lines: list[str], paths: list[str]) -> None:
    ignore = IgnoreFile.parse("\n".join(lines))
    assert [ignore.excludes(path) for path in paths] == [reference(lines, path) for path in paths]


@PROPERTY
@given(st.lists(LINE, min_size=1, max_size=5), PATH, PATH)
def test_may_contain_included_knows_about_each_included_path(lines: list[str], directory: str, below: str) -> None:
    ignore = IgnoreFile.parse("\n".join(lines))
    path = f"{directory}/{below}"
    decides = ignore.explain(path)
    if ignore.excludes(directory) and decides is not None and decides.text.startswith("!"):
        assert ignore.may_contain_included(directory)


def match_deep(pattern: str, path: str) -> bool:
    """Like `match_characters`; `**`, and a slash behind it, matches nothing or text that ends in a slash."""
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return True
        return match_deep(rest, path) or any(
            match_deep(rest, path[place + 1 :]) for place, character in enumerate(path) if character == "/"
        )
    if pattern[0] == "*":
        first = path.split("/")[0]
        return any(match_deep(pattern[1:], path[count:]) for count in range(len(first) + 1))
    if not path or (pattern[0] == "?" and path[0] == "/"):
        return False
    return pattern[0] in (path[0], "?") and match_deep(pattern[1:], path[1:])


@PROPERTY
@given(st.lists(st.sampled_from(["a", "b", "**", "*", "?", "/b"]), max_size=5), PATH)
def test_two_stars_in_a_name_agree_with_the_reference(parts: list[str], path: str) -> None:
    pattern = f"a**b{''.join(parts)}".replace("***", "**").replace("***", "**")
    names = path.split("/")
    expected = any(match_deep(pattern, "/".join(names[:count])) for count in range(1, len(names) + 1))
    assert IgnoreFile.parse(pattern).excludes(path) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("/".join(["**", "a*"] * 12) + "/z", id="many deep stars"),
        pytest.param("*a" * 40 + "z", id="many stars"),
        pytest.param("a**" * 12 + "z", id="many deep stars in a name"),
    ],
)
def test_no_pattern_makes_matching_slow(pattern: str) -> None:
    ignore = IgnoreFile.parse(pattern)
    assert not ignore.excludes("/".join(["a" * 60] * 60))
    assert not ignore.excludes("a" * 4000)
