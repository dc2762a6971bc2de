"""Durations in the syntax of Go: `1h30m`, `500ms`, `1.5s`."""

from __future__ import annotations

from pybuild.parser.errors import DurationError
from pybuild.values.pattern import pattern

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = pattern(r"(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")")
_MAX = (1 << 63) - 1
_MAX_LENGTH = 64  # characters; no real duration is longer


def parse_duration(text: str) -> int:
    """The nanoseconds of a text that Go's time.ParseDuration accepts. Raises DurationError."""
    sign, rest = 1, text
    if rest[:1] in ("+", "-"):
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    total = 0
    position = 0
    while position < len(rest) and len(rest) <= _MAX_LENGTH:
        match = _PART.match(rest, position)
        if match is None:
            break
        whole, fraction = int(match[1] or 0), match[2] or match[3] or ""
        unit = _UNITS[match[4]]
        total += whole * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        position = match.end()
    if not rest or position < len(rest):
        raise DurationError(f"invalid duration {text!r}", hint="for instance 30s, 1m30s or 500ms")
    if total > _MAX:
        raise DurationError(f"duration {text!r} is too long", hint="the longest is about 292 years")
    return sign * total
