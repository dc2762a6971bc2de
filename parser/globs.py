"""The patterns of `${X#…}`, `${X%…}` and `${X/…/…}`.

`*` matches any text and `?` any character. A backslash makes `*`, `?`, `}`, `/` or itself literal. All other characters
are literal, `[` too.

The stars divide a pattern into pieces. If the whole pattern matches, it also matches with the nearest match of each piece.
So the expressions never backtrack: a piece that is not found after one position is not found after a later one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.parser.errors import ExpansionError
from pybuild.values.limits import PATTERN_STEPS

if TYPE_CHECKING:
    from pybuild.values.limits import Limit


class Glob:
    """A compiled pattern. Raises ExpansionError if the pattern is not valid."""

    def __init__(self, pattern: str) -> None:
        self._pieces = _pieces(pattern)
        self._length = sum(map(len, self._pieces))

    def strip_start(self, value: str, *, longest: bool) -> str:
        """The value without the prefix that matches, if one does."""
        if not self._can_match(value):
            return value
        first, rest = _expressions(self._pieces, longest=longest)
        start = first.match(value)
        end = rest.match(value, start.end()) if start is not None else None
        return value if end is None else value[end.end() :]

    def strip_end(self, value: str, *, longest: bool) -> str:
        """The value without the suffix that matches, if one does."""
        if not self._can_match(value):
            return value
        reversed_value = value[::-1]
        pieces = [piece[::-1] for piece in reversed(self._pieces)]
        first, rest = _expressions(pieces, longest=longest)
        start = first.match(reversed_value)
        end = rest.match(reversed_value, start.end()) if start is not None else None
        return value if end is None else value[: len(value) - end.end()]

    def replace(self, value: str, replacement: str, *, every: bool, limit: Limit) -> str:
        """The value with the first match, or every match, replaced. A match begins as early and is as long as possible."""
        if not self._can_match(value):
            return value
        first, rest = _expressions(self._pieces, longest=True)
        out: list[str] = []
        size, most = 0, limit.value
        done = position = 0  # `out` covers the value up to `done`; the search goes on at `position`
        while position <= len(value):
            start = first.search(value, position)
            end = rest.match(value, start.end()) if start is not None else None
            if start is None or end is None:
                break
            # An empty match directly after another match does not count.
            if end.end() > done or start.start() == 0:
                out += [value[done : start.start()], replacement]
                size += start.start() - done + len(replacement)
                done = end.end()
                if not every:
                    break
            if size > most:
                raise ExpansionError(f"a word expands to more than the limit of {limit.shown()}", hint=limit.hint())
            position = max(end.end(), start.start() + 1)
        return "".join([*out, value[done:]])

    def _can_match(self, value: str) -> bool:
        """Whether the value is long enough. So the expression of a pattern that is made is short: it takes much memory.

        Raises ExpansionError if a match would take too long.
        """
        if len(value) * self._length > PATTERN_STEPS.value:
            raise ExpansionError("a pattern takes too long to match", hint=PATTERN_STEPS.hint())
        return self._length <= len(value)


# The characters of a piece; None matches any character.
_Piece = list[str | None]


def _pieces(pattern: str) -> list[_Piece]:
    pieces: list[_Piece] = [[]]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        match character:
            case "*":
                pieces.append([])
            case "?":
                pieces[-1].append(None)
            case "\\":
                following = pattern[position : position + 1]
                position += 1
                if following not in ("*", "?", "\\", "}", "/"):
                    raise ExpansionError(f"invalid escape \\{following} in the pattern {pattern!r}")
                pieces[-1].append(following)
            case _:
                pieces[-1].append(character)
    return pieces


def _expressions(pieces: list[_Piece], *, longest: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two expressions: for the piece before the first star, and for the rest."""
    first, *rest = ("".join("." if item is None else re.escape(item) for item in piece) for piece in pieces)
    if not rest:
        return re.compile(first, re.DOTALL), re.compile("")
    *middle, last = rest
    nearest = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(first, re.DOTALL), re.compile(f"{nearest}{'.*' if longest else '.*?'}{last}", re.DOTALL)
