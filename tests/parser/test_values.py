"""Modes, durations, ports, signals and file name patterns: which texts are valid, and their values."""

from __future__ import annotations

import re
from fnmatch import translate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.parser import (
    DurationError,
    ModeError,
    PatternError,
    PortError,
    apply_mode,
    has_wildcard,
    match_pattern,
    parse_duration,
    parse_mode,
    parse_ports,
    suggest,
    valid_signal,
)

PROPERTY = settings(max_examples=300)
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        pytest.param("644", 0o755, 0o644, id="E46-octal is the mode"),
        pytest.param("04755", 0o600, 0o4755, id="E46-octal has twelve bits"),
        pytest.param("0", 0o777, 0, id="E46-nothing"),
        pytest.param("u+x", 0o644, 0o744, id="E46-plus adds"),
        pytest.param("go-rwx", 0o777, 0o700, id="E46-minus takes away"),
        pytest.param("u=rw,go=r", 0o777, 0o644, id="E46-equal sets"),
        pytest.param("+x", 0o600, 0o711, id="E46-no class means all classes, whatever the umask"),
        pytest.param("a=", 0o777, 0, id="E46-no permissions at all"),
        pytest.param("a+rX", 0o600, 0o644, id="E46-X has no effect on a plain file"),
        pytest.param("a+rX", 0o700, 0o755, id="E46-X is x for a program"),
        pytest.param("u-x,a+X", 0o700, 0o711, id="E46-X depends on the original mode"),
        pytest.param("g=u", 0o640, 0o660, id="E46-a class can be copied"),
        pytest.param("o=u-w", 0o740, 0o745, id="E46-operations follow each other"),
        pytest.param("u+s,g+s", 0o755, 0o6755, id="E46-set-user-ID and set-group-ID"),
        pytest.param("o+s", 0o755, 0o755, id="E46-others have no set-ID bit"),
        pytest.param("u=rwx", 0o4755, 0o755, id="E46-equal clears set-user-ID"),
        pytest.param("+t", 0o777, 0o1777, id="E46-sticky"),
        pytest.param("u+t", 0o777, 0o777, id="E46-sticky has no effect on a user"),
        pytest.param("u+", 0o644, 0o644, id="E46-nothing is added"),
        pytest.param("=rx,u+w", 0o4000, 0o755, id="E46-two clauses"),
    ],
)
def test_a_mode_is_applied_to_a_file(text: str, before: int, after: int) -> None:
    assert apply_mode(parse_mode(text), before, directory=False) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        pytest.param("u=rwX,go=rX", 0o755, id="E46-X is x for a directory"),
        pytest.param("a-x", 0o600, id="E46-a minus clears it"),
        pytest.param("0644", 0o644, id="E46-octal sets directories too"),
    ],
)
def test_a_mode_is_applied_to_a_directory(text: str, after: int) -> None:
    assert apply_mode(parse_mode(text), 0o600, directory=True) == after


@pytest.mark.parametrize("text", ["", "8", "17777", "0000644", "rwx", "u", "u+rw,", "x+r", "u+rug", "+q", "u~r", "-1 "])
def test_an_invalid_mode_is_refused(text: str) -> None:
    with pytest.raises(ModeError):
        parse_mode(text)


@PROPERTY
@given(st.text(st.sampled_from("ugoa+-=rwxXst,"), max_size=12), st.integers(0, 0o7777), st.booleans())
def test_a_mode_stays_within_twelve_bits(text: str, mode: int, directory: bool) -> None:
    try:
        parsed = parse_mode(text)
    except ModeError:
        return
    assert 0 <= apply_mode(parsed, mode, directory=directory) <= 0o7777


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("0", 0, id="E52-0"),
        pytest.param("-0", 0, id="E52--0"),
        pytest.param("30s", 30 * SECOND, id="E52-seconds"),
        pytest.param("1h2m3s", 3723 * SECOND, id="E52-hours, minutes and seconds"),
        pytest.param("1.5h", 5400 * SECOND, id="E52-a fraction"),
        pytest.param(".5s", SECOND // 2, id="E52-a fraction alone"),
        pytest.param("1.s", SECOND, id="E52-a point without a fraction"),
        pytest.param("-1m", -60 * SECOND, id="E52-negative"),
        pytest.param("+1m", 60 * SECOND, id="E52-a plus"),
        pytest.param("1us", 1000, id="E52-us"),
        pytest.param("1\u00b5s", 1000, id="E52-the micro sign"),
        pytest.param("1\u03bcs", 1000, id="E52-the Greek letter"),
        pytest.param("1ms1ns", 1_000_001, id="E52-the smallest"),
        pytest.param("2562047h", 2562047 * 3600 * SECOND, id="E52-the longest in hours"),
    ],
)
def test_a_duration_is_read_as_in_go(text: str, duration: int) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1 s", "1d", "1S", ".s", "--1s", "1h2", "1s ", "٣s", "2562048h", "9" * 99]
)
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(DurationError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        pytest.param(["80"], ("80/tcp",), id="E52-tcp is the default"),
        pytest.param(["80/UDP"], ("80/udp",), id="E52-a protocol has no case"),
        pytest.param(["9-11/sctp"], ("10/sctp", "11/sctp", "9/sctp"), id="E52-a range, sorted as text"),
        pytest.param(["80", "80/tcp"], ("80/tcp",), id="E52-a set"),
        pytest.param(["1.2.3.4:5:80"], ("80/tcp",), id="E52-the container's port"),
        pytest.param([], (), id="E52-none"),
    ],
)
def test_ports_are_a_sorted_set(words: list[str], ports: tuple[str, ...]) -> None:
    assert parse_ports(words) == ports


@pytest.mark.parametrize("word", ["", "x", "-1", "1-", "65536", "80/", "80/icmp", "80/tcp/udp", "5-4", "٣", "080000"])
def test_an_invalid_port_is_refused(word: str) -> None:
    with pytest.raises(PortError):
        parse_ports([word])


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("SIGTERM", True), ("term", True), ("9", True), ("64", True), ("RTMIN+1", True), ("SIGRTMAX-14", True),
        ("0", False), ("65", False), ("", False), ("SIG", False), ("RTMIN+16", False), ("TERMINATE", False), ("1e1", False),
    ],
)  # fmt: skip
def test_a_signal_is_a_name_or_a_number(text: str, valid: bool) -> None:
    assert valid_signal(text) is valid


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        pytest.param("*.c", "a.c", True, id="E41-a star"),
        pytest.param("*", ".a", True, id="E41-a star takes a point"),
        pytest.param("a*", "a", True, id="E41-a star takes nothing"),
        pytest.param("?", "ä", True, id="E41-a question mark is a character"),
        pytest.param("[a-c]", "b", True, id="E41-a class"),
        pytest.param("[^a-c]", "b", False, id="E41-a class of the others"),
        pytest.param("[]a]", "a", None, id="E41-a bracket first in its class"),
        pytest.param("[\\]]", "]", True, id="E41-a bracket that is escaped"),
        pytest.param("\\*", "*", True, id="E41-a star that is escaped"),
        pytest.param("\\*", "a", False, id="E41-a star that is escaped matches nothing else"),
        pytest.param("**", "ab", True, id="E41-two stars are one"),
        pytest.param("[a", "a", None, id="E41-an open class"),
        pytest.param("a\\", "a", None, id="E41-a lone backslash"),
        pytest.param("[z-a]", "b", False, id="E41-a reversed range is empty"),
    ],
)
def test_a_name_matches_as_in_go(pattern: str, name: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(PatternError):
            match_pattern(pattern, name)
    else:
        assert match_pattern(pattern, name) is matches
        assert has_wildcard(pattern)


@PROPERTY
@given(st.text(st.sampled_from("ab*?"), max_size=8), st.text(st.sampled_from("ab"), max_size=8))
def test_stars_and_question_marks_match_as_in_the_shell(pattern: str, name: str) -> None:
    assert match_pattern(pattern, name) == (re.fullmatch(translate(pattern), name) is not None)


def test_a_pattern_of_many_stars_is_not_slow() -> None:
    assert not match_pattern("*a" * 50 + "z", "a" * 4000)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("CPOY", "COPY"), ("COPPY", "COPY"), ("RNU", "RUN"), ("ENTRYPONIT", "ENTRYPOINT"), ("WORKDRI", "WORKDIR"),
        ("XYZ", None), ("", None), ("RUNRUN", None),
    ],
)  # fmt: skip
def test_the_nearest_word_is_suggested(word: str, expected: str | None) -> None:
    assert suggest(word, ["RUN", "COPY", "ENTRYPOINT", "WORKDIR"]) == expected
