"""Matching a path against all lines of an ignore file at once.

A line is a list of segments, which the names of a path must match one after the other. Testing each line at each path
would cost lines times paths. But at one name few lines can match: a table finds the lines whose next segment is this
literal name, and only lines whose next segment is an expression are tried. A line that has passed a `**` waits at every
depth below; those lines are in a second table, which is copied only if a path passes another `**`. `Walk` keeps the state
at each parent of the last path, because the next path is usually in the same directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from pybuild.values import frozen

Segment: TypeAlias = str | re.Pattern[str] | None  # a literal, an expression, or `**`


class _State(NamedTuple):
    """A place in a line, which waits for a name that matches its segment."""

    line: int
    segment: int


@frozen
class _Waiting:
    """Places, by the segment that they wait for."""

    literals: dict[str, dict[_State, None]]  # dict[_State, None] is an ordered set
    expressions: dict[_State, re.Pattern[str]]

    def copy(self) -> _Waiting:
        """A copy that can be added to."""
        return _Waiting({name: dict(states) for name, states in self.literals.items()}, dict(self.expressions))

    def add(self, state: _State, segment: str | re.Pattern[str]) -> None:
        """Add a place and the segment that it waits for."""
        if isinstance(segment, str):
            self.literals.setdefault(segment, {})[state] = None
        else:
            self.expressions[state] = segment


@frozen
class Reached:
    """The state of all lines at one path. Lines are given by their index; -1 means no line."""

    excluding: int  # the last line without `!` that matches the path or one of its parents
    including: int  # the last line with `!`
    any_name: tuple[int, ...]  # lines that match every name that follows: those that end in `/**`
    once: _Waiting  # places that wait for the next name
    always: _Waiting  # places that wait for every name below

    @property
    def deciding(self) -> int:
        """The last line that matches."""
        return max(self.excluding, self.including)


class Walk:
    """Follows paths through the lines."""

    def __init__(self, lines: Sequence[tuple[bool, tuple[Segment, ...]]]) -> None:
        """Each line is a pair: whether it excludes, and its segments. A line without segments matches nothing."""
        self._lines = lines
        start = _Places(self, Reached(-1, -1, (), _Waiting({}, {}), _Waiting({}, {})))
        for number, (_, segments) in enumerate(lines):
            if segments:
                start.enter(number, 0)
        self._parts: list[str] = []  # the last path
        self._reached = [start.reached()]  # the state at each of its parents, the root first

    def at(self, path: str) -> Reached:
        """The state of all lines at a path."""
        parts = path.split("/")
        known = 0
        for part, before in zip(parts, self._parts, strict=False):
            if part != before:
                break
            known += 1
        del self._reached[known + 1 :]
        for part in parts[known:]:
            self._reached.append(self._step(self._reached[-1], part))
        self._parts = parts
        return self._reached[-1]

    def may_match_below(self, path: str, *, exclude: bool) -> bool:
        """Whether a line without `!` (with `exclude`), or one with `!`, matches the path or could match a path below it."""
        reached = self.at(path)
        if (reached.excluding if exclude else reached.including) >= 0:
            return True
        if any(self._lines[line][0] is exclude for line in reached.any_name):
            return True
        for waiting in (reached.once, reached.always):
            if any(self._lines[state.line][0] is exclude for state in waiting.expressions):
                return True
            if any(self._lines[state.line][0] is exclude for states in waiting.literals.values() for state in states):
                return True
        return False

    def _step(self, before: Reached, name: str) -> Reached:
        places = _Places(self, before)
        for line in before.any_name:
            places.accept(line)
        for waiting in (before.once, before.always):
            for state in waiting.literals.get(name, ()):
                places.enter(state.line, state.segment + 1)
            for state, expression in waiting.expressions.items():
                if expression.fullmatch(name):
                    places.enter(state.line, state.segment + 1)
        return places.reached()


class _Places:
    """Collects the state of all lines after one more name."""

    def __init__(self, walk: Walk, before: Reached) -> None:
        self._lines = walk._lines
        self._before = before
        self._excluding = before.excluding
        self._including = before.including
        self._any_name = dict.fromkeys(before.any_name)
        self._once = _Waiting({}, {})
        self._always: _Waiting | None = None  # None: the same as before

    def accept(self, line: int) -> None:
        """Note that a line matches."""
        if self._lines[line][0]:
            self._excluding = max(self._excluding, line)
        else:
            self._including = max(self._including, line)

    def enter(self, line: int, segment: int) -> None:
        """Note that a line has reached a segment, or its end."""
        segments = self._lines[line][1]
        if segment == len(segments):
            self.accept(line)
            return
        wanted = segments[segment]
        if wanted is not None:
            self._once.add(_State(line, segment), wanted)
        elif segment == len(segments) - 1:
            self._any_name.setdefault(line)
        else:
            # `**` can match nothing too, so the segment after it waits from here on.
            following = segments[segment + 1]
            assert following is not None, "adjacent `**` are merged"
            if self._always is None:
                self._always = self._before.always.copy()
            self._always.add(_State(line, segment + 1), following)

    def reached(self) -> Reached:
        """The collected state."""
        always = self._before.always if self._always is None else self._always
        return Reached(self._excluding, self._including, tuple(self._any_name), self._once, always)
