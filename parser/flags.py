"""The flags between the keyword of an instruction and its arguments.

As in BuildKit, `read_flags` removes quotes and escapes from the values before variables are replaced, and the escape
character is always the backslash, even in a recipe with `# escape=`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pybuild.parser.errors import ParseError
from pybuild.parser.instructions import Flag, Word
from pybuild.parser.suggest import suggest
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lark import Token

    from pybuild.parser.lines import Lines
    from pybuild.values.source import Span

_Kind: TypeAlias = Literal["text", "list", "bool"]

FLAGS: dict[str, dict[str, _Kind]] = {
    "FROM": {"platform": "text"},
    "RUN": {"mount": "list", "network": "text", "security": "text", "device": "list"},
    "COPY": {
        "from": "text", "chown": "text", "chmod": "text", "link": "bool", "parents": "bool", "exclude": "list",
    },
    "ADD": {
        "chown": "text", "chmod": "text", "link": "bool", "exclude": "list", "checksum": "text",
        "keep-git-dir": "bool", "unpack": "bool",
    },
    "HEALTHCHECK": {
        "interval": "text", "timeout": "text", "start-period": "text", "start-interval": "text", "retries": "text",
    },
}  # fmt: skip
_NEVER_EMPTY = frozenset(("mount", "network", "security", "device", "exclude"))  # others count as missing then


@frozen
class Flags:
    """The flags of one instruction, in order. The value of a flag is None if it is missing or empty."""

    items: tuple[tuple[Flag, Word | None], ...]

    @property
    def all(self) -> tuple[Flag, ...]:
        """The names and places of all flags."""
        return tuple(flag for flag, _ in self.items)

    def words(self, name: str) -> tuple[Word, ...]:
        """The values of a flag that can be given more than once."""
        return tuple(word for flag, word in self.items if flag.name == name and word is not None)

    def word(self, name: str) -> Word | None:
        """The value of a flag that can be given once; None if it is not given."""
        return next(iter(self.words(name)), None)

    def span(self, name: str) -> Span | None:
        """The place of a flag; None if it is not given."""
        return next((flag.span for flag, _ in self.items if flag.name == name), None)

    def truth(self, name: str) -> bool | None:
        """The value of a boolean flag, which is true if it has no value; None if it is not given."""
        for flag, word in self.items:
            if flag.name == name:
                return word is None or word.text.lower() == "true"
        return None


def read_flags(instruction: str, tokens: Iterable[Token], lines: Lines) -> Flags:
    """Read the tokens `--name` and `--name=value`. Raises ParseError."""
    known = FLAGS.get(instruction, {})
    found: list[tuple[Flag, Word | None]] = []
    seen: set[str] = set()
    for token in tokens:
        start, end = token.start_pos or 0, token.end_pos or 0
        name, equals, raw = token[2:].partition("=")
        span = lines.span(start, end)
        kind = known.get(name)
        if kind is None:
            similar = suggest(name, known)
            hint = f"did you mean --{similar}?" if similar else f"{instruction} takes no flags" if not known else None
            raise ParseError(f"unknown flag --{name}", span, hint=hint)
        if name in seen and kind != "list":
            raise ParseError(f"duplicate flag --{name}", span)
        seen.add(name)
        text = _unquoted(raw, span)
        if not text and (name in _NEVER_EMPTY or not (equals or kind == "bool")):
            raise ParseError(f"missing a value on flag --{name}", span, hint=f"--{name}=value")
        if kind == "bool" and text.lower() not in ("", "true", "false"):
            raise ParseError(f"--{name}={text}: expected true or false", span)
        found.append((Flag(name, span), Word(text, lines.span(start + len(name) + 3, end)) if text else None))
    return Flags(tuple(found))


def _unquoted(value: str, span: Span) -> str:
    out = []
    quote = ""
    position = 0
    while position < len(value):
        character = value[position]
        position += 1
        if character == "\\" and position < len(value):
            out.append(value[position])
            position += 1
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            out.append(character)
    if quote:
        raise ParseError(f"a quote in a flag is not closed: {quote}", span)
    return "".join(out)
