"""Reading the words of an instruction: places, JSON lists, pairs, heredocs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.parser.errors import ParseError
from pybuild.parser.instructions import ArgItem, Heredoc, Word

if TYPE_CHECKING:
    from lark import Token

    from pybuild.parser.lines import Lines, LogicalLine
    from pybuild.values.source import Span


class LineReader:
    """Reads the tokens of the logical line with this index."""

    def __init__(self, lines: Lines, index: int) -> None:
        self._lines = lines
        self._line: LogicalLine = lines.lines[index]
        self._start = lines.offsets[index]
        self._index = index
        self._keyword = ""  # in upper case
        self._text = ""  # of the instruction
        self._instruction_span: Span

    def _arg_item(self, token: Token) -> ArgItem:
        written, equals, _ = token.partition("=")
        name = written[1:-1] if len(written) > 1 and written[0] == written[-1] and written[0] in "\"'" else written
        if not name:
            raise ParseError("ARG names can not be blank", self._span(token))
        if any(character in "$\"'\\`" or character.isspace() for character in name):
            raise ParseError(f"invalid ARG name {name!r}: variables in it are not replaced", self._span(token))
        return ArgItem(name, self._part(token, len(written) + 1) if equals else None)

    def _pairs(self, words: list[Token]) -> tuple[tuple[Word, Word], ...]:
        """`name=value …`, or the old form `name value` if the first word has no `=`."""
        first = self._at_least_one(words)[0]
        if "=" not in first:
            if len(words) < 2:
                raise ParseError(
                    f"{self._keyword} must have two arguments",
                    self._instruction_span,
                    hint=f"{self._keyword} name=value",
                )
            start, end = words[1].start_pos, words[-1].end_pos
            assert start is not None and end is not None
            value = Word(self._lines.text[start:end].rstrip(), self._lines.span(start, end))
            return ((self._word(first), value),)
        pairs = []
        for token in words:
            key, equals, _ = token.partition("=")
            if not equals:
                raise ParseError(
                    f"syntax error: can't find = in {token.value!r}",
                    self._span(token),
                    hint="it must be of the form name=value",
                )
            if not key:
                raise ParseError(f"{self._keyword} names can not be blank", self._span(token))
            start = token.start_pos or 0
            pairs.append((Word(key, self._lines.span(start, start + len(key))), self._part(token, len(key) + 1)))
        return tuple(pairs)

    def _list_or_words(self, words: list[Token]) -> list[Word]:
        """The strings of a JSON list, or the words. Variables are replaced in both later."""
        if len(words) == 1 and words[0].type == "LIST":
            found = self._json(words[0])
            if found is not None:
                return [Word(text, self._span(words[0])) for text in found]
            return [Word(part, self._span(words[0])) for part in words[0].split()]
        self._refuse_other_lists(words)
        return [self._word(word) for word in words]

    def _heredocs(self) -> tuple[Heredoc, ...]:
        return tuple(
            Heredoc(
                raw.name,
                raw.body,
                raw.expand,
                raw.strip_tabs,
                self._lines.span(self._start + raw.start, self._start + raw.end),
                raw.line,
            )
            for raw in self._line.heredocs
        )

    def _json(self, token: Token) -> list[str] | None:
        """The strings of a list; None if it is not valid JSON, for instance has an unknown escape: it is then text for a shell."""
        try:
            found = json.loads(token)
        except ValueError:
            return None
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            return None
        # Half of a surrogate pair is not a character; Go's decoder replaces it with U+FFFD.
        texts = [item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in found]
        if any("\0" in text for text in texts):
            raise ParseError("a string contains a NUL character", self._span(token))
        return texts

    def _refuse_other_lists(self, words: list[Token]) -> None:
        """Raise ParseError for a JSON list with other items than strings. Text that is not JSON is allowed."""
        if not words or not words[0].startswith("["):
            return
        start, end = words[0].start_pos, words[-1].end_pos
        try:
            found = json.loads(self._lines.text[start:end])
        except (ValueError, RecursionError):
            return
        if isinstance(found, list) and not all(isinstance(item, str) for item in found):
            raise ParseError(
                "only string type is allowed in JSON format arrays", self._lines.span(start or 0, end or 0)
            )

    def _literal(self, word: Word) -> bool:
        """Whether a word has no quotes, escapes or variables; then its value can be checked now."""
        return not any(character in word.text for character in ("$", '"', "'", self._lines.directives.escape))

    def _at_least_one(self, words: list[Token]) -> list[Token]:
        if not words:
            raise ParseError(f"{self._keyword} requires at least one argument", self._instruction_span)
        return words

    def _exactly_one(self, words: list[Token]) -> Token:
        if not words:
            raise ParseError(f"{self._keyword} requires exactly one argument", self._instruction_span)
        return words[0]

    def _word(self, token: Token) -> Word:
        return Word(token.rstrip(), self._span(token))

    def _part(self, token: Token, offset: int) -> Word:
        """The word that begins at an offset of a token."""
        start, end = token.start_pos or 0, token.end_pos or 0
        return Word(token[offset:], self._lines.span(start + offset, end))

    def _span(self, token: Token) -> Span:
        return self._lines.span(token.start_pos or 0, token.end_pos or 0)
