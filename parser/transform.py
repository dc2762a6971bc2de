"""From the tree of the grammar to instructions, with every rule that the text alone decides."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from parser.errors import ParseError
from parser.instructions import (
    Arg,
    ArgItem,
    Buildfile,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Instruction,
    Label,
    Run,
    Shell,
    ShellForm,
    Stage,
    Stopsignal,
    User,
    Volume,
    Word,
    Workdir,
)
from parser.source import Source, Span
from parser.suggest import suggest

if TYPE_CHECKING:
    from parser.lines import Lines

MAX_INSTRUCTIONS = 100_000
MAX_STAGES = 1000
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_FLAGS = {"COPY": ("from", "chown", "chmod")}
_LATER_FLAGS = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("link", "parents", "exclude"),
}


@cache
def _grammar() -> Lark:
    text = Path(__file__).with_name("buildfile.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer="contextual", propagate_positions=False, maybe_placeholders=False)


def transform(lines: Lines, source: Source) -> Buildfile:
    """Parse the joined logical lines. Raises ParseError."""
    if not lines.lines:
        raise ParseError("file with no instructions", Span(1, 1, 1, 1), hint="a recipe begins with FROM")
    if len(lines.lines) > MAX_INSTRUCTIONS:
        raise ParseError(f"more than the limit of {MAX_INSTRUCTIONS} instructions", lines.span(0, 0))
    try:
        tree = _grammar().parse(lines.text)
    except UnexpectedInput as error:
        offset = error.pos_in_stream if isinstance(error.pos_in_stream, int) and error.pos_in_stream >= 0 else 0
        raise ParseError("this cannot be read as an instruction", lines.span(offset, offset + 1)) from None
    return _Reader(lines, source).read(tree)


class _Reader:
    def __init__(self, lines: Lines, source: Source) -> None:
        self._lines = lines
        self._source = source

    def read(self, tree: Tree[Token]) -> Buildfile:
        args: list[Arg] = []
        stages: list[tuple[From, list[Instruction]]] = []
        for index, node in enumerate(tree.children):
            assert isinstance(node, Tree)
            instruction = self._instruction(node, index)
            match instruction:
                case From():
                    stages.append((instruction, []))
                    if len(stages) > MAX_STAGES:
                        raise ParseError(f"more than the limit of {MAX_STAGES} stages", instruction.span)
                case Arg() if not stages:
                    args.append(instruction)
                case _ if not stages:
                    raise ParseError(
                        f"no build stage in current context: {instruction.keyword} before FROM", instruction.span,
                        hint="a recipe begins with FROM; only ARG may come before it",
                    )  # fmt: skip
                case _:
                    stages[-1][1].append(instruction)
        if not stages:
            raise ParseError("the recipe has no FROM", args[-1].span, hint="a recipe begins with FROM")
        return Buildfile(
            self._source,
            self._lines.escape,
            tuple(args),
            tuple(Stage(index, base, tuple(rest)) for index, (base, rest) in enumerate(stages)),
        )

    def _instruction(self, node: Tree[Token], index: int) -> From | Instruction:
        tokens = [token for token in node.children if isinstance(token, Token)]
        keyword, *rest = tokens
        name = keyword.upper()
        line = self._lines.lines[index]
        start = self._lines.offsets[index]
        span = self._lines.span(start, start + len(line.text))
        if node.data == "unknown":
            similar = suggest(name, _KEYWORDS)
            raise ParseError(
                f"unknown instruction {keyword}" if name != name.lower() else f"unknown instruction {keyword!r}",
                self._span(keyword),
                hint=f"did you mean {similar}?" if similar else None,
            )
        if node.data == "later":
            raise ParseError(f"{name} is not supported yet", self._span(keyword))
        flags = self._flags(name, [token for token in rest if token.type == "FLAG"])
        if line.heredoc is not None:
            raise ParseError(f"heredocs (<<{line.heredoc}) are not supported yet", span)
        words = [token for token in rest if token.type != "FLAG"]
        return self._read(name, keyword, words, flags, span, line.text)

    def _read(
        self, name: str, keyword: Token, words: list[Token], flags: dict[str, Word], span: Span, text: str
    ) -> From | Instruction:
        match name:
            case "FROM":
                return self._from(words, span, text)
            case "ARG":
                return Arg(span, text, tuple(self._arg_item(word) for word in self._some(words, name, span)))
            case "ENV":
                return Env(span, text, self._pairs(name, words, span))
            case "LABEL":
                return Label(span, text, self._pairs(name, words, span))
            case "RUN":
                return Run(span, text, self._command(self._one(words, name, span)))
            case "CMD":
                return Cmd(span, text, self._command(words[0]) if words else ExecForm(()))
            case "ENTRYPOINT":
                return Entrypoint(span, text, self._command(words[0]) if words else ExecForm(()))
            case "COPY":
                return self._copy(words, flags, span, text)
            case "WORKDIR":
                return Workdir(span, text, self._word(self._one(words, name, span)))
            case "USER":
                return User(span, text, self._word(self._one(words, name, span)))
            case "STOPSIGNAL":
                return Stopsignal(span, text, self._word(self._one(words, name, span)))
            case "EXPOSE":
                return Expose(span, text, tuple(self._word(word) for word in self._some(words, name, span)))
            case "VOLUME":
                return Volume(span, text, tuple(self._list_or_words(self._some(words, name, span))))
            case "SHELL":
                token = self._one(words, name, span)
                command = self._command(token)
                if not isinstance(command, ExecForm) or not command.argv:
                    raise ParseError(
                        "SHELL takes a JSON list", self._span(token), hint='for instance SHELL ["/bin/bash", "-c"]'
                    )
                return Shell(span, text, command.argv)
            case _:
                raise AssertionError(keyword)

    def _from(self, words: list[Token], span: Span, text: str) -> From:
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise ParseError(
                "FROM requires either one or three arguments", span, hint="FROM image, or FROM image AS name"
            )
        alias = words[2].lower() if len(words) == 3 else None
        if alias is not None and not _STAGE_NAME.fullmatch(alias):
            raise ParseError(
                f"invalid name for build stage: {words[2].value!r}", self._span(words[2]),
                hint="it begins with a letter and goes on with letters, digits, - _ and .",
            )  # fmt: skip
        return From(span, text, self._word(words[0]), alias)

    def _arg_item(self, token: Token) -> ArgItem:
        name, equals, _ = token.partition("=")
        name = name.strip("\"'")
        if not name:
            raise ParseError("ARG names can not be blank", self._span(token))
        return ArgItem(name, self._part(token, len(token.partition("=")[0]) + 1) if equals else None)

    def _pairs(self, name: str, words: list[Token], span: Span) -> tuple[tuple[Word, Word], ...]:
        """`name=value …`, or the old form `name value`, which the first word decides by having no `=`."""
        first = self._some(words, name, span)[0]
        if "=" not in first:
            if len(words) < 2:
                raise ParseError(f"{name} must have two arguments", span, hint=f"{name} name=value")
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
                raise ParseError(f"{name} names can not be blank", self._span(token))
            start = token.start_pos or 0
            pairs.append((Word(key, self._lines.span(start, start + len(key))), self._part(token, len(key) + 1)))
        return tuple(pairs)

    def _copy(self, words: list[Token], flags: dict[str, Word], span: Span, text: str) -> Copy:
        paths = self._list_or_words(words)
        if len(paths) < 2:
            raise ParseError(
                f"COPY requires at least two arguments, but only {len(paths)} {'was' if len(paths) == 1 else 'were'} given", span,
                hint="COPY source … destination",
            )  # fmt: skip
        return Copy(span, text, tuple(paths[:-1]), paths[-1], flags.get("from"), flags.get("chown"), flags.get("chmod"))

    def _list_or_words(self, words: list[Token]) -> list[Word]:
        if len(words) == 1 and words[0].type == "LIST":
            found = _json_list(words[0])
            if found is not None:
                return [Word(self._literal(text), self._span(words[0])) for text in found]
        self._refuse_other_lists(words)
        if len(words) == 1 and words[0].type == "LIST":
            return [Word(part, self._span(words[0])) for part in words[0].split()]
        return [self._word(word) for word in words]

    def _literal(self, text: str) -> str:
        """A JSON string is expanded like a word, so it stays as it is."""
        return text

    def _command(self, token: Token) -> Command:
        if token.type == "LIST":
            found = _json_list(token)
            if found is not None:
                return ExecForm(tuple(found))
        self._refuse_other_lists([token])
        return ShellForm(token.rstrip())

    def _refuse_other_lists(self, words: list[Token]) -> None:
        """A JSON list of something else than strings is a mistake; what is no JSON is text."""
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

    def _flags(self, name: str, tokens: list[Token]) -> dict[str, Word]:
        found: dict[str, Word] = {}
        known, later = _FLAGS.get(name, ()), _LATER_FLAGS.get(name, ())
        for token in tokens:
            flag, equals, value = token[2:].partition("=")
            if flag in later:
                raise ParseError(f"{name} --{flag} is not supported yet", self._span(token))
            if flag not in known:
                similar = suggest(flag, (*known, *later))
                hint = f"did you mean --{similar}?" if similar else f"{name} takes no flag" if not known else None
                raise ParseError(f"unknown flag --{flag}", self._span(token), hint=hint)
            if flag in found:
                raise ParseError(f"duplicate flag --{flag}", self._span(token))
            if not equals or not value:
                raise ParseError(f"missing a value on flag --{flag}", self._span(token), hint=f"--{flag}=value")
            found[flag] = self._part(token, len(flag) + 3)
        return found

    def _some(self, words: list[Token], name: str, span: Span) -> list[Token]:
        if not words:
            raise ParseError(f"{name} requires at least one argument", span)
        return words

    def _one(self, words: list[Token], name: str, span: Span) -> Token:
        if not words:
            self._fail(f"{name} requires exactly one argument", span)
        return words[0]

    @staticmethod
    def _fail(message: str, span: Span) -> NoReturn:
        raise ParseError(message, span)

    def _word(self, token: Token) -> Word:
        return Word(token.rstrip(), self._span(token))

    def _part(self, token: Token, offset: int) -> Word:
        """The rest of a token from an offset."""
        start, end = token.start_pos or 0, token.end_pos or 0
        return Word(token[offset:], self._lines.span(start + offset, end))

    def _span(self, token: Token) -> Span:
        return self._lines.span(token.start_pos or 0, token.end_pos or 0)


def _json_list(token: Token) -> list[str] | None:
    try:
        found = json.loads(token)
    except ValueError:
        return None  # an escape that JSON does not know: then it is text for a shell
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None
