"""All lines of an ignore file at once: how far each has come at a path.

A line is a list of segments, and a path leads through them name by name. Asking each line about each path costs lines
times paths. But at one name few lines can go on: those that wait for just this name are found in a table, and only those
that wait for an expression are tried. A line behind its `**` waits at every depth below; the table of those is shared by
all paths that meet no other `**`. What was found for the directories of a path is kept for the next one, which mostly
lies beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from pybuild.values import frozen

Segment: TypeAlias = str | re.Pattern[str] | None  # a literal, an expression, or `**`


class _State(NamedTuple):
    """A place in a line: what it waits for is its segment."""

    line: int
    segment: int


@frozen
class _Waiting:
    """Places by what they wait for."""

    literals: dict[str, dict[_State, None]]  # sets that keep their order
    expressions: dict[_State, re.Pattern[str]]

    def copy(self) -> _Waiting:
        """One that can be added to."""
        return _Waiting({name: dict(states) for name, states in self.literals.items()}, dict(self.expressions))

    def add(self, state: _State, segment: str | re.Pattern[str]) -> None:
        """A place and what it waits for."""
        if isinstance(segment, str):
            self.literals.setdefault(segment, {})[state] = None
        else:
            self.expressions[state] = segment


@frozen
class Reached:
    """How far the lines have come at one path. Lines are numbered as they stand; -1 is none."""

    excluding: int  # the last line without `!` that matches the path or one of its parents
    including: int  # the last line with `!`
    any_name: tuple[int, ...]  # lines that match whatever comes next: those that end in `/**`
    once: _Waiting  # for the next name
    always: _Waiting  # for every name below

    @property
    def deciding(self) -> int:
        """The last line of all that match."""
        return max(self.excluding, self.including)


class Walk:
    """Follows paths through the lines."""

    def __init__(self, lines: Sequence[tuple[bool, tuple[Segment, ...]]]) -> None:
        """Lines are given as whether they exclude, and their segments; a line without segments matches nothing."""
        self._lines = lines
        start = _Places(self, Reached(-1, -1, (), _Waiting({}, {}), _Waiting({}, {})))
        for number, (_, segments) in enumerate(lines):
            if segments:
                start.enter(number, 0)
        self._parts: list[str] = []  # the path that was asked for last
        self._reached = [start.reached()]  # at each of its parents, the root first

    def at(self, path: str) -> Reached:
        """How far the lines have come at a path."""
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
        """Whether a line of one kind matches the path, or can match something below."""
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
    """Gathers how far the lines have come behind one more name."""

    def __init__(self, walk: Walk, before: Reached) -> None:
        self._lines = walk._lines
        self._before = before
        self._excluding = before.excluding
        self._including = before.including
        self._any_name = dict.fromkeys(before.any_name)
        self._once = _Waiting({}, {})
        self._always: _Waiting | None = None  # none other than before

    def accept(self, line: int) -> None:
        """A line matches."""
        if self._lines[line][0]:
            self._excluding = max(self._excluding, line)
        else:
            self._including = max(self._including, line)

    def enter(self, line: int, segment: int) -> None:
        """A line has come to a segment, or to its end."""
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
            # `**` may stand for nothing too: what is behind it waits from here on.
            behind = segments[segment + 1]
            assert behind is not None, "two `**` are one"
            if self._always is None:
                self._always = self._before.always.copy()
            self._always.add(_State(line, segment + 1), behind)

    def reached(self) -> Reached:
        """What was gathered."""
        always = self._before.always if self._always is None else self._always
        return Reached(self._excluding, self._including, tuple(self._any_name), self._once, always)
