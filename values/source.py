"""Places in a recipe, and how messages show them."""

from __future__ import annotations

from pybuild.values import frozen
from pybuild.values.redact import redact

_WIDTH = 160  # characters of a line that an excerpt shows


@frozen
class Span:
    """A range of the file on disk. Lines and columns count from 1; the end is after the last character."""

    line: int
    column: int
    end_line: int
    end_column: int


@frozen
class Source:
    """The name and the text of a recipe."""

    filename: str
    text: str

    def excerpt(self, span: Span) -> str:
        """The numbered line of a span, and a caret below its first column. Passwords in URLs are replaced."""
        lines = self.text.split("\n")
        line = lines[span.line - 1].rstrip("\r") if span.line <= len(lines) else ""
        column = len(redact(line[: span.column - 1]))
        line = redact(line)
        start = max(0, column - _WIDTH // 2) if len(line) > _WIDTH else 0
        shown = line[start : start + _WIDTH]
        gutter = f"{span.line:>5} | "
        # Tabs stay tabs in both lines, so the terminal aligns the caret with the character.
        before = "".join(
            character if character == "\t" else " " * len(_visible(character)) for character in line[start:column]
        )
        return f"{gutter}{visible(shown)}\n{' ' * (len(gutter) - 2)}| {before}^"


def visible(text: str) -> str:
    """The text with control characters escaped, except tabs and newlines: they could write anywhere on the terminal."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\t\n" or character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"  # a surrogate escape is shown as its byte
