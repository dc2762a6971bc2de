"""All mistakes of a recipe that cannot be parsed, and the recipe without the lines that have them: for a check.

A build stops at the first mistake. If a FROM is wrong, the lines of its stage are left out too: nothing is known of them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.parser import lines as logical_lines
from pybuild.parser.errors import ParseError
from pybuild.parser.transform import UnreadableLine, transform
from pybuild.values import frozen
from pybuild.values.source import Source

if TYPE_CHECKING:
    from collections.abc import Collection

    from pybuild.parser.buildfile import Buildfile
    from pybuild.parser.lines import Lines

MAX_MISTAKES = 100
_ROUNDS = 20  # a round parses the whole recipe, up to the next line that the grammar cannot read


class _WrongLines(dict[int, ParseError]):
    """The mistakes of single instructions, by the index of the line."""

    def add(self, error: ParseError, index: int) -> None:
        self[index] = error


@frozen
class Salvaged:
    """The mistakes of a recipe, and what is left of it without them; None if no stage is left."""

    source: Source
    buildfile: Buildfile | None
    mistakes: tuple[ParseError, ...]


def salvage(text: bytes | str, filename: str) -> Salvaged:
    """Parse a recipe as far as possible. Raises ParseError for a mistake that leaves nothing to parse."""
    decoded = logical_lines.decode(text)
    source = Source(filename, decoded)
    lines = logical_lines.split(decoded)
    mistakes: list[ParseError] = []
    for _ in range(_ROUNDS):
        wrong = _WrongLines()
        buildfile = None
        all_read = False
        try:
            buildfile = transform(lines, source, wrong.add)
        except UnreadableLine as error:
            wrong = _WrongLines()  # the lines before it are read again in the next round
            wrong.add(error, _line_of(lines, error))
        except ParseError as error:  # no FROM is left, or the recipe exceeds a limit
            all_read = True
            if not wrong and not mistakes:
                mistakes.append(error)
        if buildfile is not None and not any(_is_from(lines, index) for index in wrong):
            return _salvaged(source, buildfile, [*mistakes, *wrong.values()])
        lost = _lost(lines, wrong)
        mistakes += (error for index, error in wrong.items() if index not in lost or _is_from(lines, index))
        if not wrong or all_read:
            break
        lines = _without(lines, {*wrong, *lost})
        if len(mistakes) >= MAX_MISTAKES or not lines.lines:
            break
    return _salvaged(source, None, mistakes)


def _salvaged(source: Source, buildfile: Buildfile | None, mistakes: list[ParseError]) -> Salvaged:
    mistakes.sort(key=lambda error: (error.span.line, error.span.column))
    return Salvaged(source, buildfile, tuple(mistakes[:MAX_MISTAKES]))


def _line_of(lines: Lines, error: ParseError) -> int:
    """The index of the logical line that an error is in."""
    begins = [line.pieces[0][1] for line in lines.lines]
    return max(0, bisect_right(begins, error.span.line) - 1)


def _is_from(lines: Lines, index: int) -> bool:
    return lines.lines[index].text[:5].strip().upper() == "FROM"


def _lost(lines: Lines, wrong: Collection[int]) -> set[int]:
    """The lines of the stages whose FROM is wrong."""
    lost = set()
    losing = False
    for index in range(len(lines.lines)):
        if _is_from(lines, index):
            losing = index in wrong
        if losing:
            lost.add(index)
    return lost


def _without(lines: Lines, removed: Collection[int]) -> Lines:
    kept = [line for index, line in enumerate(lines.lines) if index not in removed]
    offsets, position = [], 0
    for line in kept:
        offsets.append(position)
        position += len(line.text) + 1
    text = "".join(f"{line.text}\n" for line in kept)
    return replace(lines, text=text, lines=tuple(kept), offsets=tuple(offsets))
