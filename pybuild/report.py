"""Errors as people read them: one line that says what and where, the excerpt, a hint."""

from __future__ import annotations

import sys

from builder.errors import BuildError
from parser import ParseError, Source, Span, redact
from store.errors import StoreError

KNOWN = (ParseError, BuildError, StoreError, OSError)


def show(error: Exception) -> None:
    """Print an error that is somebody's mistake or the machine's, on standard error."""
    span: Span | None = getattr(error, "span", None)
    source: Source | None = getattr(error, "source", None)
    message = visible(f"error: {_text(error)}")
    if span is not None and source is not None:
        message = f"{visible(source.filename)}:{span.line}:{span.column}: {message}\n{source.excerpt(span)}"
    hint = getattr(error, "hint", None)
    print(redact(message + (f"\nhint: {visible(hint)}" if hint else "")), file=sys.stderr)


def visible(text: str) -> str:
    """Text for one line of a terminal. Names of strangers are in it, which could write anywhere on it."""
    return "".join(character if character.isprintable() else _code(character) for character in text)


def _code(character: str) -> str:
    """\\xNN; a byte that is no UTF-8 has come as a surrogate."""
    number = ord(character)
    return f"\\x{number - 0xDC00 if 0xDC80 <= number <= 0xDCFF else number:02x}"


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
