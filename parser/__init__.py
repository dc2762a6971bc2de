"""The parser: the text of a recipe becomes values. It opens no file and executes nothing.

`parse` imports the grammar library only if the cache does not have the text.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from pybuild.parser import lines
from pybuild.parser.buildfile import Buildfile, Checks, ParseWarning, Stage
from pybuild.parser.directives import read_checks
from pybuild.parser.durations import parse_duration
from pybuild.parser.errors import (
    DurationError,
    ExpansionError,
    ModeError,
    ParseError,
    PatternError,
    PortError,
    SizeError,
)
from pybuild.parser.ignorefile import IgnoreFile, IgnoreLine
from pybuild.parser.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Device,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Flag,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Mount,
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
from pybuild.parser.modes import OctalMode, apply_mode, parse_mode
from pybuild.parser.mounts import (
    BindMount,
    CacheMount,
    RunMount,
    SecretMount,
    SshMount,
    TmpfsMount,
    parse_size,
    read_mount,
)
from pybuild.parser.patterns import has_wildcard, match_pattern
from pybuild.parser.ports import parse_ports
from pybuild.parser.signals import valid_signal
from pybuild.parser.suggest import suggest
from pybuild.parser.words import RecordingScope, expand, expand_heredoc, expand_words
from pybuild.values.limits import INSTRUCTIONS, LINE_CHARACTERS, RECIPE_BYTES, STAGES, WORDS
from pybuild.values.source import Source, Span

FORMAT = 5  # version of the values that `parse` returns; part of each cache key, so older cached parses are not used
_LIMITS = (RECIPE_BYTES, LINE_CHARACTERS, INSTRUCTIONS, STAGES, WORDS)  # those that a parse can exceed


class ParseCache(Protocol):
    """A store of parsed recipes."""

    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, value: bytes) -> None: ...


def parse(text: bytes | str, filename: str = "Buildfile", *, cache: ParseCache | None = None) -> Buildfile:
    """Parse a recipe. Raises ParseError and nothing else, in time linear in the length of the text."""
    decoded = ""
    try:
        decoded = lines.decode(text)
        source = Source(filename, decoded)
        key = _key("parse", decoded)
        if cache is not None and (known := cache.get(key)) is not None:
            from pybuild.parser.serial import from_json

            buildfile = from_json(known, source)
            if buildfile is not None:
                return buildfile
        from pybuild.parser.transform import transform

        buildfile = transform(lines.split(decoded), source)
    except ParseError as error:
        raise error.at(source=_source_of(text, decoded, filename)) from None
    if cache is not None:
        from pybuild.parser.serial import to_json

        cache.put(key, to_json(buildfile))
    return buildfile


def parse_trigger(text: str, filename: str = "ONBUILD", *, cache: ParseCache | None = None) -> Instruction:
    """Parse an ONBUILD trigger as the config of an image stores it. Raises ParseError with that text as its source."""
    decoded = ""
    try:
        decoded = lines.decode(text)
        key = _key("trigger", decoded)
        if cache is not None and (known := cache.get(key)) is not None:
            from pybuild.parser.serial import trigger_from_json

            instruction = trigger_from_json(known)
            if instruction is not None:
                return instruction
        from pybuild.parser.transform import transform_trigger

        instruction = transform_trigger(lines.split(decoded))
    except ParseError as error:
        raise error.at(source=_source_of(text, decoded, filename)) from None
    if cache is not None:
        from pybuild.parser.serial import trigger_to_json

        cache.put(key, trigger_to_json(instruction))
    return instruction


def _key(kind: str, text: str) -> str:
    """The key of a parse. A recipe that was parsed under other limits than the defaults is parsed again."""
    changed = "".join(f" {limit.name}={limit.value}" for limit in _LIMITS if limit.value != limit.default)
    return hashlib.sha256(f"pybuild {kind} {FORMAT}{changed}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _source_of(text: bytes | str, decoded: str, filename: str) -> Source:
    """The source that an error shows, even if the text could not be decoded."""
    if not decoded:
        head = text[: RECIPE_BYTES.value]
        decoded = head if isinstance(head, str) else head.decode("utf-8", "surrogateescape")
    return Source(filename, decoded)


__all__ = [
    "Add",
    "Arg",
    "BindMount",
    "Buildfile",
    "CacheMount",
    "Checks",
    "Cmd",
    "Command",
    "Copy",
    "Device",
    "DurationError",
    "Entrypoint",
    "Env",
    "ExecForm",
    "ExpansionError",
    "Expose",
    "Flag",
    "From",
    "Healthcheck",
    "Heredoc",
    "IgnoreFile",
    "IgnoreLine",
    "Instruction",
    "Label",
    "Maintainer",
    "ModeError",
    "Mount",
    "OctalMode",
    "Onbuild",
    "ParseCache",
    "ParseError",
    "ParseWarning",
    "PatternError",
    "PortError",
    "RecordingScope",
    "Run",
    "RunMount",
    "SecretMount",
    "Shell",
    "ShellForm",
    "SizeError",
    "Source",
    "Span",
    "SshMount",
    "Stage",
    "Stopsignal",
    "TmpfsMount",
    "User",
    "Volume",
    "Word",
    "Workdir",
    "apply_mode",
    "expand",
    "expand_heredoc",
    "expand_words",
    "has_wildcard",
    "match_pattern",
    "parse",
    "parse_duration",
    "parse_mode",
    "parse_ports",
    "parse_size",
    "parse_trigger",
    "read_checks",
    "read_mount",
    "suggest",
    "valid_signal",
]
