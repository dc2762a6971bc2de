"""The lines that instructions add to the history of an image, exactly as BuildKit writes them.

Tools compare and parse these lines. So each line that made a layer ends in `# buildkit`, and lists have Go's syntax.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.values import frozen
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMENT = "buildkit.dockerfile.v0"
_CLASSIC_NOP = "/bin/sh -c #(nop)"
_CLASSIC_RUN = pattern(r"(\|\d+ .*)?/bin/sh -c ", re.DOTALL)
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


@frozen
class HistoryEntry:
    """One line of history. `node` made its layer; None if the instruction made no layer."""

    text: str
    node: int | None


def instruction_of(line: str) -> str:
    """A line in BuildKit's form, which starts with the instruction.

    docker's classic builder and buildah write `#(nop)` before instructions that run nothing, and omit the keyword RUN.
    """
    if line.startswith(_CLASSIC_NOP):
        return line.removeprefix(_CLASSIC_NOP).lstrip()
    return f"RUN {line}" if _CLASSIC_RUN.match(line) else line


def run_line(args: Sequence[str], argv: Sequence[str]) -> str:
    """The line of a RUN: `args` are the ARGs in scope, as `name=value`."""
    front = [f"|{len(args)}", *args] if args else []
    return " ".join(["RUN", *front, *argv, "# buildkit"])


def command_list(argv: Sequence[str]) -> str:
    """A list of strings in the form of Go's %q."""
    return "[" + " ".join(_quoted(word) for word in argv) + "]"


def healthcheck_line(test: Sequence[str], durations: Mapping[str, int], retries: int) -> str:
    """The line of a HEALTHCHECK, as Go prints its struct. `durations` maps names to nanoseconds, in order."""
    fields = " ".join(f"{name}:{_duration(value)}" for name, value in durations.items())
    return f"HEALTHCHECK {{Test:[{' '.join(test)}] {fields} Retries:{retries}}}"


def _duration(nanoseconds: int) -> str:
    """A duration in the form of Go's time.Duration.String: 1h2m3.5s, 1.5ms, 0s."""
    for unit, size in (("ns", 1), ("\u00b5s", 1_000), ("ms", 1_000_000)):
        if 0 < nanoseconds < size * 1000:
            return _decimal(nanoseconds, size) + unit
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    text = _decimal(seconds % 60 * 1_000_000_000 + rest, 1_000_000_000) + "s"
    if seconds >= 60:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _quoted(text: str) -> str:
    """A string in the form of Go's strconv.Quote, which escapes all characters that are not printable."""
    out = []
    for character in text:
        code = ord(character)
        if character in _ESCAPES:
            out.append(_ESCAPES[character])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
            out.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            out.append(character)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'
