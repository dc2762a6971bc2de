"""Errors as text for the terminal, and as fields for JSON."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from pybuild.builder.errors import StepFailed
from pybuild.values.errors import PybuildError
from pybuild.values.redact import redact
from pybuild.values.source import Source, Span

EXPECTED = (PybuildError, OSError)  # caused by the user or the machine; any other exception is a bug in pybuild


def show(error: Exception) -> None:
    """Print an expected error on standard error. If that cannot be written either, the exit status has to do."""
    with suppress(OSError):
        print(full_text(error), file=sys.stderr, flush=True)


def location(error: Exception) -> tuple[Source, Span] | None:
    """The recipe and the position that an error points to, or None."""
    span: Span | None = getattr(error, "span", None)
    source: Source | None = getattr(error, "source", None)
    return None if span is None or source is None else (source, span)


def json_fields(error: Exception) -> dict[str, object]:
    """An error as the fields of a JSON object."""
    found = location(error)
    hint = getattr(error, "hint", None)
    return {
        "message": message_of(error),
        "hint": redact(hint) if hint else None,
        "file": found[0].filename if found else None,
        "line": found[1].line if found else None,
        "column": found[1].column if found else None,
        "status": error.status if isinstance(error, StepFailed) else None,
        **({"platform": platform} if (platform := _platform(error)) else {}),
    }


def full_text(error: Exception) -> str:
    """Location, message, excerpt of the recipe, and hint."""
    platform = f"{_platform(error)}: " if _platform(error) else ""
    message = printable(f"error: {platform}{message_of(error)}")
    if found := location(error):
        source, span = found
        message = f"{printable(source.filename)}:{span.line}:{span.column}: {message}\n{source.excerpt(span)}"
    hint = getattr(error, "hint", None)
    return redact(message + (f"\nhint: {printable(hint)}" if hint else ""))


def _platform(error: Exception) -> str:
    """The platform that failed of a build for several."""
    return error.platform if isinstance(error, PybuildError) else ""


def printable(text: str) -> str:
    """The text with control characters escaped: file names and recipes could contain terminal sequences."""
    return "".join(character if character.isprintable() else _code(character) for character in text)


def _code(character: str) -> str:
    """\\xNN; a byte that is not UTF-8 is a surrogate in Python's strings."""
    number = ord(character)
    return f"\\x{number - 0xDC00 if 0xDC80 <= number <= 0xDCFF else number:02x}"


def message_of(error: Exception) -> str:
    """What is wrong, without the location."""
    if isinstance(error, OSError) and error.strerror:
        named = isinstance(error.filename, str | bytes) and error.filename  # it can also be the number of a descriptor
        return f"{os.fsdecode(named)}: {error.strerror}" if named else error.strerror
    return redact(str(error))
