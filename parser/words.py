"""Expansion of words: quotes, escapes, `$X`, `${X}` and the modifiers of `${X…}`.

One pass over the characters; a `$` in the value of a variable is not expanded again. The rules are those of the Dockerfile
reference, "Environment replacement", and, where the reference is silent, those of BuildKit's shell lexer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pybuild.parser.errors import ExpansionError
from pybuild.parser.globs import Glob
from pybuild.values.limits import HEREDOC_CHARACTERS, WORD_CHARACTERS

if TYPE_CHECKING:
    from pybuild.values.limits import Limit

MAX_DEPTH = 64  # nesting of ${a:-${b:-…}}
_SPECIAL = frozenset("@*#?-$!0")


def expand(word: str, scope: Mapping[str, str], *, escape: str = "\\") -> str:
    """Remove quotes and escapes, replace variables. Raises ExpansionError."""
    return "".join(text for text, _ in _Expander(word, scope, escape).run())


def expand_heredoc(body: str, scope: Mapping[str, str]) -> str:
    """Replace the variables in a heredoc of COPY or ADD. Raises ExpansionError.

    Quotes are text there, and the escape character is the backslash in every recipe: `\\x` becomes x for every x.
    """
    return "".join(text for text, _ in _Expander(body, scope, "\\", quotes=False, limit=HEREDOC_CHARACTERS).run())


def expand_words(text: str, scope: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Expand like `expand`, then split at unquoted blanks, including those of variable values."""
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


class RecordingScope(Mapping[str, str]):
    """A scope that records, in order, the names that were looked up: those that are set in `found`, others in `missing`."""

    def __init__(self, scope: Mapping[str, str]) -> None:
        self._scope = scope
        self.found: dict[str, None] = {}
        self.missing: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        try:
            value = self._scope[name]
        except KeyError:
            self.missing[name] = None
            raise
        self.found[name] = None
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope)

    def __len__(self) -> int:
        return len(self._scope)


class _Expander:
    def __init__(
        self, text: str, scope: Mapping[str, str], escape: str, *, quotes: bool = True, limit: Limit = WORD_CHARACTERS
    ) -> None:
        self._text = text
        self._quotes = quotes
        self._limit, self._most = limit, limit.value
        self._scope = scope
        self._escape = escape
        self._at = 0
        self._depth = 0
        self._size = 0

    def run(self) -> list[tuple[str, bool]]:
        """The pieces of the result, each with whether it was quoted."""
        return self._until("", raw=False)

    def _until(self, stop: str, *, raw: bool) -> list[tuple[str, bool]]:
        """Expand up to and including a stop character. `raw` keeps escapes, as backslashes, for patterns."""
        pieces: list[tuple[str, bool]] = []
        text = self._text
        while self._at < len(text):
            character = text[self._at]
            if character == stop:
                self._at += 1
                return pieces
            if character == "'" and self._quotes:
                self._add(pieces, self._single(), quoted=True)
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
        if self._size > self._most:
            raise self._error(f"a word expands to more than the limit of {self._limit.shown()}", self._limit.hint())
        pieces.append((text, quoted))

    def _single(self) -> str:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            raise self._error("unexpected end of the word while looking for a matching single quote")
        self._at = end + 1
        return self._text[start + 1 : end]

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
                if raw:
                    out.append("\\")
                following = text[self._at : self._at + 1]
                if following and following in ('"', "$", self._escape):
                    self._at += 1
                    character = following
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
            raise self._error(f"variables are nested deeper than the limit of {MAX_DEPTH}")
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
        """Expand the rest of a variable after `${`."""
        if self._at >= len(self._text):
            raise self._error("a variable is not closed: missing }")
        name = self._name()
        if not name:
            raise self._error("a variable without a name")
        value = self._scope.get(name)
        modifier = self._next()
        if modifier == "}":
            return value or ""
        colon = modifier == ":"
        if colon:
            modifier = self._next()
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
            pattern = Glob(self._raw("/"))
            # The replacement keeps its backslashes, as in BuildKit; otherwise it could not contain one.
            return pattern.replace(value or "", self._raw("}"), every=greedy, limit=self._limit)
        pattern = Glob(self._raw("}"))
        if modifier == "#":
            return pattern.strip_start(value or "", longest=greedy)
        return pattern.strip_end(value or "", longest=greedy)

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise self._error("a variable is not closed: missing }")
        self._at += 1
        return self._text[self._at - 1]

    def _word(self) -> str:
        return "".join(text for text, _ in self._until("}", raw=False))

    def _raw(self, stop: str) -> str:
        return "".join(text for text, _ in self._until(stop, raw=True))

    def _error(self, message: str, hint: str | None = None) -> ExpansionError:
        return ExpansionError(message, min(self._at, len(self._text)), hint=hint)
