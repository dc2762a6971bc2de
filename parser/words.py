"""Quotes and variables: `$X`, `${X}` and the modifiers of `${X…}`.

A scanner over characters, each looked at once: a value that holds a `$` is not expanded again. Source of the rules:
the Dockerfile reference, "Environment replacement", and the behaviour of BuildKit's shell lexer where it is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parser.errors import ExpansionError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RESULT = 1 << 20  # characters of one expanded word
MAX_BODY = 16 << 20  # characters of one expanded heredoc
MAX_DEPTH = 64  # of ${a:-${b:-…}}
_MAX_WORK = 20_000_000  # comparisons of one pattern
_SPECIAL = frozenset("@*#?-$!0")


def expand(word: str, scope: Mapping[str, str], *, escape: str = "\\") -> str:
    """Remove quotes and escapes, replace variables. Raises ExpansionError."""
    return "".join(text for text, _ in _Expander(word, scope, escape).run())


def expand_heredoc(body: str, scope: Mapping[str, str]) -> str:
    """Replace the variables in a heredoc of COPY or ADD. Raises ExpansionError.

    Quotes are text there, and the escape character is the backslash in every recipe: `\\x` is x, whatever x is.
    """
    return "".join(text for text, _ in _Expander(body, scope, "\\", quotes=False, limit=MAX_BODY).run())


def expand_words(text: str, scope: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """As `expand`, then split at blanks that were not quoted, also those out of variables."""
    words: list[str] = []
    open_word = False
    for piece, quoted in _Expander(text, scope, escape).run():
        if quoted:
            if open_word:
                words[-1] += piece
            else:
                words.append(piece)
            open_word = True
            continue
        for character in piece:
            if character.isspace():
                open_word = False
            elif open_word:
                words[-1] += character
            else:
                words.append(character)
                open_word = True
    return words


class _Expander:
    def __init__(
        self, text: str, scope: Mapping[str, str], escape: str, *, quotes: bool = True, limit: int = MAX_RESULT
    ) -> None:
        self._text = text
        self._quotes = quotes
        self._limit = limit
        self._scope = scope
        self._escape = escape
        self._at = 0
        self._depth = 0
        self._size = 0

    def run(self) -> list[tuple[str, bool]]:
        """Pieces of the result, each with whether it was quoted."""
        return self._until("", raw=False)

    def _until(self, stop: str, *, raw: bool) -> list[tuple[str, bool]]:
        """Expand up to a stop character, which is taken; `raw` keeps escapes, for patterns."""
        pieces: list[tuple[str, bool]] = []
        text = self._text
        while self._at < len(text):
            character = text[self._at]
            if character == stop:
                self._at += 1
                return pieces
            if character == "'" and self._quotes:
                self._add(pieces, self._single(raw), quoted=True)
            elif character == '"' and self._quotes:
                self._add(pieces, self._double(raw), quoted=True)
            elif character == "$":
                self._add(pieces, self._dollar(), quoted=False)
            elif character == self._escape:
                following = text[self._at + 1 : self._at + 2]
                self._at += 2
                if following:
                    self._add(pieces, f"\\{following}" if raw else following, quoted=True)
            else:
                self._at += 1
                self._add(pieces, character, quoted=False)
        if stop:
            raise self._error(f"unexpected end of the word while looking for a matching {stop!r}")
        return pieces

    def _add(self, pieces: list[tuple[str, bool]], text: str, *, quoted: bool) -> None:
        self._size += len(text)
        if self._size > self._limit:
            raise self._error(f"a word expands to more than the limit of {self._limit} characters")
        pieces.append((text, quoted))

    def _single(self, raw: bool) -> str:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            raise self._error("unexpected end of the word while looking for a matching single quote")
        self._at = end + 1
        inner = self._text[start + 1 : end]
        # In a pattern what is quoted means itself.
        return "".join(f"\\{character}" for character in inner) if raw else inner

    def _double(self, raw: bool) -> str:
        out: list[str] = []
        self._at += 1
        text = self._text
        while self._at < len(text):
            character = text[self._at]
            if character == '"':
                self._at += 1
                return "".join(out)
            if character == "$":
                out.append(self._dollar())
                continue
            self._at += 1
            if character == self._escape:
                following = text[self._at : self._at + 1]
                if not following:
                    break
                self._at += 1
                if following in ('"', "$", self._escape):
                    out.append(f"\\{following}" if raw else following)
                else:
                    out.append(character + following)
            else:
                out.append(character)
        raise self._error("unexpected end of the word while looking for a matching double quote")

    def _dollar(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] != "{":
            name = self._name()
            return self._scope.get(name, "") if name else "$"
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"variables are nested deeper than {MAX_DEPTH}")
        result = self._braces()
        self._depth -= 1
        return result

    def _name(self) -> str:
        text, start = self._text, self._at
        if start < len(text) and text[start].isdigit():
            while self._at < len(text) and text[self._at].isdigit():
                self._at += 1
        elif start < len(text) and text[start] in _SPECIAL:
            self._at += 1
        else:
            while self._at < len(text) and (text[self._at].isalnum() or text[self._at] == "_"):
                self._at += 1
        return text[start : self._at]

    def _braces(self) -> str:
        """What stands behind `${`."""
        if self._at >= len(self._text):
            raise self._error("a variable is not closed: missing }")
        name = self._name()
        if not name:
            raise self._error("a variable without a name")
        value = self._scope.get(name)
        modifier = self._take()
        if modifier == "}":
            return value or ""
        colon = modifier == ":"
        if colon:
            modifier = self._take()
        missing = not value if colon else value is None
        if modifier in ("-", "+", "?"):
            word = self._word()
            if modifier == "-":
                return word if missing else value or ""
            if modifier == "+":
                return "" if missing else word
            if missing:
                raise self._error(
                    f"{name}: {word or ('is not allowed to be unset or empty' if colon else 'is not allowed to be unset')}"
                )
            return value or ""
        if colon or modifier not in ("#", "%", "/"):
            raise self._error(f"unsupported modifier ({':' if colon else ''}{modifier}) in the variable {name}")
        greedy = self._text[self._at : self._at + 1] == modifier
        if greedy:
            self._at += 1
        if modifier == "/":
            pattern = _Glob(self._pattern("/"))
            replacement = self._word()
            return pattern.replace(value or "", replacement, every=greedy)
        pattern = _Glob(self._pattern("}"))
        if modifier == "#":
            return pattern.strip_start(value or "", longest=greedy)
        return pattern.strip_end(value or "", longest=greedy)

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise self._error("a variable is not closed: missing }")
        self._at += 1
        return self._text[self._at - 1]

    def _word(self) -> str:
        return "".join(text for text, _ in self._until("}", raw=False))

    def _pattern(self, stop: str) -> str:
        return "".join(text for text, _ in self._until(stop, raw=True))

    def _error(self, message: str) -> ExpansionError:
        return ExpansionError(message, min(self._at, len(self._text)))


class _Glob:
    """A pattern of `*`, `?` and characters, `\\` taking the meaning from the next one. `[` means itself."""

    def __init__(self, pattern: str) -> None:
        self._items: list[str | None] = []  # a character; "" for any one; None for any number of any
        position = 0
        while position < len(pattern):
            character = pattern[position]
            position += 1
            if character == "*":
                self._items.append(None)
            elif character == "?":
                self._items.append("")
            else:
                if character == "\\" and position < len(pattern):
                    character = pattern[position]
                    position += 1
                self._items.append(character)
        self._work = 0

    def strip_start(self, value: str, *, longest: bool) -> str:
        """The value without a prefix that matches."""
        ends = self._ends(value, 0, self._items)
        return value if not ends else value[(max(ends) if longest else min(ends)) :]

    def strip_end(self, value: str, *, longest: bool) -> str:
        """The value without a suffix that matches."""
        ends = self._ends(value[::-1], 0, self._items[::-1])
        return value if not ends else value[: len(value) - (max(ends) if longest else min(ends))]

    def replace(self, value: str, replacement: str, *, every: bool) -> str:
        """The value with the first match, or every one, replaced; each match as long as can be."""
        out = []
        position = 0
        while position <= len(value):
            ends = self._ends(value, position, self._items)
            end = max(ends, default=-1)
            if end > position or (end == position and not self._items):
                out.append(replacement)
                position = end
                if not every or end == len(value):
                    break
            else:
                out.append(value[position : position + 1])
                position += 1
        out.append(value[position:])
        result = "".join(out)
        if len(result) > MAX_RESULT:
            raise ExpansionError(f"a word expands to more than the limit of {MAX_RESULT} characters")
        return result

    def _ends(self, value: str, start: int, items: list[str | None]) -> set[int]:
        """All places where a match that begins at `start` can end: every state of the pattern is followed at once."""
        states = {0}
        ends: set[int] = set()
        position = start
        while states:
            closure = set(states)
            for state in sorted(states):
                while state < len(items) and items[state] is None:
                    state += 1
                    closure.add(state)
            if len(items) in closure:
                ends.add(position)
            if position >= len(value):
                break
            self._work += len(closure)
            if self._work > _MAX_WORK:
                raise ExpansionError("a pattern takes too long to match", 0)
            character = value[position]
            states = set()
            for state in closure:
                if state < len(items):
                    item = items[state]
                    if item is None:
                        states.add(state)
                    elif item in ("", character):
                        states.add(state + 1)
            position += 1
        return ends
