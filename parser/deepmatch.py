"""Ignore patterns with `**` inside a name, such as `a**b` or `src**/x`, matched character by character.

Such a `**`, together with a slash that follows it, matches nothing or any text that ends in a slash: `a**b` matches `ab`,
`a/b` and `ax/y/b`. Matching name by name cannot express that, so `run` follows all states of the pattern at once. It takes
time proportional to the length of the pattern times the length of the path.
"""

from __future__ import annotations

import re

from pybuild.parser.errors import PatternError
from pybuild.parser.patterns import compile_segment
from pybuild.values import frozen

_STAR = "*"
_DEEP = "**"


@frozen
class DeepPattern:
    """A compiled pattern; each item is `*`, `**`, or an expression for one character."""

    items: tuple[str | re.Pattern[str], ...]

    @staticmethod
    def compile(pattern: str) -> DeepPattern:
        """Compile a pattern that normpath has cleaned. Raises PatternError."""
        items: list[str | re.Pattern[str]] = []
        position = 0
        while position < len(pattern):
            if pattern.startswith("**", position):
                position += 2
                position += pattern.startswith("/", position)
                items.append(_DEEP if position < len(pattern) else _STAR)
                continue
            if pattern[position] == "*":
                items.append(_STAR)
                position += 1
                continue
            end = _end_of_item(pattern, position)
            part = pattern[position:end]
            items.append(re.compile("/") if part == "/" else compile_segment(part))
            position = end
        return DeepPattern(tuple(items))

    def run(self, path: str) -> tuple[bool, bool]:
        """Whether the path or one of its parents matches, and whether a path below it could match."""
        end = len(self.items)
        states = self._closure({0})
        for position, character in enumerate(f"{path}/"):
            if character == "/" and position and end in states:
                return True, True
            following = set()
            for state in states:
                if state == end:
                    continue
                # ~index, which is negative, is the state inside the text that the `**` at `index` matches; only a slash
                # leaves it.
                index = state if state >= 0 else ~state
                item = self.items[index]
                if item == _DEEP:
                    following.add(~index)
                    if character == "/":
                        following.add(index + 1)
                elif item == _STAR:
                    if character != "/":
                        following.add(state)
                elif isinstance(item, re.Pattern) and item.fullmatch(character):
                    following.add(state + 1)
            states = self._closure(following)
        return False, bool(states)

    def _closure(self, states: set[int]) -> set[int]:
        found = set(states)
        for state in states:
            while 0 <= state < len(self.items) and isinstance(self.items[state], str):
                state += 1
                found.add(state)
        return found


def _end_of_item(pattern: str, position: int) -> int:
    """The end of the item at a position, which matches one character: a character, an escape or a class."""
    character = pattern[position]
    if character == "\\":
        return position + 2
    if character != "[":
        return position + 1
    end = position + 1 + pattern.startswith("^", position + 1)
    first = True
    while end < len(pattern) and (first or pattern[end] != "]"):
        end += 2 if pattern[end] == "\\" else 1
        first = False
    if end >= len(pattern):
        raise PatternError(f"malformed character class in the pattern {pattern!r}")
    return end + 1
