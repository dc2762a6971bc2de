"""The mounts of RUN: the options of --mount for each type, and their values.

`parse_mount` checks the text of a flag: each option is known, allowed for the type, and appears only once, whichever of its names is used.
`read_mount` replaces variables and returns the values; the parser calls it for flags without variables, so their values
are checked too. Options and defaults are those of BuildKit's reference for RUN --mount.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from pybuild.parser.directives import read_bool
from pybuild.parser.errors import ParseError, SizeError
from pybuild.parser.instructions import Mount, MountType, Word
from pybuild.parser.suggest import suggest
from pybuild.values import frozen
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.values.source import Span

Sharing: TypeAlias = Literal["shared", "private", "locked"]

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
OPTIONS: dict[str, frozenset[str]] = {
    "bind": frozenset(("from", "source", "target", "readonly", "readwrite")),
    "cache": frozenset(("from", "source", "target", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid")),
    "tmpfs": frozenset(("target", "size", "readonly", "readwrite")),
    "secret": frozenset(("id", "source", "target", "required", "mode", "uid", "gid", "env")),
    "ssh": frozenset(("id", "target", "required", "mode", "uid", "gid")),
}
_KEYS = frozenset(("type",)).union(*OPTIONS.values())
_WITHOUT_VALUE = frozenset(("readonly", "readwrite", "required"))
_MAY_BE_EMPTY = frozenset(("from", "source", "target", "id", "env"))  # an empty value is as good as none
_SIZE = pattern(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([kmgtp]?)i?b?", re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_ENV_NAME = pattern(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_ID = (1 << 32) - 2  # 2**32 - 1 means "no change" to the kernel


@frozen
class BindMount:
    """Files of the context, of a stage or of an image. If the mount is writable, the writes of the step are discarded.

    `source` is a path in the stage or image `from_` (None: in the context). `target` can be relative to the working
    directory; "" is the working directory itself, here and in the other mounts.
    """

    target: str
    source: str
    from_: str | None
    read_only: bool


@frozen
class CacheMount:
    """A directory that persists between builds. If `id` is None, the absolute, cleaned target is the id.

    A new cache starts as a copy of `source` in `from_` (None: empty). `mode`, `uid` and `gid` apply to its root directory.
    """

    target: str
    id: str | None
    sharing: Sharing
    source: str
    from_: str | None
    read_only: bool
    mode: int
    uid: int
    gid: int


@frozen
class TmpfsMount:
    """An empty directory in memory; `size` is a limit in bytes."""

    target: str
    size: int | None
    read_only: bool


@frozen
class SecretMount:
    """A secret as a file (`target`), as a variable (`env`), or both.

    If the build has no such secret and it is not required, there is no file, and the variable is empty.
    """

    id: str
    target: str | None
    env: str | None
    required: bool
    mode: int
    uid: int
    gid: int


@frozen
class SshMount:
    """The socket of an SSH agent. If `target` is None, the builder chooses the path."""

    id: str
    target: str | None
    required: bool
    mode: int
    uid: int
    gid: int


RunMount: TypeAlias = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


def parse_mount(value: Word, flag: Span) -> Mount:
    """Read the value of a --mount. Raises ParseError."""
    if "\\" in value.text or '"' in value.text or "'" in value.text:
        raise ParseError("invalid mount option: it contains a quote or a backslash", value.span)
    written: dict[str, Word] = {}
    for key, name, word in _fields(value):
        if name in written:
            raise ParseError(f"duplicate mount option {key!r}", word.span)
        written[name] = word
    kind = _type(written.pop("type", Word("bind", value.span)))
    for name, word in written.items():
        if name not in OPTIONS[kind]:
            raise ParseError(
                f"mount option {name!r} is not allowed with type={kind}", word.span,
                hint=f"type={kind} allows {', '.join(sorted(OPTIONS[kind]))}",
            )  # fmt: skip
    if "readonly" in written and "readwrite" in written:
        raise ParseError("mount options 'readonly' and 'readwrite' exclude each other", written["readwrite"].span)
    mount = Mount(kind, tuple(written.items()), flag)
    if not any("$" in word.text for word in written.values()):
        read_mount(mount, lambda word: word.text)
    return mount


def _fields(value: Word) -> list[tuple[str, str, Word]]:
    """The key as written, the canonical name, and the value of each option."""
    found = []
    column = value.span.column
    for field in value.text.split(","):
        key, equals, text = field.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        span = _option_span(value, column, len(field))
        column += len(field) + 1
        if name not in _KEYS:
            similar = suggest(name, {*_KEYS, *_ALIASES})
            raise ParseError(
                f"invalid mount option {key!r}", span, hint=f"did you mean {similar}?" if similar else None
            )
        if not equals and name not in _WITHOUT_VALUE:
            raise ParseError(f"invalid mount option {field!r}: it needs a value", span, hint=f"{name}=value")
        if equals and not text and name not in _MAY_BE_EMPTY:
            raise ParseError(f"mount option {key!r} has an empty value", span)
        found.append((key, name, Word(text if equals else "true", span)))
    return found


def _option_span(value: Word, column: int, length: int) -> Span:
    """The span of one option; that of the whole value if it spans several lines or had quotes."""
    span = value.span
    if span.line != span.end_line or span.end_column - span.column != len(value.text):
        return span
    return type(span)(span.line, column, span.line, column + max(1, length))


def _type(word: Word) -> MountType:
    if "$" in word.text:
        raise ParseError("the type of a mount cannot contain variables", word.span)
    for known in get_args(MountType):
        if word.text.lower() == known:
            kind: MountType = known
            return kind
    similar = suggest(word.text, get_args(MountType))
    raise ParseError(
        f"unsupported mount type {word.text!r}", word.span,
        hint=f"did you mean {similar}?" if similar else f"it can be {', '.join(get_args(MountType))}",
    )  # fmt: skip


def read_mount(mount: Mount, expand: Callable[[Word], str]) -> RunMount:
    """The values of a mount; `expand` replaces variables. Raises ParseError at the option, and the errors of `expand`."""
    return _Options(mount, {name: (expand(word), word.span) for name, word in mount.options}).read()


class _Options:
    def __init__(self, mount: Mount, values: dict[str, tuple[str, Span]]) -> None:
        self._mount = mount
        self._values = values

    def read(self) -> RunMount:
        match self._mount.type:
            case "bind":
                return BindMount(self._target(), self._source(), self._text("from"), self._read_only(default=True))
            case "cache":
                return CacheMount(
                    self._target(),
                    self._text("id"),
                    self._sharing(),
                    self._source(),
                    self._text("from"),
                    self._read_only(default=False),
                    self._mode(0o755),
                    self._number("uid"),
                    self._number("gid"),
                )
            case "tmpfs":
                return TmpfsMount(self._target(), self._size(), self._read_only(default=False))
            case "secret":
                return self._secret()
            case "ssh":
                target = self._target() or None
                required, mode = self._bool("required"), self._mode(0o600)
                uid, gid = self._number("uid"), self._number("gid")
                return SshMount(self._text("id") or "default", target, required, mode, uid, gid)

    def _secret(self) -> SecretMount:
        if self._text("id") and self._text("source"):
            raise ParseError("a secret can have an id or a source, not both", self._values["source"][1])
        target = self._target() or None
        name = self._text("id") or self._text("source") or (posixpath.basename(target) if target else "")
        if not name:
            raise ParseError("a secret needs an id or a target", self._mount.span, hint="--mount=type=secret,id=…")
        env = self._text("env")
        if env is not None and not _ENV_NAME.fullmatch(env):
            raise ParseError(f"{env!r} is not a valid name of a variable", self._values["env"][1])
        if target is None and env is None:
            base = posixpath.basename(name.rstrip("/"))
            if base in ("", ".", ".."):
                raise ParseError(f"the secret {name!r} needs a target", self._mount.span)
            target = f"/run/secrets/{base}"
        required, mode = self._bool("required"), self._mode(0o400)
        return SecretMount(name, target, env, required, mode, self._number("uid"), self._number("gid"))

    def _text(self, name: str) -> str | None:
        """The value of an option; None if it is not given, or is empty and may be."""
        if name not in self._values:
            return None
        text, span = self._values[name]
        if not text and name in _MAY_BE_EMPTY:
            return None
        if not text:
            raise ParseError(f"mount option {name!r} is empty", span, hint="does its variable have a value?")
        if "\0" in text:
            raise ParseError(f"mount option {name!r} contains a NUL character", span)
        return text

    def _target(self) -> str:
        target = self._text("target") or ""
        if posixpath.normpath(target).strip("/") == "" and target.startswith("/"):
            raise ParseError("the root directory cannot be the target of a mount", self._values["target"][1])
        return target

    def _source(self) -> str:
        return self._text("source") or "/"

    def _bool(self, name: str) -> bool:
        text = self._text(name)
        if text is None:
            return False
        value = read_bool(text)
        if value is None:
            raise self._bad(name, text, "true or false")
        return value

    def _read_only(self, *, default: bool) -> bool:
        if "readwrite" in self._values:
            return not self._bool("readwrite")
        return self._bool("readonly") if "readonly" in self._values else default

    def _number(self, name: str) -> int:
        text = self._text(name)
        if text is None:
            return 0
        if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > _MAX_ID:
            raise self._bad(name, text, f"a number up to {_MAX_ID}")
        return int(text)

    def _mode(self, default: int) -> int:
        text = self._text("mode")
        if text is None:
            return default
        if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
            raise self._bad("mode", text, "an octal mode up to 7777")
        return int(text, 8)

    def _sharing(self) -> Sharing:
        text = self._text("sharing") or "shared"
        sharing = text.lower()
        match sharing:
            case "shared" | "private" | "locked":
                return sharing
            case _:
                raise self._bad("sharing", text, "shared, private or locked")

    def _size(self) -> int | None:
        text = self._text("size")
        if text is None:
            return None
        try:
            return parse_size(text)
        except SizeError as error:
            raise ParseError(f"mount option size: {error}", self._values["size"][1], hint=error.hint) from None

    def _bad(self, name: str, text: str, expected: str) -> ParseError:
        return ParseError(f"mount option {name}={text}: expected {expected}", self._values[name][1])


def parse_size(text: str) -> int:
    """The bytes of `512`, `64k`, `1.5g` or `1GiB`. Units are powers of 1024, like docker's. Raises SizeError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SizeError(f"invalid size {text!r}", hint="for instance 64m or 1g")
    unit = 1 << _SHIFTS[match[3].lower()]
    fraction = match[2] or ""
    size = int(match[1]) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
    if size >= 1 << 63:
        raise SizeError(f"the size {text!r} is too large")
    return size
