"""The door to lark: reads one logical line by buildfile.lark. Imported only when something must really be parsed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lark import Lark
from lark.exceptions import UnexpectedInput
from lark.lexer import PatternRE, TerminalDef, Token

from parser.lexeme import Lexeme

if TYPE_CHECKING:
    from parser.lines import LogicalLine

GRAMMAR = Path(__file__).with_name("buildfile.lark")


def lexemes(line: LogicalLine, escape: str) -> list[Lexeme]:
    """The flags and arguments of `line`, whose keyword is one of the grammar's, in order.

    Raises ParseError where the grammar has no reading of it.
    """
    try:
        tree = _parser(escape).parse(line.text)
    except UnexpectedInput as error:
        start = min(max(error.pos_in_stream or 0, 0), len(line.text))
        raise line.error("this line cannot be read", start, start + 1) from None
    return [Lexeme(token.type, str(token), token.start_pos or 0) for token in cast("list[Token]", tree.children)]


# Built once for each of the two escapes: making the tables costs more than reading a whole recipe.
@cache
def _parser(escape: str) -> Lark:
    def with_escape(terminal: TerminalDef) -> None:
        if terminal.name == "QUOTED" and escape != "\\":
            terminal.pattern = PatternRE(terminal.pattern.value.replace("\\\\", escape), terminal.pattern.flags)

    grammar = GRAMMAR.read_text("utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=False, edit_terminals=with_escape)
