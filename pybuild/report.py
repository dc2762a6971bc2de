"""Errors as people read them: one line that says what and where, the excerpt, a hint."""

from __future__ import annotations

import sys

from pybuild.builder.errors import StepFailed
from pybuild.parser import Source, Span
from pybuild.values.errors import PybuildError
from pybuild.values.redact import redact

KNOWN = (PybuildError, OSError)


def show(error: Exception) -> None:
    """Print an error that is somebody's mistake or the machine's, on standard error."""
    print(text(error), file=sys.stderr)


def place(error: Exception) -> tuple[Source, Span] | None:
    """The text that an error points into, and where."""
    span: Span | None = getattr(error, "span", None)
    source: Source | None = getattr(error, "source", None)
    return None if span is None or source is None else (source, span)


def fields(error: Exception) -> dict[str, object]:
    """An error for programs."""
    found = place(error)
    hint = getattr(error, "hint", None)
    return {
        "message": message_of(error),
        "hint": redact(hint) if hint else None,
        "file": found[0].filename if found else None,
        "line": found[1].line if found else None,
        "column": found[1].column if found else None,
        "status": error.status if isinstance(error, StepFailed) else None,
    }


def text(error: Exception) -> str:
    """An error in full: the place, what is wrong, the excerpt, the hint."""
    message = visible(f"error: {message_of(error)}")
    if found := place(error):
        source, span = found
        message = f"{visible(source.filename)}:{span.line}:{span.column}: {message}\n{source.excerpt(span)}"
    hint = getattr(error, "hint", None)
    return redact(message + (f"\nhint: {visible(hint)}" if hint else ""))


def visible(text: str) -> str:
    """Text for one line of a terminal. Names of strangers are in it, which could write anywhere on it."""
    return "".join(character if character.isprintable() else _code(character) for character in text)


def _code(character: str) -> str:
    """\\xNN; a byte that is no UTF-8 has come as a surrogate."""
    number = ord(character)
    return f"\\x{number - 0xDC00 if 0xDC80 <= number <= 0xDCFF else number:02x}"


def message_of(error: Exception) -> str:
    """What is wrong, without the place."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return redact(str(error))
