"""The instructions of a recipe as values. Words are as written; the planner replaces their variables."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, TypeAlias

from pybuild.values import frozen
from pybuild.values.pattern import pattern
from pybuild.values.source import Span

RunNetwork: TypeAlias = Literal["default", "none", "host"]
RunSecurity: TypeAlias = Literal["sandbox", "insecure"]
MountType: TypeAlias = Literal["bind", "cache", "tmpfs", "secret", "ssh"]

_LEADING_TABS = pattern(r"^\t+", re.MULTILINE)


@frozen
class Word:
    """A text to be expanded later, still with its quotes, escapes and variables."""

    text: str
    span: Span


@frozen
class Flag:
    """The name and place of a flag, for errors about it. Its value is a field of the instruction."""

    name: str
    span: Span


@frozen
class Heredoc:
    """`<<NAME` and the lines up to one that is only NAME.

    `body` is the text of the file with all line ends; bytes that are not UTF-8 are decoded with surrogateescape. `span`
    is the place of `<<NAME`, `line` the number of the first line of the body.
    """

    name: str
    body: str
    expand: bool  # true if no part of the delimiter is quoted
    strip_tabs: bool  # <<-
    span: Span
    line: int

    @property
    def content(self) -> str:
        """The body. `<<-` removes the tabs at the start of each line."""
        if not self.strip_tabs:
            return self.body
        return _LEADING_TABS.sub("", self.body)


@frozen
class ShellForm:
    """A command line for the shell of the stage. `whole` says that the line `text` consists of one `<<NAME` only."""

    text: str
    heredocs: tuple[Heredoc, ...] = ()
    whole: bool = False

    @property
    def script(self) -> str:
        """The text that the shell runs: the body if the line is one heredoc, else the line followed by all bodies.

        The builder does not replace variables in a body.
        """
        if self.whole:
            return self.heredocs[0].content
        return self.text + "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in self.heredocs)

    @property
    def file(self) -> Heredoc | None:
        """The heredoc if it is the whole command and begins with `#!`: it runs as a file named like its delimiter."""
        return self.heredocs[0] if self.whole and self.heredocs[0].body.startswith("#!") else None


@frozen
class ExecForm:
    """A command given as a JSON list of words."""

    argv: tuple[str, ...]


Command: TypeAlias = ShellForm | ExecForm


@frozen
class From:
    """FROM [--platform=…] image [AS alias]."""

    keyword: ClassVar[str] = "FROM"
    span: Span
    text: str
    image: Word
    alias: str | None  # in lower case
    platform: Word | None = None
    flags: tuple[Flag, ...] = ()


@frozen
class ArgItem:
    """One name of an ARG, with its default."""

    name: str
    default: Word | None


@frozen
class Arg:
    """ARG name[=default] …"""

    keyword: ClassVar[str] = "ARG"
    span: Span
    text: str
    items: tuple[ArgItem, ...]


@frozen
class Env:
    """ENV name=value … or ENV name value."""

    keyword: ClassVar[str] = "ENV"
    span: Span
    text: str
    pairs: tuple[tuple[Word, Word], ...]


@frozen
class Label:
    """LABEL name=value …"""

    keyword: ClassVar[str] = "LABEL"
    span: Span
    text: str
    pairs: tuple[tuple[Word, Word], ...]


@frozen
class Mount:
    """One --mount of a RUN as written. `parser.read_mount` gives its values once variables can be replaced.

    Options have their canonical names: source for `src`, target for `dst` and `destination`, readonly for `ro`, readwrite
    for `rw`. The type is not among them. An option without a value has the word `true`.
    """

    type: MountType
    options: tuple[tuple[str, Word], ...]
    span: Span

    def option(self, name: str) -> Word | None:
        """The word of an option; None if it is not given."""
        return next((word for key, word in self.options if key == name), None)


@frozen
class Device:
    """One --device of a RUN: a CDI name, and whether the step fails without it."""

    name: str
    required: bool
    span: Span


@frozen
class Run:
    """RUN [--mount=…] [--network=…] [--security=…] [--device=…] command."""

    keyword: ClassVar[str] = "RUN"
    span: Span
    text: str
    command: Command
    mounts: tuple[Mount, ...] = ()
    network: RunNetwork | None = None
    security: RunSecurity | None = None
    devices: tuple[Device, ...] = ()
    flags: tuple[Flag, ...] = ()


@frozen
class Copy:
    """COPY [flags] source … dest. Heredocs come after all other sources, whatever the order on the line.

    BuildKit does not replace variables in `exclude` and `from_`. Quotes are already removed from both.
    """

    keyword: ClassVar[str] = "COPY"
    span: Span
    text: str
    sources: tuple[Word, ...]
    heredocs: tuple[Heredoc, ...]
    dest: Word
    from_: Word | None = None
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[Word, ...] = ()
    flags: tuple[Flag, ...] = ()


@frozen
class Add:
    """ADD [flags] source … dest, like COPY, but sources can be archives, URLs and git repositories.

    If `unpack` is None, local archives are unpacked and downloaded ones are not.
    """

    keyword: ClassVar[str] = "ADD"
    span: Span
    text: str
    sources: tuple[Word, ...]
    heredocs: tuple[Heredoc, ...]
    dest: Word
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    exclude: tuple[Word, ...] = ()
    checksum: Word | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None
    flags: tuple[Flag, ...] = ()


@frozen
class Workdir:
    """WORKDIR path."""

    keyword: ClassVar[str] = "WORKDIR"
    span: Span
    text: str
    path: Word


@frozen
class User:
    """USER user[:group]."""

    keyword: ClassVar[str] = "USER"
    span: Span
    text: str
    user: Word


@frozen
class Cmd:
    """CMD command."""

    keyword: ClassVar[str] = "CMD"
    span: Span
    text: str
    command: Command


@frozen
class Entrypoint:
    """ENTRYPOINT command."""

    keyword: ClassVar[str] = "ENTRYPOINT"
    span: Span
    text: str
    command: Command


@frozen
class Expose:
    """EXPOSE port[/protocol] …"""

    keyword: ClassVar[str] = "EXPOSE"
    span: Span
    text: str
    ports: tuple[Word, ...]


@frozen
class Volume:
    """VOLUME path … or a JSON list."""

    keyword: ClassVar[str] = "VOLUME"
    span: Span
    text: str
    paths: tuple[Word, ...]


@frozen
class Shell:
    """SHELL ["program", "argument", …]."""

    keyword: ClassVar[str] = "SHELL"
    span: Span
    text: str
    argv: tuple[str, ...]


@frozen
class Stopsignal:
    """STOPSIGNAL signal."""

    keyword: ClassVar[str] = "STOPSIGNAL"
    span: Span
    text: str
    signal: Word


@frozen
class Healthcheck:
    """HEALTHCHECK [flags] CMD command. The command of HEALTHCHECK NONE is None.

    Durations are in nanoseconds. A flag that is not given is None.
    """

    keyword: ClassVar[str] = "HEALTHCHECK"
    span: Span
    text: str
    command: Command | None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None
    flags: tuple[Flag, ...] = ()


@frozen
class Maintainer:
    """MAINTAINER name. The name is as written; variables in it are not replaced."""

    keyword: ClassVar[str] = "MAINTAINER"
    span: Span
    text: str
    name: str


@frozen
class Onbuild:
    """ONBUILD instruction. `trigger` is the text for the config of the image, including heredoc bodies.

    `instruction` is that text parsed as part of this recipe. A build on top of the image parses the text again with
    `parser.parse_trigger`, where the escape character is always the backslash.
    """

    keyword: ClassVar[str] = "ONBUILD"
    span: Span
    text: str
    trigger: str
    instruction: Instruction


Instruction: TypeAlias = (
    Run
    | Copy
    | Add
    | Arg
    | Env
    | Label
    | Workdir
    | User
    | Cmd
    | Entrypoint
    | Expose
    | Volume
    | Shell
    | Stopsignal
    | Healthcheck
    | Maintainer
    | Onbuild
)
