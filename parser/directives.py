"""Directives, which are comments of the form `# name=value`, and the value of `# check=`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser.buildfile import Checks
from pybuild.parser.errors import ParseError
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.values.source import Span

DIRECTIVE = pattern(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(\S(?:.*\S)?)[ \t]*$")
_KEYS = ("skip", "error", "experimental")
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def read_bool(text: str) -> bool | None:
    """A boolean as Go's strconv.ParseBool reads it; None for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


def read_checks(text: str, span: Span) -> Checks:
    """Read a value such as `skip=A,B;error=true;experimental=all`. Raises ParseError."""
    values: dict[str, str] = {}
    for part in text.split(";"):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in _KEYS:
            raise ParseError(f"invalid check option {part.strip()!r}", span, hint=f"it can be {', '.join(_KEYS)}")
        if key in values:
            raise ParseError(f"duplicate check option {key}", span)
        values[key] = value
    error = read_bool(values.get("error", "false"))
    if error is None:
        raise ParseError(f"check option error={values['error']}: expected true or false", span)
    return Checks(_rules(values.get("skip", "")), _rules(values.get("experimental", "")), error)


def _rules(text: str) -> tuple[str, ...]:
    if text == "all":
        return ("*",)
    return tuple(rule for part in text.split(",") if (rule := part.strip()))
