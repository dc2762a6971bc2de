"""What parsing raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.values.source import Span

_LONGEST = 400  # characters of a message: the words of a recipe are in it, and may be a million


class ParseError(PybuildError):
    """A recipe that cannot be read. It always has a place."""

    span: Span

    def __init__(self, message: str, span: Span, *, hint: str | None = None) -> None:
        message = message if len(message) <= _LONGEST else f"{message[: _LONGEST - 1]}…"
        super().__init__(message, hint=hint, span=span)
        self.message = message


class ExpansionError(Exception):
    """A word whose quotes or variables make no sense; `offset` is the place in the word."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class PatternError(ValueError):
    """A file name pattern with a malformed character class or a lone backslash at its end."""


class ValueTextError(ValueError):
    """A text that is no value of its kind; whoever knows where it stands makes a ParseError of it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class PortError(ValueTextError):
    """A port, a range of ports or a protocol that cannot be."""


class ModeError(ValueTextError):
    """A --chmod that is neither octal nor symbolic."""


class DurationError(ValueTextError):
    """A length of time that Go could not read."""


class SizeError(ValueTextError):
    """A number of bytes that cannot be."""
