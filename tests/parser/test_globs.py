"""The patterns of variables agree with a simple reference that tries every way to match."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.parser.globs import Glob
from tests.support.limits import at_most

PROPERTY = settings(max_examples=400)
PATTERN = st.lists(st.sampled_from(["a", "b", "*", "?", "\\*", "["]), max_size=6)
VALUE = st.text(st.sampled_from("ab*["), max_size=8)


def matches(pattern: list[str], text: str) -> bool:
    if not pattern:
        return not text
    first, *rest = pattern
    if first == "*":
        return any(matches(rest, text[count:]) for count in range(len(text) + 1))
    return bool(text) and first.removeprefix("\\") in (text[0], "?") and matches(rest, text[1:])


@PROPERTY
@given(PATTERN, VALUE)
def test_strip_start_removes_the_shortest_or_longest_match(pattern: list[str], value: str) -> None:
    ends = [end for end in range(len(value) + 1) if matches(pattern, value[:end])]
    glob = Glob("".join(pattern))
    assert glob.strip_start(value, longest=False) == value[min(ends, default=0) :]
    assert glob.strip_start(value, longest=True) == value[max(ends, default=0) :]


@PROPERTY
@given(PATTERN, VALUE)
def test_strip_end_removes_the_shortest_or_longest_match(pattern: list[str], value: str) -> None:
    starts = [start for start in range(len(value) + 1) if matches(pattern, value[start:])]
    glob = Glob("".join(pattern))
    assert glob.strip_end(value, longest=False) == value[: max(starts, default=len(value))]
    assert glob.strip_end(value, longest=True) == value[: min(starts, default=len(value))]


@PROPERTY
@given(PATTERN, VALUE)
def test_replaced_matches_begin_early_and_are_long(pattern: list[str], value: str) -> None:
    out, position, done, first = "", 0, 0, None
    while position <= len(value):
        end = max((end for end in range(position, len(value) + 1) if matches(pattern, value[position:end])), default=-1)
        if end < 0:
            position += 1
            continue
        if end > done or position == 0:
            out += value[done:position] + "<>"
            first = first or value[:position] + "<>" + value[end:]
            done = end
        position = max(end, position + 1)
    glob = Glob("".join(pattern))
    assert glob.replace(value, "<>", every=True, limit=at_most(100)) == out + value[done:]
    assert glob.replace(value, "<>", every=False, limit=at_most(100)) == (first or value)
