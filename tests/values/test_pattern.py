"""`pattern` is `re.compile` at the first use."""

from __future__ import annotations

import re

import pytest

from pybuild.values.pattern import pattern


def test_nothing_is_compiled_before_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    real = re.compile

    def counted(*arguments: object) -> object:
        compiled.append(arguments)
        return real(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(re, "compile", counted)
    word = pattern("[a-z]+", re.IGNORECASE)
    assert compiled == []
    assert [word.fullmatch(text) is not None for text in ("abc", "ABC", "1")] == [True, True, False]
    assert compiled == [("[a-z]+", re.IGNORECASE)]


def test_it_has_what_a_compiled_expression_has() -> None:
    text, data = pattern("(?P<a>b)(c)"), pattern(rb"\d")
    real = re.compile("(?P<a>b)(c)")
    assert (text.pattern, text.flags, text.groups, text.groupindex) == (real.pattern, real.flags, 2, real.groupindex)
    assert text.findall("bcbc") == real.findall("bcbc")
    assert text.sub("x", "abcd") == "axd"
    assert text.split("abcd") == real.split("abcd")
    assert text.subn("x", "bcbc") == ("xx", 2)
    assert [match.span() for match in text.finditer("bc bc")] == [(0, 2), (3, 5)]
    assert text.match("xbc") is None
    assert text.search("xbc") is not None
    assert data.sub(b"", b"a1b2") == b"ab"


def test_a_mistake_shows_at_the_first_use() -> None:
    wrong = pattern("(")
    for _ in range(2):
        with pytest.raises(re.error):
            wrong.match("")


def test_other_attributes_do_not_exist() -> None:
    with pytest.raises(AttributeError):
        _ = pattern("a").compiled  # type: ignore[attr-defined]
