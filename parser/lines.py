"""Splits a recipe into logical lines and maps them back to the file.

This module handles everything that the grammar cannot: a byte-order mark, CRLF, directives such as `# escape=`, comment
lines inside a continued line, blanks after the continuation character, heredoc bodies.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pybuild.parser.buildfile import ParseWarning
from pybuild.parser.directives import DIRECTIVE, read_checks
from pybuild.parser.errors import ParseError
from pybuild.parser.heredocs import RawHeredoc, opened_by
from pybuild.parser.instructions import Word
from pybuild.values import frozen
from pybuild.values.limits import LINE_CHARACTERS, RECIPE_BYTES
from pybuild.values.pattern import pattern
from pybuild.values.source import Span

if TYPE_CHECKING:
    from pybuild.parser.buildfile import Checks

_KNOWN_DIRECTIVES = frozenset(("escape", "syntax", "check"))
_SURROGATE = pattern("[\ud800-\udfff]")
# What these instructions say ends up in the image's config only. As in BuildKit, a byte there that is not UTF-8 becomes U+FFFD.
_ONLY_CONFIG = pattern(r"(?:ARG|CMD|ENTRYPOINT|ENV|HEALTHCHECK|LABEL|MAINTAINER)\s", re.IGNORECASE)
_NOT_A_BYTE = pattern("[\ud800-\udc7f\udd00-\udfff]")
_BIDI = pattern("[\u202a-\u202e\u2066-\u2069]")
MAX_WARNINGS = 100


@frozen
class LogicalLine:
    """An instruction on one line. `pieces` maps offsets in `text` to physical lines and columns."""

    text: str
    pieces: tuple[tuple[int, int, int], ...]  # offset in text, line, column
    heredocs: tuple[RawHeredoc, ...] = ()
    checks: Checks | None = None  # the `# check=` comment directly above it


@dataclass(slots=True)
class Directives:
    """The directives at the top of a recipe."""

    escape: str = "\\"
    syntax: Word | None = None
    checks: Checks | None = None


@frozen
class Lines:
    """All logical lines. `text` is all of them joined by newlines, the input of the grammar."""

    text: str
    lines: tuple[LogicalLine, ...]
    offsets: tuple[int, ...]  # of each line in text
    directives: Directives
    warnings: tuple[ParseWarning, ...]

    def position(self, offset: int) -> tuple[int, int]:
        """The physical line and column of an offset in `text`."""
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


_UTF_8 = "save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8"
_OTHER_FORMATS = (  # how the file starts, what it is, what to do
    (b"PK\x03\x04", "a zip archive", "a context can be a directory or a tar archive, also a compressed one; unzip it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "a context can be a directory or a tar archive, also a compressed one"),
    (b"\x7fELF", "a program", "name the recipe with -f"),
    (b"\xff\xfe", "text in UTF-16", _UTF_8),
    (b"\xfe\xff", "text in UTF-16", _UTF_8),
)


def decode(data: bytes | str) -> str:
    """Decode a recipe. Bytes that are not UTF-8 become surrogate escapes, which `split` allows in a few places only.

    Raises ParseError if the recipe is too long, contains a NUL byte, or is another kind of file.
    """
    if len(data) > RECIPE_BYTES.value:
        raise ParseError.beyond(RECIPE_BYTES, "the recipe exceeds the limit of {}", Span(1, 1, 1, 1))
    if isinstance(data, bytes):
        _refuse_other_formats(data)
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise ParseError("the recipe contains a NUL byte", _place(text[: text.index("\0")]))
    return text


def _refuse_other_formats(data: bytes) -> None:
    """Raise ParseError for bytes that people give as a recipe or a context and that are neither text nor a tar."""
    for start, what, hint in _OTHER_FORMATS:
        if data.startswith(start):
            raise ParseError(f"this is {what}, not a recipe", Span(1, 1, 1, 1), hint=hint)


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
    warnings = (*scanner.warnings, *_bidirectional_text(text))
    return Lines(joined, tuple(lines), tuple(offsets), scanner.directives, warnings)


def _bidirectional_text(text: str) -> list[ParseWarning]:
    found: list[ParseWarning] = []
    for match in _BIDI.finditer(text):
        if len(found) == MAX_WARNINGS:
            break
        message = f"U+{ord(match[0]):04X} changes the direction of text: the line might do something else than it shows"
        found.append(ParseWarning("BidirectionalText", message, _place(text[: match.start()])))
    return found


class _Scanner:
    def __init__(self, text: str) -> None:
        self.directives = Directives()
        self.warnings: list[ParseWarning] = []
        self._lines = text.split("\n")
        self._valid = _SURROGATE.search(text) is None  # if the whole text is valid, no line needs a check
        self._at = 0
        self._longest = LINE_CHARACTERS.value
        self._directive_lines = 0  # at the top of the recipe

    def scan(self) -> list[LogicalLine]:
        self._directives()
        found = []
        while self._at < len(self._lines):
            line = self._logical()
            if line is not None:
                found.append(line)
        return found

    def _line(self, index: int) -> str:
        """A physical line outside of heredoc bodies."""
        return self._lines[index].removesuffix("\r")

    def _refuse_surrogate(self, index: int) -> None:
        """Raise ParseError if a physical line is not valid UTF-8."""
        if not self._valid and (match := _SURROGATE.search(self._lines[index])) is not None:
            column = match.start() + 1
            raise ParseError("invalid UTF-8", Span(index + 1, column, index + 1, column + 1))

    def _directives(self) -> None:
        """Read the directives at the top, up to the first line that is not a known directive."""
        seen = set()
        for number in range(len(self._lines)):
            line = self._line(number)
            match = DIRECTIVE.match(line.strip())
            name = match[1].lower() if match else ""
            if match is None or name not in _KNOWN_DIRECTIVES:
                return
            self._refuse_surrogate(number)
            span = Span(number + 1, 1, number + 1, len(line) + 1)
            if name in seen:
                raise ParseError(f"only one {name} parser directive can be used", span)
            seen.add(name)
            match name:
                case "escape":
                    if match[2] not in ("\\", "`"):
                        raise ParseError(f"invalid escape character {match[2]!r}", span, hint="it can be \\ or `")
                    self.directives.escape = match[2]
                case "syntax":
                    self.directives.syntax = Word(match[2], span)
                case _:
                    self.directives.checks = read_checks(match[2], span)
            self._at = self._directive_lines = number + 1

    def _logical(self) -> LogicalLine | None:
        """The next instruction, or None for a blank or comment line."""
        line = self._line(self._at)
        stripped = line.lstrip()
        first = self._at
        self._at += 1
        if not stripped or stripped.startswith("#"):
            return None
        parts: list[str] = []
        pieces: list[tuple[int, int, int]] = []
        length = 0
        column = len(line) - len(stripped) + 1
        piece, goes_on = self._continues(stripped)
        only_config = not self._valid and _ONLY_CONFIG.match(stripped) is not None
        while True:
            if only_config:
                piece = _SURROGATE.sub("\ufffd", piece)
            else:
                self._refuse_surrogate(self._at - 1)
            pieces.append((length, self._at, column))
            parts.append(piece)
            length += len(piece)
            if length > self._longest:
                span = Span(first + 1, 1, first + 1, 2)
                raise ParseError.beyond(LINE_CHARACTERS, "a line exceeds the limit of {}", span)
            if not goes_on:
                break
            following = self._continuation()
            if following is None:
                break
            piece, goes_on = self._continues(following)
            column = 1
        self._warn_about_empty_line(first + 1)
        text = "".join(parts).rstrip()
        if not text:
            return None
        return LogicalLine(text, tuple(pieces), self._heredocs(text, first), self._checks_above(first))

    def _continuation(self) -> str | None:
        """The next physical line of a continued one; comments and blank lines are skipped."""
        while self._at < len(self._lines):
            line = self._line(self._at)
            self._at += 1
            bare = line.strip()
            if bare and not bare.startswith("#"):
                return line
        return None

    def _warn_about_empty_line(self, begin: int) -> None:
        """Warn about the first empty line inside a continued one. `begin` is the index of its second physical line."""
        for index in range(begin, min(self._at, len(self._lines) - 1)):
            if not self._lines[index].strip() and len(self.warnings) < MAX_WARNINGS:
                span = Span(index + 1, 1, index + 1, 1)
                self.warnings.append(ParseWarning("NoEmptyContinuation", "Empty continuation line", span))
                return

    def _continues(self, line: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether it has one. A doubled one does not count."""
        escape = self.directives.escape
        bare = line.rstrip(" \t")
        if bare.endswith(escape) and not bare.endswith(escape * 2):
            return bare[:-1], True
        return line, False

    def _checks_above(self, first: int) -> Checks | None:
        """The `# check=` comment directly above an instruction. One that is not valid is an ordinary comment."""
        match = DIRECTIVE.match(self._lines[first - 1].strip()) if first > 0 else None
        if match is None or match[1].lower() != "check" or first <= self._directive_lines:
            return None
        try:
            return read_checks(match[2], Span(first, 1, first, 1))
        except ParseError:
            return None

    def _heredocs(self, text: str, first: int) -> tuple[RawHeredoc, ...]:
        """The heredocs that a line opens, with their bodies."""
        found = []
        for opened in opened_by(text):
            line_number = self._at + 1
            body: list[str] = []
            while True:
                if self._at >= len(self._lines):
                    raise ParseError(
                        f"unterminated heredoc {opened.name}",
                        Span(first + 1, 1, first + 1, len(self._lines[first]) + 1),
                        hint=f"end it with a line that is only {opened.name}",
                    )
                raw = self._lines[self._at]
                self._at += 1
                line = raw.removesuffix("\r")
                if (line.lstrip("\t") if opened.strip_tabs else line) == opened.name:
                    break
                if not self._valid and (match := _NOT_A_BYTE.search(raw)) is not None:
                    raise ParseError("invalid UTF-8", Span(self._at, match.start() + 1, self._at, match.start() + 2))
                body.append(raw + "\n")
            found.append(opened.with_body("".join(body), line_number))
        return tuple(found)
