"""Makes untrusted text safe for a terminal: text and colours stay, sequences that move, query or hide are removed.

Source for the syntax of control sequences: ECMA-48, 5.4 (CSI) and 5.6 (strings); xterm's ctlseqs for how they end.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEQUENCE = pattern(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: cursor, erasing, modes, colours
    "|(?:\x1b[]PX^_]|[\x90\x98\x9d\x9e\x9f]).*?(?:\x07|\x1b\\\\|\x9c|$)"  # strings: titles, links, clipboard, queries
    "|\x1b[ -/]*[0-~]?",  # character sets, reset; and a lone escape
    re.DOTALL,
)
_COLOUR = pattern("\x1b\\[[0-9;:]{0,40}m")  # SGR, as terminals read it
_RESET = "\x1b[0m"
_TAB = 8
_MARKS = 2  # combining characters per base character; more of them can cover other lines


def last_state(line: bytes) -> bytes:
    """What is to be seen of a line in the end: programs write progress bars over themselves with \\r."""
    *_, shown = [b"", *(part for part in line.split(b"\r") if part)]
    return shown


def harmless(line: bytes, columns: int | None = None, *, colour: bool = True) -> str:
    """A line of output as text for one row of at most `columns` cells; None means no limit.

    If \\r overwrites the line, as in progress bars, only the last part remains. Colours end with the line.
    """
    return clip(last_state(line).decode("utf-8", "replace"), columns, colour=colour)


def harmless_lines(piece: bytes) -> bytes:
    """The same for several lines; the last newline can be missing."""
    return "".join(harmless(line) + "\n" for line in piece.removesuffix(b"\n").split(b"\n")).encode()


def clip(text: str, columns: int | None = None, *, colour: bool = False) -> str:
    """As `harmless`, for text; a line that is too long ends with an ellipsis."""
    if text.isascii() and text.isprintable():
        return text if columns is None or len(text) <= columns else text[: max(columns - 1, 0)] + "…" * (columns > 0)
    out: list[str] = []
    used = marks = 0
    fits = 0  # how many pieces of `out` leave room for the ellipsis
    coloured = False
    for piece, width in _pieces(text, colour=colour):
        if width < 0:
            coloured = True
        elif width == 0:
            marks += 1
            if marks > _MARKS:
                continue
        else:
            marks = 0
            if piece == "\t":
                width = _TAB - used % _TAB
                piece = " " * width
            if columns is not None and used + width > columns:
                out[fits:] = ["…"] if columns else []
                break
            used += width
        out.append(piece)
        if columns is not None and used < columns:
            fits = len(out)
    return "".join(out) + (_RESET if coloured else "")


def _pieces(text: str, *, colour: bool) -> Iterator[tuple[str, int]]:
    """The pieces that can be shown, each with its width in columns; -1 for a colour."""
    position = 0
    for found in _SEQUENCE.finditer(text):
        yield from _characters(text[position : found.start()])
        if colour and _COLOUR.fullmatch(found.group()):
            yield found.group(), -1
        position = found.end()
    yield from _characters(text[position:])


def _characters(text: str) -> Iterator[tuple[str, int]]:
    for character in text:
        if character == "\t":
            yield character, 1
        elif character.isprintable():
            # Variation selectors make characters wider than Unicode's tables say.
            if not "\ufe00" <= character <= "\ufe0f":
                yield character, _width(character)
        elif unicodedata.category(character) == "Zs":
            yield " ", 1
        # All others are control characters, or invisible ones that change how their neighbours are shown.


def _width(character: str) -> int:
    """Columns of a character. Source: Unicode Standard Annex 11; if terminals differ, the widest they use."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
