"""The instructions of a recipe as values. Words are kept as they were written: expanding them is planning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from parser.source import Source, Span


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of text that is expanded later: quotes, escapes and variables are still in it."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class ShellForm:
    """A command line for the shell of the stage."""

    text: str


@dataclass(frozen=True, slots=True)
class ExecForm:
    """A command as a JSON list of its words."""

    argv: tuple[str, ...]


Command: TypeAlias = ShellForm | ExecForm


@dataclass(frozen=True, slots=True)
class From:
    """FROM image [AS alias]."""

    keyword: ClassVar[str] = "FROM"
    span: Span
    text: str
    image: Word
    alias: str | None  # in lower case


@dataclass(frozen=True, slots=True)
class ArgItem:
    """One name of an ARG, with its default."""

    name: str
    default: Word | None


@dataclass(frozen=True, slots=True)
class Arg:
    """ARG name[=default] …"""

    keyword: ClassVar[str] = "ARG"
    span: Span
    text: str
    items: tuple[ArgItem, ...]


@dataclass(frozen=True, slots=True)
class Env:
    """ENV name=value … or ENV name value."""

    keyword: ClassVar[str] = "ENV"
    span: Span
    text: str
    pairs: tuple[tuple[Word, Word], ...]


@dataclass(frozen=True, slots=True)
class Label:
    """LABEL name=value …"""

    keyword: ClassVar[str] = "LABEL"
    span: Span
    text: str
    pairs: tuple[tuple[Word, Word], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """RUN command."""

    keyword: ClassVar[str] = "RUN"
    span: Span
    text: str
    command: Command


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY [--from=…] [--chown=…] [--chmod=…] source … dest."""

    keyword: ClassVar[str] = "COPY"
    span: Span
    text: str
    sources: tuple[Word, ...]
    dest: Word
    from_: Word | None
    chown: Word | None
    chmod: Word | None


@dataclass(frozen=True, slots=True)
class Workdir:
    """WORKDIR path."""

    keyword: ClassVar[str] = "WORKDIR"
    span: Span
    text: str
    path: Word


@dataclass(frozen=True, slots=True)
class User:
    """USER user[:group]."""

    keyword: ClassVar[str] = "USER"
    span: Span
    text: str
    user: Word


@dataclass(frozen=True, slots=True)
class Cmd:
    """CMD command."""

    keyword: ClassVar[str] = "CMD"
    span: Span
    text: str
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """ENTRYPOINT command."""

    keyword: ClassVar[str] = "ENTRYPOINT"
    span: Span
    text: str
    command: Command


@dataclass(frozen=True, slots=True)
class Expose:
    """EXPOSE port[/protocol] …"""

    keyword: ClassVar[str] = "EXPOSE"
    span: Span
    text: str
    ports: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """VOLUME path … or a JSON list."""

    keyword: ClassVar[str] = "VOLUME"
    span: Span
    text: str
    paths: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Shell:
    """SHELL ["program", "argument", …]."""

    keyword: ClassVar[str] = "SHELL"
    span: Span
    text: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopsignal:
    """STOPSIGNAL signal."""

    keyword: ClassVar[str] = "STOPSIGNAL"
    span: Span
    text: str
    signal: Word


Instruction: TypeAlias = (
    Run | Copy | Arg | Env | Label | Workdir | User | Cmd | Entrypoint | Expose | Volume | Shell | Stopsignal
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows it. `index` counts from 0."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str | None:
        """The alias, in lower case."""
        return self.base.alias


@dataclass(frozen=True, slots=True)
class Buildfile:
    """A parsed recipe."""

    source: Source
    escape: str  # "\\" or "`"
    args: tuple[Arg, ...]  # those before the first FROM
    stages: tuple[Stage, ...]
