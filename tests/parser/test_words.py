"""Quotes, escapes and variables: tables of examples, and properties of all words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.parser import ExpansionError, expand, expand_heredoc, expand_words
from pybuild.parser.words import MAX_DEPTH
from pybuild.values.limits import WORD_CHARACTERS

PROPERTY = settings(max_examples=300)
SCOPE = {"A": "one", "B": "two words", "E": "", "P": "/usr/local/lib/x.so.1", "D": "$A", "한": "k", "S": "a*b"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("plain", "plain", id="E11-text is itself"),
        pytest.param("'a b'", "a b", id="E11-single quotes vanish"),
        pytest.param("'$A'", "$A", id="E11-no variable in single quotes"),
        pytest.param("'\\'", "\\", id="E11-no escape in single quotes"),
        pytest.param("'\"'", '"', id="E11-double quotes in single ones are text"),
        pytest.param('"a b"', "a b", id="E11-double quotes vanish"),
        pytest.param('"$A"', "one", id="E11-variables in double quotes"),
        pytest.param('"\'"', "'", id="E11-single quotes in double ones are text"),
        pytest.param('"\\""', '"', id="E11-an escaped quote in double quotes"),
        pytest.param('"\\$A"', "$A", id="E11-an escaped dollar in double quotes"),
        pytest.param('"\\\\"', "\\", id="E11-an escaped backslash in double quotes"),
        pytest.param('"\\n\\a"', "\\n\\a", id="E11-any other backslash in double quotes stays"),
        pytest.param("\\n", "n", id="E11-outside a backslash vanishes"),
        pytest.param("\\$A", "$A", id="E11-outside an escaped dollar is text"),
        pytest.param("\\'", "'", id="E11-outside an escaped quote is text"),
        pytest.param("a\\ b", "a b", id="E11-outside an escaped blank is text"),
        pytest.param("a\\", "a", id="E11-a last backslash vanishes"),
        pytest.param("a'b'\"c\"d", "abcd", id="E11-pieces join"),
        pytest.param("''", "", id="E11-empty quotes are nothing"),
        pytest.param("$.", "$.", id="E12-a dollar before no name stays"),
        pytest.param("$", "$", id="E12-a lone dollar stays"),
        pytest.param("a$", "a$", id="E12-a last dollar stays"),
        pytest.param("$1x", "x", id="E12-a digit is a name that is never set"),
        pytest.param("$12", "", id="E12-several digits are a name that is never set"),
        pytest.param("$@$*$#$?$-$!$0", "", id="E12-the shell's own variables are never set"),
        pytest.param("$$A", "A", id="E12-two dollars are the shell's own variable"),
        pytest.param("$A.$A", "one.one", id="a name ends at other characters"),
        pytest.param("$A_", "", id="an underscore is part of a name"),
        pytest.param("${A}_", "one_", id="braces end a name"),
        pytest.param("$한", "k", id="letters of all scripts are part of a name"),
        pytest.param("$X", "", id="an unset variable is empty"),
        pytest.param("$D", "$A", id="a value is not expanded again"),
        pytest.param("${X:-d}${E:-d}${A:-d}", "ddone", id="E13-:- stands in for unset and empty"),
        pytest.param("${X-d}${E-d}${A-d}", "done", id="E13-- stands in for unset"),
        pytest.param("${X:+d}${E:+d}${A:+d}", "d", id="E13-:+ is for what is not empty"),
        pytest.param("${X+d}${E+d}${A+d}", "dd", id="E13-+ is for what is set"),
        pytest.param("${A?no}${E?no}${A:?no}", "oneone", id="E13-? accepts empty"),
        pytest.param("${X:-${Y:-$A}}", "one", id="E13-modifiers nest"),
        pytest.param("${X:-'a b' \"$A\" \\}}", "a b one }", id="E13-the words of modifiers have quotes and escapes"),
        pytest.param("${X:-}", "", id="E13-the words of modifiers can be empty"),
        pytest.param("${P#*/}", "usr/local/lib/x.so.1", id="E14-# takes the shortest prefix"),
        pytest.param("${P##*/}", "x.so.1", id="E14-## takes the longest prefix"),
        pytest.param("${P%.*}", "/usr/local/lib/x.so", id="E14-% takes the shortest suffix"),
        pytest.param("${P%%.*}", "/usr/local/lib/x", id="E14-%% takes the longest suffix"),
        pytest.param("${A#?}${A%?}", "neon", id="E14-a question mark is one character"),
        pytest.param("${A#x}${A%x}", "oneone", id="E14-a pattern that does not match changes nothing"),
        pytest.param("${A#}${A##}${A%}${A%%}", "oneoneoneone", id="E14-an empty pattern changes nothing"),
        pytest.param("${S#a\\*}${S%\\*b}", "ba", id="E14-an escaped star is a star"),
        pytest.param("${A#[o]}", "one", id="E14-a bracket is text"),
        pytest.param("${A#$A}", "", id="E14-a pattern can come out of a variable"),
        pytest.param("${B#'two '}", "words", id="E14-a pattern can have quotes"),
        pytest.param("${P/l/L}", "/usr/Local/lib/x.so.1", id="E14-/ replaces the first"),
        pytest.param("${P//l/L}", "/usr/LocaL/Lib/x.so.1", id="E14-// replaces every one"),
        pytest.param("${P//\\//-}", "-usr-local-lib-x.so.1", id="E14-a slash in a pattern is escaped"),
        pytest.param("${A/n/\\/}", "o\\/e", id="E14-a backslash in the replacement stays"),
        pytest.param("${A/n/$B}", "otwo wordse", id="E14-a replacement can hold variables"),
        pytest.param("${A/n/}", "oe", id="E14-a replacement can be empty"),
        pytest.param("${A/x/y}", "one", id="E14-nothing to replace"),
        pytest.param("${S//*/x}", "x", id="E14-a star matches everything"),
        pytest.param("${A///-}", "-o-n-e-", id="E14-an empty pattern matches everywhere"),
        pytest.param("${X/a/b}${X#a}${X%a}", "", id="E14-an unset variable stays empty"),
    ],
)
def test_a_word_expands(word: str, expected: str) -> None:
    assert expand(word, SCOPE) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param("it's", "single quote", id="E11-a lone single quote"),
        pytest.param('"a', "double quote", id="E11-a lone double quote"),
        pytest.param('"a\\', "double quote", id="E11-a double quote with only a backslash behind it"),
        pytest.param("${}", "without a name", id="E12-braces without a name"),
        pytest.param("${:x}", "without a name", id="E12-a modifier without a name"),
        pytest.param("${{A}}", "without a name", id="E12-braces in braces"),
        pytest.param("${A:y}", "unsupported modifier (:y)", id="E12-an unknown modifier"),
        pytest.param("${A=y}", "unsupported modifier (=)", id="E12-an assignment"),
        pytest.param("${A.}", "unsupported modifier (.)", id="E12-an invalid name"),
        pytest.param("${A", "not closed", id="E12-an open brace"),
        pytest.param("${A:", "not closed", id="E12-an open brace behind a colon"),
        pytest.param("${", "not closed", id="E12-an open brace alone"),
        pytest.param("${X:-y", "'}'", id="E12-an open brace behind a word"),
        pytest.param("${X?}", "X: is not allowed to be unset", id="E13-? without a message"),
        pytest.param("${X?gone}", "X: gone", id="E13-? with a message"),
        pytest.param("${E:?gone $A}", "E: gone one", id="E13-:? with a message that is expanded"),
        pytest.param("${A:#o}", "unsupported modifier (:#)", id="E14-a colon before a pattern"),
        pytest.param("${A:/o/x}", "unsupported modifier (:/)", id="E14-a colon before a replacement"),
        pytest.param("${A/o}", "'/'", id="E14-a replacement that is missing"),
        pytest.param("${A#\\x}", "invalid escape \\x", id="E14-an escape that escapes nothing"),
        pytest.param("${A#'\\'}", "invalid escape", id="E14-a backslash at the end of a pattern"),
    ],
)
def test_an_invalid_word_is_an_error(word: str, message: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(word, SCOPE)
    assert message in caught.value.message
    assert 0 <= caught.value.offset <= len(word)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("C:\\dir\\$A", "C:\\dir\\one", id="a backslash is text"),
        pytest.param("`$A", "$A", id="the backtick escapes"),
        pytest.param('"`"`$`n\\"', '"$`n\\', id="the backtick escapes in double quotes"),
        pytest.param("${A#`*}", "one", id="the backtick escapes in patterns"),
    ],
)
def test_the_escape_character_can_be_the_backtick(word: str, expected: str) -> None:
    assert expand(word, SCOPE, escape="`") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("80 443", ["80", "443"], id="E15-blanks split"),
        pytest.param("$B", ["two", "words"], id="E15-blanks from a variable split"),
        pytest.param('"$B"', ["two words"], id="E15-not in quotes"),
        pytest.param("a$B", ["atwo", "words"], id="E15-the first part joins what is before it"),
        pytest.param("$E", [], id="E15-nothing is no word"),
        pytest.param("a\\ b", ["a b"], id="E15-an escaped blank is text"),
    ],
)
def test_a_text_is_split_into_words_after_expansion(text: str, expected: list[str]) -> None:
    assert expand_words(text, SCOPE) == expected


def test_expand_never_splits_a_word() -> None:
    assert expand("$B", SCOPE) == "two words"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("$A ${X:-d}\n", "one d\n", id="E16-variables expand"),
        pytest.param("'$A' \"$A\" it's\n", "'one' \"one\" it's\n", id="E16-quotes are text"),
        pytest.param("\\$A\n", "$A\n", id="E16-a backslash escapes a dollar"),
        pytest.param("a\\\\b\n", "a\\b\n", id="E16-a backslash escapes itself"),
        pytest.param("a\\\nb\n", "a\nb\n", id="E16-a backslash escapes the end of a line"),
        pytest.param("\\n\n", "n\n", id="E16-a backslash escapes everything else"),
        pytest.param("`$A\n", "`one\n", id="E16-the backtick never does"),
    ],
)
def test_the_body_of_a_heredoc_expands(body: str, expected: str) -> None:
    assert expand_heredoc(body, SCOPE) == expected


def test_repeated_doubling_ends_at_the_limit() -> None:
    scope = {"A": "x" * 10}
    with pytest.raises(ExpansionError, match=f"limit of {WORD_CHARACTERS.default} characters"):
        for _ in range(21):
            scope["A"] = expand("$A$A", scope)
    assert len(scope["A"]) > WORD_CHARACTERS.default // 4


def test_a_replacement_ends_at_the_limit() -> None:
    with pytest.raises(ExpansionError, match=f"limit of {WORD_CHARACTERS.default} characters"):
        expand("${A//a/$B}", {"A": "a" * 2000, "B": "b" * 2000})


def test_quotes_do_not_delay_the_limit() -> None:
    """The text would have 10 GB."""
    with pytest.raises(ExpansionError, match="a word expands to more than the limit of"):
        expand('"' + "$a" * 100_000 + '"', {"a": "x" * 100_000})


def test_a_pattern_that_is_longer_than_the_value_costs_nothing() -> None:
    for modifier in ("#", "##", "%", "%%", "/", "//"):
        word = "${a" + modifier + "*x" * 100_000 + ("/y}" if "/" in modifier else "}")
        assert expand(word, {"a": "x" * 600}) == "x" * 600


def test_a_large_pattern_and_a_large_value_are_refused() -> None:
    with pytest.raises(ExpansionError, match="too long"):
        expand("${A//$B/}", {"A": "a" * (1 << 20), "B": "?" * (1 << 10)})


@pytest.mark.parametrize("modifier", [":-", "-", "#", "/"])
def test_the_nesting_of_variables_is_limited(modifier: str) -> None:
    inside = expand(f"${{X{modifier}" * MAX_DEPTH + "a" + "/}" * MAX_DEPTH, {})
    assert set(inside) <= {"a", "/"}
    with pytest.raises(ExpansionError, match=f"nested deeper than the limit of {MAX_DEPTH}"):
        expand(f"${{X{modifier}" * 100_000, {})


@PROPERTY
@given(st.text(max_size=40))
def test_a_word_in_single_quotes_is_literal(text: str) -> None:
    word = "'" + text.replace("'", "'\\''") + "'"
    assert expand(word, SCOPE) == text


@PROPERTY
@given(st.text(max_size=40))
def test_a_text_with_all_characters_escaped_is_literal(text: str) -> None:
    assert expand("".join(f"\\{character}" for character in text), SCOPE) == text


@PROPERTY
@given(st.text(st.sampled_from("${}:-+?#%/*\\'\"AXE ab"), max_size=30), st.sampled_from("\\`"))
def test_any_text_expands_or_is_an_error_with_an_offset(text: str, escape: str) -> None:
    try:
        expand(text, SCOPE, escape=escape)
    except ExpansionError as error:
        assert 0 <= error.offset <= len(text)


@PROPERTY
@given(st.lists(st.text(st.sampled_from("abc"), max_size=3), max_size=3), st.text(st.sampled_from("abc "), max_size=8))
def test_splitting_keeps_quoted_words_whole(quoted: list[str], text: str) -> None:
    joined = text + "".join(f" '{word}'" for word in quoted)
    assert expand_words(joined, {}) == text.split() + quoted
