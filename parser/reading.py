"""Turns a node of the grammar's tree into an instruction, and checks each rule that needs nothing but the text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lark import Token, Tree

from pybuild.parser.durations import parse_duration
from pybuild.parser.errors import DurationError, ModeError, ParseError, PortError
from pybuild.parser.flags import Flags, read_flags
from pybuild.parser.heredocs import is_one_heredoc
from pybuild.parser.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Word,
    Workdir,
)
from pybuild.parser.modes import parse_mode
from pybuild.parser.mounts import parse_mount
from pybuild.parser.options import parse_device, read_network, read_security
from pybuild.parser.ports import check_port
from pybuild.parser.signals import valid_signal
from pybuild.parser.suggest import suggest
from pybuild.parser.tokens import LineReader
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.parser.lines import Lines

KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_NO_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD")
_STAGE_NAME = pattern(r"[a-z][a-z0-9-_.]*")
_CHECKSUM = pattern(r"sha256:[0-9a-f]{64}|[0-9a-f]{4,64}")
_MIN_DURATION = 1_000_000  # nanoseconds; container engines accept nothing shorter
_MAX_RETRIES = (1 << 31) - 1


def read_instruction(node: Tree[Token], lines: Lines, index: int) -> From | Instruction:
    """The instruction of a logical line. Raises ParseError."""
    return _Reader(lines, index).read(node)


class _Reader(LineReader):
    """Reads one instruction. The trigger of an ONBUILD gets its own reader."""

    def read(self, node: Tree[Token]) -> From | Instruction:
        keyword = node.children[0]
        assert isinstance(keyword, Token)
        name = self._keyword = keyword.upper()
        begin = keyword.start_pos or 0
        self._text = self._line.text[begin - self._start :]
        self._instruction_span = self._lines.span(begin, self._start + len(self._line.text))
        if node.data == "unknown":
            similar = suggest(name, KEYWORDS)
            raise ParseError(
                f"unknown instruction {keyword}",
                self._span(keyword),
                hint=f"did you mean {similar}?" if similar else None,
            )
        if name == "ONBUILD":
            return self._onbuild(node.children[1:])
        tokens = [token for token in node.children[1:] if isinstance(token, Token)]
        broken = next((token for token in tokens if token.type == "OTHER_FLAG"), None)
        if broken is not None:
            raise ParseError(f"a flag cannot be read: {broken.value}", self._span(broken))
        flags = read_flags(name, [token for token in tokens if token.type == "FLAG"], self._lines)
        return self._read([token for token in tokens if token.type != "FLAG"], flags)

    def _read(self, words: list[Token], flags: Flags) -> From | Instruction:
        span, text = self._instruction_span, self._text
        match self._keyword:
            case "FROM":
                return self._from(words, flags)
            case "ARG":
                return Arg(span, text, tuple(self._arg_item(word) for word in self._at_least_one(words)))
            case "ENV":
                return Env(span, text, self._pairs(words))
            case "LABEL":
                return Label(span, text, self._pairs(words))
            case "RUN":
                return self._run(words, flags)
            case "CMD":
                return Cmd(span, text, self._command_or_nothing(words))
            case "ENTRYPOINT":
                return Entrypoint(span, text, self._command_or_nothing(words))
            case "COPY":
                return self._copy(words, flags)
            case "ADD":
                return self._add(words, flags)
            case "WORKDIR":
                return Workdir(span, text, self._word(self._exactly_one(words)))
            case "USER":
                return User(span, text, self._word(self._exactly_one(words)))
            case "STOPSIGNAL":
                return self._stopsignal(self._word(self._exactly_one(words)))
            case "EXPOSE":
                return self._expose([self._word(word) for word in self._at_least_one(words)])
            case "VOLUME":
                return self._volume(self._list_or_words(words))
            case "SHELL":
                return self._shell(self._exactly_one(words))
            case "HEALTHCHECK":
                return self._healthcheck(self._at_least_one(words), flags)
            case "MAINTAINER":
                return Maintainer(span, text, self._exactly_one(words).rstrip())
            case _:
                raise AssertionError(self._keyword)

    def _from(self, words: list[Token], flags: Flags) -> From:
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise ParseError(
                "FROM requires either one or three arguments",
                self._instruction_span,
                hint="FROM image, or FROM image AS name",
            )
        alias = words[2].lower() if len(words) == 3 else None
        if alias is not None and not _STAGE_NAME.fullmatch(alias):
            raise ParseError(
                f"invalid name for build stage: {words[2].value!r}", self._span(words[2]),
                hint="a name begins with a letter, followed by letters, digits, - _ and .",
            )  # fmt: skip
        return From(self._instruction_span, self._text, self._word(words[0]), alias, flags.word("platform"), flags.all)

    def _run(self, words: list[Token], flags: Flags) -> Run:
        command = self._command_or_nothing(words)
        network, security = flags.word("network"), flags.word("security")
        spans = [flag.span for flag in flags.all if flag.name == "mount"]
        return Run(
            span=self._instruction_span,
            text=self._text,
            command=command,
            mounts=tuple(parse_mount(word, span) for word, span in zip(flags.words("mount"), spans, strict=True)),
            network=read_network(network) if network is not None else None,
            security=read_security(security) if security is not None else None,
            devices=tuple(parse_device(word) for word in flags.words("device")),
            flags=flags.all,
        )

    def _copy(self, words: list[Token], flags: Flags) -> Copy:
        sources, heredocs, dest = self._paths(words)
        return Copy(
            span=self._instruction_span,
            text=self._text,
            sources=sources,
            heredocs=heredocs,
            dest=dest,
            from_=flags.word("from"),
            chown=flags.word("chown"),
            chmod=self._chmod(flags),
            link=flags.truth("link") or False,
            parents=flags.truth("parents") or False,
            exclude=flags.words("exclude"),
            flags=flags.all,
        )

    def _add(self, words: list[Token], flags: Flags) -> Add:
        sources, heredocs, dest = self._paths(words)
        checksum = flags.word("checksum")
        if checksum is not None:
            if len(sources) + len(heredocs) != 1:
                raise ParseError("--checksum needs exactly one source", checksum.span)
            if self._literal(checksum) and not _CHECKSUM.fullmatch(checksum.text):
                raise ParseError(
                    f"--checksum={checksum.text}: expected sha256:<64 hexadecimal digits>, or a commit", checksum.span
                )
        return Add(
            span=self._instruction_span,
            text=self._text,
            sources=sources,
            heredocs=heredocs,
            dest=dest,
            chown=flags.word("chown"),
            chmod=self._chmod(flags),
            link=flags.truth("link") or False,
            exclude=flags.words("exclude"),
            checksum=checksum,
            keep_git_dir=flags.truth("keep-git-dir") or False,
            unpack=flags.truth("unpack"),
            flags=flags.all,
        )

    def _paths(self, words: list[Token]) -> tuple[tuple[Word, ...], tuple[Heredoc, ...], Word]:
        """The sources, the heredocs and the destination."""
        opened = {heredoc.start + self._start: heredoc for heredoc in self._line.heredocs}
        heredocs = self._heredocs()
        paths = self._list_or_words(words)
        if len(paths) < 2:
            raise ParseError(
                f"{self._keyword} requires at least two arguments, but only {len(paths)} {'was' if len(paths) == 1 else 'were'} given",
                self._instruction_span,
                hint=f"{self._keyword} source … destination",
            )
        is_list = len(paths) != len(words)
        sources = []
        heredoc_words = 0
        for position, path in enumerate(paths):
            if is_list or words[position].start_pos not in opened:
                sources.append(path)
                continue
            if position == len(paths) - 1:
                raise ParseError(f"{self._keyword} cannot have a heredoc as its destination", path.span)
            heredoc = opened[words[position].start_pos or 0]
            name = heredoc.name
            if words[position].end_pos != heredoc.end + self._start or "/" in name or name in (".", ".."):
                raise ParseError(f"the delimiter {name!r} cannot be the name of a file", path.span)
            heredoc_words += 1
        if heredoc_words != len(heredocs):
            raise ParseError("a heredoc must be a word of its own", heredocs[0].span)
        *rest, dest = sources
        return tuple(rest), heredocs, dest

    def _chmod(self, flags: Flags) -> Word | None:
        word = flags.word("chmod")
        if word is not None and self._literal(word):
            try:
                parse_mode(word.text)
            except ModeError as error:
                raise ParseError(f"--chmod={word.text}: {error}", word.span, hint=error.hint) from None
        return word

    def _onbuild(self, rest: list[Token | Tree[Token]]) -> Onbuild:
        if not rest:
            raise ParseError("ONBUILD requires at least one argument", self._instruction_span)
        node = rest[0]
        assert isinstance(node, Tree) and isinstance(node.children[0], Token)
        keyword = node.children[0]
        name = keyword.upper()
        if name in _NO_TRIGGERS:
            hint = "a trigger cannot set another one" if name == "ONBUILD" else None
            raise ParseError(f"{name} isn't allowed as an ONBUILD trigger", self._span(keyword), hint=hint)
        instruction = read_instruction(node, self._lines, self._index)
        assert not isinstance(instruction, From)
        bodies = "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in self._line.heredocs)
        return Onbuild(self._instruction_span, self._text, instruction.text + bodies, instruction)

    def _healthcheck(self, words: list[Token], flags: Flags) -> Healthcheck:
        kind, *rest = words
        match kind.type:
            case "NONE":
                if rest or flags.items:
                    raise ParseError("HEALTHCHECK NONE takes no arguments and no flags", self._instruction_span)
                return Healthcheck(self._instruction_span, self._text, None)
            case "CMD" if rest:
                command = self._command(rest[0])
                if command == ExecForm(()):
                    raise ParseError("missing command after HEALTHCHECK CMD", self._instruction_span)
                return Healthcheck(
                    self._instruction_span,
                    self._text,
                    command,
                    self._duration(flags, "interval"),
                    self._duration(flags, "timeout"),
                    self._duration(flags, "start-period"),
                    self._duration(flags, "start-interval"),
                    self._retries(flags),
                    flags.all,
                )
            case "CMD":
                raise ParseError("missing command after HEALTHCHECK CMD", self._instruction_span)
            case _:
                word = kind.split(None, 1)[0]
                raise ParseError(f"unknown type {word!r} in HEALTHCHECK", self._span(kind), hint="try CMD, or NONE")

    def _duration(self, flags: Flags, name: str) -> int | None:
        word = flags.word(name)
        if word is None:
            return None
        try:
            duration = parse_duration(word.text)
        except DurationError as error:
            raise ParseError(f"--{name}: {error}", word.span, hint=error.hint) from None
        if duration != 0 and duration < _MIN_DURATION:
            raise ParseError(f"--{name}={word.text}: cannot be less than 1ms", word.span)
        return duration

    def _retries(self, flags: Flags) -> int | None:
        word = flags.word("retries")
        if word is None:
            return None
        if not re.fullmatch(r"\+?[0-9]{1,10}", word.text) or int(word.text) > _MAX_RETRIES:
            raise ParseError(f"--retries={word.text}: expected a number from 0 to {_MAX_RETRIES}", word.span)
        return int(word.text)

    def _stopsignal(self, word: Word) -> Stopsignal:
        if self._literal(word) and not valid_signal(word.text):
            raise ParseError(
                f"STOPSIGNAL {word.text}: no such signal", word.span, hint="a name such as SIGTERM, or a number"
            )
        return Stopsignal(self._instruction_span, self._text, word)

    def _expose(self, words: list[Word]) -> Expose:
        for word in words:
            if self._literal(word):
                try:
                    check_port(word.text)
                except PortError as error:
                    raise ParseError(str(error), word.span, hint=error.hint) from None
        return Expose(self._instruction_span, self._text, tuple(words))

    def _volume(self, words: list[Word]) -> Volume:
        if not words:
            raise ParseError("VOLUME requires at least one argument", self._instruction_span)
        for word in words:
            if not word.text.strip():
                raise ParseError("VOLUME: a path is empty", word.span)
        return Volume(self._instruction_span, self._text, tuple(words))

    def _shell(self, token: Token) -> Shell:
        command = self._command(token)
        if not isinstance(command, ExecForm) or not command.argv:
            raise ParseError(
                "SHELL takes a JSON list", self._span(token), hint='for instance SHELL ["/bin/bash", "-c"]'
            )
        return Shell(self._instruction_span, self._text, command.argv)

    def _command_or_nothing(self, words: list[Token]) -> Command:
        """The command of a RUN, CMD or ENTRYPOINT. Without one, as in BuildKit, the shell gets an empty command."""
        return self._command(words[0]) if words else ShellForm("")

    def _command(self, token: Token) -> Command:
        if token.type == "LIST":
            found = self._json(token)
            if found is not None:
                return ExecForm(tuple(found))
        self._refuse_other_lists([token])
        text = token.rstrip()
        heredocs = self._heredocs() if self._keyword == "RUN" else ()
        form = ShellForm(text, heredocs, bool(heredocs) and is_one_heredoc(text))
        if form.file is not None and ("/" in form.file.name or form.file.name in (".", "..")):
            raise ParseError(f"the delimiter {form.file.name!r} cannot be the name of a file", form.file.span)
        return form
