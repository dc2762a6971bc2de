"""Here-documents on a logical line: which of its words open one."""

from __future__ import annotations

import re
from typing import NamedTuple

# The form that BuildKit takes: an optional descriptor, << or <<-, then the delimiter; <<< is the shell's own.
OPENER = re.compile(r"[0-9]*<<(-?)([^<]+)")


class Opener(NamedTuple):
    """`<<EOF` at `start` of a logical line. `expand`: the delimiter was bare; `chomp`: it was `<<-`."""

    name: str
    expand: bool
    chomp: bool
    start: int
    end: int


def openers(text: str) -> list[Opener]:
    """The here-documents that `text` opens, in order; none where a quote stays open, for then no word is sure."""
    found: list[Opener] = []
    if "<<" not in text:
        return found
    words = _words(text)
    for start, word in words or ():
        match = OPENER.fullmatch(word)
        if match is None:
            continue
        name = _unquoted(match[2])
        if name:
            found.append(Opener(name, name == match[2], match[1] == "-", start, start + len(word)))
    return found


def _words(text: str) -> list[tuple[int, str]] | None:
    """The blank-separated words of `text` with their offsets, quotes kept; None where a quote is never closed."""
    words: list[tuple[int, str]] = []
    start, quote, position = -1, "", 0
    while position < len(text):
        char = text[position]
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"':
                position += 1
        elif char.isspace():
            if start >= 0:
                words.append((start, text[start:position]))
            start = -1
        else:
            start = position if start < 0 else start
            if char in "'\"":
                quote = char
            elif char == "\\":
                position += 1
        position += 1
    if start >= 0:
        words.append((start, text[start:]))
    return None if quote else words


def _unquoted(word: str) -> str:
    return re.sub(r"""\\(.)|['"]""", lambda match: match[1] or "", word)
