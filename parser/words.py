"""Expansion of words: quotes, escapes, `$X`, `${X}` and the modifiers of `${X…}`.

One pass over the characters; a `$` in the value of a variable is not expanded again. The rules are those of the Dockerfile
reference, "Environment replacement", and, where the reference is silent, those of BuildKit's shell lexer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING, Protocol

from pybuild.parser.errors import ExpansionError
from pybuild.parser.globs import Glob
from pybuild.values.limits import HEREDOC_CHARACTERS, WORD_CHARACTERS
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.values.limits import Limit

MAX_DEPTH = 64  # nesting of ${a:-${b:-…}}
_PARTS = pattern(r"\s+|\S+")
_SPECIAL = frozenset("@*#?-$!0")


def expand(word: str, scope: Mapping[str, str], *, escape: str = "\\") -> str:
    """Remove quotes and escapes, replace variables. Raises ExpansionError."""
    text = _Text()
    _Expander(word, scope, escape).run(text)
    return text.end()


def expand_heredoc(body: str, scope: Mapping[str, str]) -> str:
    """Replace the variables in a heredoc of COPY or ADD. Raises ExpansionError.

    Quotes are text there, and the escape character is the backslash in every recipe: `\\x` becomes x for every x.
    """
    text = _Text()
    _Expander(body, scope, "\\", quotes=False, limit=HEREDOC_CHARACTERS).run(text)
    return text.end()


def expand_words(text: str, scope: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Expand like `expand`, then split at unquoted blanks, including those of variable values."""
    words = _Words()
    _Expander(text, scope, escape).run(words)
    return words.end()


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


class _Parts(Protocol):
    """Takes the parts of a result, in order, each with whether it was quoted."""

    def add(self, text: str, *, quoted: bool) -> None: ...


class _Text:
    """A result as one text. It takes a few bytes a character, however small the parts are."""

    def __init__(self) -> None:
        self._text = StringIO()

    def add(self, text: str, *, quoted: bool) -> None:
        self._text.write(text)

    def end(self) -> str:
        return self._text.getvalue()


class _Words:
    """A result split at its unquoted blanks."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._open: StringIO | None = None

    def add(self, text: str, *, quoted: bool) -> None:
        if quoted:
            self._append(text)
            return
        for part in _PARTS.findall(text):
            if part[0].isspace():
                self._close()
            else:
                self._append(part)

    def end(self) -> list[str]:
        self._close()
        return self._words

    def _append(self, text: str) -> None:
        if self._open is None:
            self._open = StringIO()
        self._open.write(text)

    def _close(self) -> None:
        if self._open is not None:
            self._words.append(self._open.getvalue())
            self._open = None


@cache
def _plain(special: str) -> re.Pattern[str]:
    """Text without any of these characters."""
    return re.compile(f"[^{re.escape(special)}]+")


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

    def run(self, out: _Parts) -> None:
        """Put the parts of the result into `out`."""
        self._until("", out, raw=False)

    def _until(self, stop: str, out: _Parts, *, raw: bool) -> None:
        """Expand up to and including a stop character. `raw` keeps escapes, as backslashes, for patterns."""
        text = self._text
        plain = _plain(f"{stop}${self._escape}" + ("'\"" if self._quotes else ""))
        while self._at < len(text):
            character = text[self._at]
            if character == stop:
                self._at += 1
                return
            if character == "'" and self._quotes:
                self._add(out, self._single(), quoted=True)
            elif character == '"' and self._quotes:
                self._add(out, self._double(raw), quoted=True)
            elif character == "$":
                self._add(out, self._dollar(), quoted=False)
            elif character == self._escape:
                following = text[self._at + 1 : self._at + 2]
                self._at += 2
                if following:
                    self._add(out, f"\\{following}" if raw else following, quoted=True)
            else:
                self._add(out, self._run_of(plain), quoted=False)
        if stop:
            raise self._error(f"unexpected end of the word while looking for a matching {stop!r}")

    def _run_of(self, plain: re.Pattern[str]) -> str:
        """The characters from here on that mean themselves: at least one."""
        found = plain.match(self._text, self._at)
        assert found is not None, self._at
        self._at = found.end()
        return found[0]

    def _add(self, out: _Parts, text: str, *, quoted: bool) -> None:
        self._count(len(text))
        self._size += len(text)
        out.add(text, quoted=quoted)

    def _count(self, more: int) -> None:
        """Raise ExpansionError if the result would become too long."""
        if self._size + more > self._most:
            raise self._error(f"a word expands to more than the limit of {self._limit.shown()}", self._limit.hint())

    def _single(self) -> str:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            raise self._error("unexpected end of the word while looking for a matching single quote")
        self._at = end + 1
        return self._text[start + 1 : end]

    def _double(self, raw: bool) -> str:
        out = StringIO()
        self._at += 1
        text = self._text
        plain = _plain(f'"${self._escape}')
        while self._at < len(text):
            self._count(out.tell())
            character = text[self._at]
            if character == '"':
                self._at += 1
                return out.getvalue()
            if character == "$":
                out.write(self._dollar())
            elif character == self._escape:
                self._at += 1
                following = text[self._at : self._at + 1]
                if raw:
                    out.write("\\")
                if following and following in ('"', "$", self._escape):
                    self._at += 1
                    character = following
                out.write(character)
            else:
                out.write(self._run_of(plain))
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
        out = _Text()
        self._until("}", out, raw=False)
        return out.end()

    def _raw(self, stop: str) -> str:
        out = _Text()
        self._until(stop, out, raw=True)
        return out.end()

    def _error(self, message: str, hint: str | None = None) -> ExpansionError:
        return ExpansionError(message, min(self._at, len(self._text)), hint=hint)
