"""Recipes: text in, values out. No file is opened here and nothing is executed.

`parse` needs the grammar library only for a text that was not parsed before: give it a cache, and a build that is
served from the cache starts without it.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from parser import lines
from parser.errors import ExpansionError, ParseError, PatternError, PortError
from parser.ignorefile import IgnoreFile
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
from parser.patterns import has_wildcard, match_pattern
from parser.ports import parse_ports
from parser.signals import valid_signal
from parser.source import Source, Span
from parser.suggest import suggest
from parser.words import expand, expand_words

FORMAT = 1  # of what `parse` returns; a change makes every cached parse a miss


class ParseCache(Protocol):
    """Where parsed recipes are kept."""

    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, value: bytes) -> None: ...


def parse(text: bytes | str, filename: str = "Buildfile", *, cache: ParseCache | None = None) -> Buildfile:
    """Parse a recipe. Raises ParseError and nothing else, in time linear in the length of the text."""
    decoded = ""
    try:
        decoded = lines.decode(text)
        source = Source(filename, decoded)
        key = hashlib.sha256(f"pybuild parse {FORMAT}\n{decoded}".encode("utf-8", "surrogatepass")).hexdigest()
        if cache is not None and (known := cache.get(key)) is not None:
            from parser.serial import from_json

            buildfile = from_json(known, source)
            if buildfile is not None:
                return buildfile
        from parser.transform import transform

        buildfile = transform(lines.split(decoded), source)
    except ParseError as error:
        if not decoded and isinstance(text, bytes):
            decoded = text[: lines.MAX_RECIPE].decode("utf-8", "replace")
        error.source = Source(filename, decoded)
        raise
    if cache is not None:
        from parser.serial import to_json

        cache.put(key, to_json(buildfile))
    return buildfile


__all__ = [
    "Arg",
    "ArgItem",
    "Buildfile",
    "Cmd",
    "Command",
    "Copy",
    "Entrypoint",
    "Env",
    "ExecForm",
    "ExpansionError",
    "Expose",
    "From",
    "IgnoreFile",
    "Instruction",
    "Label",
    "ParseCache",
    "ParseError",
    "PatternError",
    "PortError",
    "Run",
    "Shell",
    "ShellForm",
    "Source",
    "Span",
    "Stage",
    "Stopsignal",
    "User",
    "Volume",
    "Word",
    "Workdir",
    "expand",
    "expand_words",
    "has_wildcard",
    "match_pattern",
    "parse",
    "parse_ports",
    "suggest",
    "valid_signal",
]
