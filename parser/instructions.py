"""The instructions of a recipe as values. Words are kept as they were written: expanding them is planning."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, TypeAlias

from pybuild.values import frozen
from pybuild.values.source import Span

RunNetwork: TypeAlias = Literal["default", "none", "host"]
RunSecurity: TypeAlias = Literal["sandbox", "insecure"]
MountType: TypeAlias = Literal["bind", "cache", "tmpfs", "secret", "ssh"]

_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@frozen
class Word:
    """A piece of text that is expanded later: quotes, escapes and variables are still in it."""

    text: str
    span: Span


@frozen
class Flag:
    """A `--name` of an instruction, for errors about the flag itself; its value is a field of the instruction."""

    name: str
    span: Span


@frozen
class Heredoc:
    """`<<NAME` and the lines up to one that holds only NAME.

    `body` is as in the file, each line with its end; bytes that are no UTF-8 are in it as with surrogateescape. `span`
    is that of `<<NAME`, `line` the number of the first line of the body.
    """

    name: str
    body: str
    expand: bool  # no part of the delimiter is quoted
    strip_tabs: bool  # <<-
    span: Span
    line: int

    @property
    def content(self) -> str:
        """The body, without the tabs in front of its lines where `<<-` takes them away."""
        if not self.strip_tabs:
            return self.body
        return _LEADING_TABS.sub("", self.body)


@frozen
class ShellForm:
    """A command line for the shell of the stage. `text` is the line itself, `whole` whether it is but one `<<NAME`."""

    text: str
    heredocs: tuple[Heredoc, ...] = ()
    whole: bool = False

    @property
    def script(self) -> str:
        """What the shell is to run: the line, the body of a heredoc that is all of it, or the line and all bodies.

        A body stays as it is: variables in it are the shell's.
        """
        if self.whole:
            return self.heredocs[0].content
        return self.text + "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in self.heredocs)

    @property
    def file(self) -> Heredoc | None:
        """The heredoc that is a program of its own, as it begins with `#!`: to be run from a file of its name."""
        return self.heredocs[0] if self.whole and self.heredocs[0].body.startswith("#!") else None


@frozen
class ExecForm:
    """A command as a JSON list of its words."""

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
    """One --mount of a RUN as written; `parser.read_mount` makes values of it, once variables can be expanded.

    Options have one name each, whatever way they were written: type is no option, `src` is source, `dst` and
    `destination` are target, `ro` is readonly, `rw` readwrite. One without a value has the word `true`.
    """

    type: MountType
    options: tuple[tuple[str, Word], ...]
    span: Span

    def option(self, name: str) -> Word | None:
        """The word of an option, None where it is not given."""
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
    """COPY [flags] source … dest. Heredocs among the sources come after all others, whatever the order on the line.

    `exclude` and `from_` are not expanded by BuildKit; quotes are gone from both.
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
    """ADD [flags] source … dest: as COPY, and sources may be archives, URLs and git repositories.

    `unpack` is None where the source decides: local archives are unpacked, downloaded ones are not.
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
    """HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE, which has no command.

    Durations are nanoseconds; None is one that was not given, and so are retries.
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
    """MAINTAINER name: as it is written, never expanded."""

    keyword: ClassVar[str] = "MAINTAINER"
    span: Span
    text: str
    name: str


@frozen
class Onbuild:
    """ONBUILD instruction. `trigger` is the text for the image's config, heredocs and their bodies in it.

    `instruction` is what the text says in this recipe; an image built on this one reads the text anew, with
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
