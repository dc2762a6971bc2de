"""Turns logical lines into a recipe: the grammar parses them, each line becomes an instruction, each FROM begins a stage."""

from __future__ import annotations

import pkgutil
import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from lark import Lark, Tree
from lark.exceptions import UnexpectedInput
from lark.lexer import PatternRE, TerminalDef

from pybuild.parser.buildfile import Buildfile, Stage
from pybuild.parser.checks import check_text
from pybuild.parser.errors import ParseError
from pybuild.parser.instructions import Arg, From, Instruction, Maintainer, Onbuild
from pybuild.parser.reading import read_instruction
from pybuild.values.limits import INSTRUCTIONS, STAGES, WORDS
from pybuild.values.source import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from lark import Token

    from pybuild.parser.lines import Lines
    from pybuild.values.source import Source

_WORDS = ("ADD", "ARG", "COPY", "ENV", "EXPOSE", "FROM", "LABEL", "VOLUME")


class UnreadableLine(ParseError):
    """The grammar cannot read a line, so the lines after it have not been read either."""


@cache
def _grammar(escape: str) -> Lark:
    # pkgutil also reads the file if pybuild runs from a zip archive.
    text = (pkgutil.get_data(__name__, "buildfile.lark") or b"").decode("utf-8")

    def edit(terminal: TerminalDef) -> None:
        # In pairs the escape character of the recipe escapes a quote; in flags it is always the backslash.
        if terminal.name == "QUOTED":
            pattern = terminal.pattern.value.replace(r"\\", re.escape(escape))
            terminal.pattern = PatternRE(pattern, terminal.pattern.flags)

    return Lark(
        text,
        parser="lalr",
        lexer="contextual",
        propagate_positions=False,
        maybe_placeholders=False,
        edit_terminals=edit,
    )


def _parse(lines: Lines) -> Tree[Token]:
    if not lines.lines:
        raise ParseError("file with no instructions", Span(1, 1, 1, 1), hint="a recipe begins with FROM")
    if len(lines.lines) > INSTRUCTIONS.value:
        raise ParseError.beyond(INSTRUCTIONS, "the recipe exceeds the limit of {} instructions", lines.span(0, 0))
    if len(lines.text) > WORDS.value:
        _count_words(lines)
    try:
        return _grammar(lines.directives.escape).parse(lines.text)
    except UnexpectedInput as error:
        offset = error.pos_in_stream if isinstance(error.pos_in_stream, int) and error.pos_in_stream >= 0 else 0
        raise UnreadableLine("this cannot be read as an instruction", lines.span(offset, offset + 1)) from None


def _count_words(lines: Lines) -> None:
    """Raise ParseError if there are too many words. Each takes about 500 bytes of memory."""
    count, most = 0, WORDS.value
    for line, offset in zip(lines.lines, lines.offsets, strict=True):
        if line.text[:6].upper().startswith(_WORDS):
            count += len(line.text.split())
            if count > most:
                span = lines.span(offset, offset + 1)
                raise ParseError.beyond(WORDS, "the recipe exceeds the limit of {} words", span)


def _stop(error: ParseError, index: int) -> None:
    raise error


def transform(lines: Lines, source: Source, on_error: Callable[[ParseError, int], None] = _stop) -> Buildfile:
    """Parse the logical lines of a recipe. Raises ParseError.

    `on_error` takes each mistake in a single instruction, with the index of its line; if it does not raise, the
    instruction is left out.
    """
    args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    misplaced = False
    for index, node in enumerate(_parse(lines).children):
        assert isinstance(node, Tree)
        try:
            instruction = read_instruction(node, lines, index)
            if not stages and not isinstance(instruction, From | Arg):
                if misplaced:
                    continue  # the first one says enough
                misplaced = True
                raise ParseError(
                    f"no build stage in current context: {instruction.keyword} before FROM", instruction.span,
                    hint="a recipe begins with FROM; only ARG may come before it",
                )  # fmt: skip
        except ParseError as error:
            on_error(error, index)
            continue
        match instruction:
            case From():
                stages.append((instruction, []))
                if len(stages) > STAGES.value:
                    raise ParseError.beyond(STAGES, "the recipe exceeds the limit of {} stages", instruction.span)
            case Arg() if not stages:
                args.append(instruction)
            case _:
                stages[-1][1].append(instruction)
    if not stages:
        span = args[-1].span if args else lines.span(0, 0)
        raise ParseError("the recipe has no FROM", span, hint="a recipe begins with FROM")
    buildfile = Buildfile(
        source,
        lines.directives.escape,
        tuple(args),
        tuple(Stage(index, base, tuple(rest)) for index, (base, rest) in enumerate(stages)),
        lines.directives.syntax,
        lines.directives.checks,
        tuple((line.pieces[0][1], line.checks) for line in lines.lines if line.checks is not None),
        lines.warnings,
    )
    return replace(buildfile, warnings=check_text(buildfile))


def transform_trigger(lines: Lines) -> Instruction:
    """Parse the one instruction of an ONBUILD trigger of an image. Raises ParseError."""
    nodes = _parse(lines).children
    node = nodes[0]
    assert isinstance(node, Tree)
    instruction = read_instruction(node, lines, 0)
    if isinstance(instruction, From | Maintainer | Onbuild):
        raise ParseError(f"{instruction.keyword} isn't allowed as an ONBUILD trigger", instruction.span)
    if len(nodes) != 1:
        raise ParseError(
            "an ONBUILD trigger must be exactly one instruction", lines.span(lines.offsets[1], lines.offsets[1] + 1)
        )
    return instruction
