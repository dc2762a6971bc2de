"""The errors of the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.values.limits import Limit
    from pybuild.values.source import Span

_LONGEST = (
    400  # characters of a message: it quotes words of a recipe or lines of an ignore file, which can be a million long
)


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST else f"{message[: _LONGEST - 1]}…"


class ParseError(PybuildError):
    """The recipe is not valid. The error always has a span."""

    span: Span

    def __init__(self, message: str, span: Span, *, hint: str | None = None) -> None:
        message = _cut(message)
        super().__init__(message, hint=hint, span=span)
        self.message = message

    @classmethod
    def beyond(cls, limit: Limit, message: str, span: Span) -> ParseError:
        """The recipe exceeds a limit; `{}` in `message` stands for it."""
        return cls(message.replace("{}", limit.shown()), span, hint=limit.hint())


class ExpansionError(Exception):
    """The quotes or variables of a word are not valid; `offset` is the place in the word, in characters."""

    def __init__(self, message: str, offset: int = 0, *, hint: str | None = None) -> None:
        message = _cut(message)
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint


class PatternError(ValueError):
    """A file name pattern has a malformed character class or ends in a lone backslash."""

    def __init__(self, message: str) -> None:
        super().__init__(_cut(message))


class ValueTextError(ValueError):
    """A text is not a valid value of its kind. A caller that knows its place raises a ParseError instead."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(_cut(message))
        self.hint = hint


class PortError(ValueTextError):
    """A port, a range of ports or a protocol is not valid."""


class ModeError(ValueTextError):
    """A --chmod is neither octal nor symbolic."""


class DurationError(ValueTextError):
    """Go would not accept this duration."""


class SizeError(ValueTextError):
    """A text is not a number of bytes."""
