"""File name patterns as Go's filepath.Match defines them, for COPY and for the segments of ignore patterns.

A segment becomes one regular expression. For each `*` an atomic group takes the nearest match of the piece that follows:
if the whole pattern matches, it also matches with the nearest one, so the expression never backtracks into the group.
"""

from __future__ import annotations

import re

from pybuild.parser.errors import PatternError
from pybuild.values.pattern import pattern

_MAGIC = pattern(r"[*?\[\\]")


def has_wildcard(pattern: str) -> bool:
    """Whether a COPY source is a pattern. A backslash makes it one too, because it escapes the next character."""
    return _MAGIC.search(pattern) is not None


def match_pattern(pattern: str, name: str) -> bool:
    """Whether one path component matches, by Go's filepath.Match. Raises PatternError."""
    return compile_segment(pattern).fullmatch(name) is not None


def compile_segment(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern without slashes. Raises PatternError."""
    pieces = [""]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            expression, position = _class(pattern, position)
            pieces[-1] += expression
        elif character == "\\":
            if position == len(pattern):
                raise PatternError(f"the pattern {pattern!r} ends in a backslash")
            pieces[-1] += re.escape(pattern[position])
            position += 1
        else:
            pieces[-1] += re.escape(character)
    first, *rest = pieces
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>[^/]*?{piece})" for piece in middle if piece) + f"[^/]*{last}", re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The expression of a character class, and the position after it. `position` is after the opening bracket."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while True:
        if pattern[position : position + 1] == "]" and ranges:
            break
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # in Go a reversed range is empty
    inside = "".join(ranges)
    if not inside:
        return ("[^/]" if negated else "(?!)"), position + 1
    return f"(?!/)[{'^' if negated else ''}{inside}]", position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position : position + 1]
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
    elif character in ("-", "]"):
        character = ""
    if not character:
        raise PatternError(f"malformed character class in the pattern {pattern!r}")
    return character, position + 1
