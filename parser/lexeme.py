"""One token of a logical line, free of the parser that found it."""

from __future__ import annotations

from typing import NamedTuple


class Lexeme(NamedTuple):
    """`kind` is the terminal's name in buildfile.lark; `start` an offset into the logical line."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)
