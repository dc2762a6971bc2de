"""From the bytes of a recipe to logical lines: directives, comments, continuations, and a map back to the file.

The quirks live here, so that the grammar has none: a byte-order mark, CRLF, `# escape=`, comment lines inside of a
continued line, blanks behind the continuation character, heredoc bodies.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from parser.errors import ParseError
from parser.source import Span

MAX_RECIPE = 4 << 20  # bytes
MAX_LINE = 1 << 20  # characters of one logical line
_DIRECTIVE = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*$")
_KNOWN_DIRECTIVES = frozenset(("escape", "syntax", "check"))
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)$")
_TAKES_HEREDOC = frozenset(("RUN", "COPY", "ADD", "ONBUILD"))


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """An instruction on one line. `pieces` tells, for offsets in `text`, the physical line and column there."""

    text: str
    pieces: tuple[tuple[int, int, int], ...]  # offset in text, line, column
    heredoc: str | None = None  # the delimiter of the first heredoc that it opens


@dataclass(frozen=True, slots=True)
class Lines:
    """All logical lines. In `text` they are joined by newlines, which is what the grammar reads."""

    text: str
    lines: tuple[LogicalLine, ...]
    escape: str
    offsets: tuple[int, ...]  # of each line in text
    last_line: int  # number of physical lines

    def position(self, offset: int) -> tuple[int, int]:
        """Physical line and column of an offset in `text`."""
        index = max(0, bisect_right(self.offsets, offset) - 1)
        line = self.lines[index]
        inside = offset - self.offsets[index]
        piece = line.pieces[max(0, bisect_right(line.pieces, inside, key=lambda piece: piece[0]) - 1)]
        return piece[1], piece[2] + inside - piece[0]

    def span(self, start: int, end: int) -> Span:
        """The span from one offset in `text` to another."""
        line, column = self.position(start)
        if end <= start:
            return Span(line, column, line, column)
        end_line, end_column = self.position(end - 1)
        return Span(line, column, end_line, end_column + 1)


def decode(data: bytes | str) -> str:
    """The text of a recipe. Raises ParseError for what no recipe can hold."""
    if len(data) > MAX_RECIPE:
        raise ParseError(f"the recipe exceeds the limit of {MAX_RECIPE} bytes", Span(1, 1, 1, 1))
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8", "replace")
            raise ParseError("invalid UTF-8", _place(before)) from None
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise ParseError("a NUL byte", _place(text[: text.index("\0")]))
    return text


def _place(before: str) -> Span:
    line = before.count("\n") + 1
    column = len(before) - before.rfind("\n")
    return Span(line, column, line, column + 1)


def split(text: str) -> Lines:
    """Split a decoded recipe into its logical lines. Raises ParseError."""
    scanner = _Scanner(text)
    lines = scanner.scan()
    offsets, position = [], 0
    for line in lines:
        offsets.append(position)
        position += len(line.text) + 1
    joined = "".join(line.text + "\n" for line in lines)
    return Lines(joined, tuple(lines), scanner.escape, tuple(offsets), len(scanner.physical))


class _Scanner:
    def __init__(self, text: str) -> None:
        self.physical = [line.removesuffix("\r") for line in text.split("\n")]
        self.escape = "\\"
        self._at = 0

    def scan(self) -> list[LogicalLine]:
        self._directives()
        found = []
        while self._at < len(self.physical):
            line = self._logical()
            if line is not None:
                found.append(line)
        return found

    def _directives(self) -> None:
        """The zone at the top; the first line that is no known directive ends it."""
        seen = set()
        for number, line in enumerate(self.physical):
            match = _DIRECTIVE.match(line.strip())
            name = match[1].lower() if match else ""
            if match is None or name not in _KNOWN_DIRECTIVES:
                return
            span = Span(number + 1, 1, number + 1, len(line) + 1)
            if name in seen:
                raise ParseError(f"only one {name} parser directive can be used", span)
            seen.add(name)
            if name == "escape":
                if match[2] not in ("\\", "`"):
                    raise ParseError(f"invalid escape character {match[2]!r}", span, hint="it can be \\ or `")
                self.escape = match[2]
            self._at = number + 1

    def _logical(self) -> LogicalLine | None:
        """The next instruction, or None for a blank or comment line."""
        line = self.physical[self._at]
        stripped = line.lstrip(" \t\f\v")
        first = self._at
        self._at += 1
        if not stripped.strip() or stripped.startswith("#"):
            return None
        parts: list[str] = []
        pieces: list[tuple[int, int, int]] = []
        length = 0
        column = len(line) - len(stripped) + 1
        piece, goes_on = self._continues(stripped)
        while True:
            pieces.append((length, self._at, column))
            parts.append(piece)
            length += len(piece)
            if length > MAX_LINE:
                raise ParseError(f"a line exceeds the limit of {MAX_LINE} characters", Span(first + 1, 1, first + 1, 2))
            if not goes_on:
                break
            following = self._continuation()
            if following is None:
                break
            piece, goes_on = self._continues(following)
            column = 1
        text = "".join(parts).rstrip(" \t\f\v")
        if not text:
            return None
        return LogicalLine(text, tuple(pieces), self._heredocs(text, first))

    def _continuation(self) -> str | None:
        """The next physical line of a continued one; comments and blank lines in between do not count."""
        while self._at < len(self.physical):
            line = self.physical[self._at]
            self._at += 1
            bare = line.strip(" \t\f\v")
            if bare and not bare.startswith("#"):
                return line
        return None

    def _continues(self, line: str) -> tuple[str, bool]:
        """Cut the continuation character off, if the line ends in one; a doubled one is none."""
        bare = line.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return line, False

    def _heredocs(self, text: str, first: int) -> str | None:
        """Pass by the bodies of the heredocs that a line opens; answer the first delimiter."""
        keyword = text.split(None, 1)[0].upper()
        if keyword not in _TAKES_HEREDOC or "<<" not in text:
            return None
        opened = []
        for word in quoted_words(text, self.escape):
            match = _HEREDOC.match(word)
            if match is not None:
                name = match[2].replace('"', "").replace("'", "")
                if name:
                    opened.append((name, bool(match[1])))
        for name, strip_tabs in opened:
            while True:
                if self._at >= len(self.physical):
                    raise ParseError(
                        f"unterminated heredoc {name}", Span(first + 1, 1, first + 1, len(self.physical[first]) + 1),
                        hint=f"end it with a line that holds only {name}",
                    )  # fmt: skip
                line = self.physical[self._at]
                self._at += 1
                if (line.lstrip("\t") if strip_tabs else line) == name:
                    break
        return opened[0][0] if opened else None


def quoted_words(text: str, escape: str) -> list[str]:
    """Split at blanks that are neither quoted nor escaped; quotes and escapes stay in the words."""
    return [text[start:end] for start, end in word_ranges(text, escape)]


def word_ranges(text: str, escape: str) -> list[tuple[int, int]]:
    """As `quoted_words`, the offsets of each word. An open quote reaches to the end."""
    found = []
    start = -1
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if start < 0 and not character.isspace():
            start = position
        if start >= 0:
            if quote:
                if character == quote:
                    quote = ""
                elif character == escape and quote == '"':
                    position += 1
            elif character in "\"'":
                quote = character
            elif character == escape:
                position += 1
            elif character.isspace():
                found.append((start, position))
                start = -1
        position += 1
    if start >= 0:
        found.append((start, len(text)))
    return found
