"""Places in a recipe, and how they are shown."""

from __future__ import annotations

from pybuild.values import frozen
from pybuild.values.redact import redact

_WIDTH = 160  # characters of a line that an excerpt shows


@frozen
class Span:
    """From the first to behind the last character, lines and columns counted from 1, in the file as it is."""

    line: int
    column: int
    end_line: int
    end_column: int


@frozen
class Source:
    """The text of a recipe and what it is called."""

    filename: str
    text: str

    def excerpt(self, span: Span) -> str:
        """The line of a span with a caret below its first column, both behind the line's number. Passwords are not shown."""
        lines = self.text.split("\n")
        line = lines[span.line - 1].rstrip("\r") if span.line <= len(lines) else ""
        column = len(redact(line[: span.column - 1]))
        line = redact(line)
        start = max(0, column - _WIDTH // 2) if len(line) > _WIDTH else 0
        shown = line[start : start + _WIDTH]
        gutter = f"{span.line:>5} | "
        # Tabs stay tabs in both lines, so that the caret stands where the terminal puts the character.
        before = "".join(
            character if character == "\t" else " " * len(_visible(character)) for character in line[start:column]
        )
        return f"{gutter}{visible(shown)}\n{' ' * (len(gutter) - 2)}| {before}^"


def visible(text: str) -> str:
    """A text for the terminal: control characters would let a recipe write anywhere on it. Tabs and newlines stay."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\t\n" or character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"  # a byte that is no text is that byte
