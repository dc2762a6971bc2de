"""The heredocs that a line opens.

The rules are those of BuildKit's scanner, not of the shell that runs the line: in RUN, COPY, ADD and in ONBUILD triggers of
these, a heredoc is a word `<<NAME`, `<<-NAME` or `3<<NAME`, unless the arguments are a JSON list. The escape character is
always the backslash.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from pybuild.values import frozen
from pybuild.values.pattern import pattern

_WORD = pattern(r"\d*<<(-?)([^<]+)")
_KEYWORD = pattern(r"\s*(?:onbuild\s+)?(?:run|copy|add)(?=\s)", re.IGNORECASE)
_FLAG = pattern(r"\s+--\S+")


@frozen
class RawHeredoc:
    """A heredoc; `start` and `end` are offsets in the logical line. `body` begins at the physical line `line` of the file."""

    start: int
    end: int
    name: str
    expand: bool
    strip_tabs: bool
    body: str = ""
    line: int = 0

    def with_body(self, body: str, line: int) -> RawHeredoc:
        """The same heredoc with its body."""
        return replace(self, body=body, line=line)


def opened_by(text: str) -> list[RawHeredoc]:
    """The heredocs of a logical line, in the order of their bodies."""
    if "<<" not in text or (keyword := _KEYWORD.match(text)) is None:
        return []
    position = keyword.end()
    while (flag := _FLAG.match(text, position)) is not None:
        position = flag.end()
    if _is_list(text[position:].strip()):
        return []
    words = word_ranges(text)
    if words is None:
        return []
    return [heredoc for start, end in words if (heredoc := _heredoc(text[start:end], start)) is not None]


def is_one_heredoc(text: str) -> bool:
    """Whether a command line consists of one `<<NAME` only."""
    return _heredoc(text, 0) is not None


def _is_list(text: str) -> bool:
    if not text.startswith("["):
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(item, str) for item in found)


def _heredoc(word: str, start: int) -> RawHeredoc | None:
    match = _WORD.fullmatch(word)
    if match is None:
        return None
    delimiter = match[2]
    ranges = word_ranges(delimiter)
    if ranges is None or ranges != [(0, len(delimiter))]:
        return None
    name = _unquoted(delimiter)
    if not name:
        return None
    return RawHeredoc(start, start + len(word), name, name == delimiter, bool(match[1]))


def _unquoted(word: str) -> str:
    """The word without quotes and escapes; variables stay."""
    out = []
    quote = ""
    position = 0
    while position < len(word):
        character = word[position]
        position += 1
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\" and quote == '"' and word[position : position + 1] in ('"', "$", "\\"):
                out.append(word[position])
                position += 1
            else:
                out.append(character)
        elif character in "\"'":
            quote = character
        elif character == "\\":
            out.append(word[position : position + 1])
            position += 1
        else:
            out.append(character)
    return "".join(out)


def word_ranges(text: str) -> list[tuple[int, int]] | None:
    """The offsets of the words of a text, split at blanks that are neither quoted nor escaped.

    None if a quote is not closed.
    """
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
                elif character == "\\" and quote == '"':
                    position += 1
            elif character in "\"'":
                quote = character
            elif character == "\\":
                position += 1
            elif character.isspace():
                found.append((start, position))
                start = -1
        position += 1
    if quote:
        return None
    if start >= 0:
        found.append((start, min(position, len(text))))
    return found
