"""Parsed recipes as JSON and back, for the cache of parses.

The format is private. The key of a cached parse includes `FORMAT` and the digest of the text; if the data is not valid,
the recipe is parsed again.
"""

from __future__ import annotations

import dataclasses
import json

from pybuild.parser import buildfile, instructions
from pybuild.parser.buildfile import Buildfile, Stage
from pybuild.parser.instructions import Arg, Instruction
from pybuild.values.source import Source, Span

_KINDS = {
    kind.__name__: kind
    for kind in {**vars(instructions), **vars(buildfile)}.values()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type)
}
_KINDS["Span"] = Span
_FIELDS = tuple(field.name for field in dataclasses.fields(Buildfile) if field.name != "source")


def to_json(buildfile: Buildfile) -> bytes:
    """A recipe without its source, which the reader has."""
    fields = [_encode(getattr(buildfile, name)) for name in _FIELDS]
    return json.dumps(fields, separators=(",", ":")).encode()


def trigger_to_json(instruction: Instruction) -> bytes:
    """The instruction of a trigger."""
    return json.dumps(_encode(instruction), separators=(",", ":")).encode()


def trigger_from_json(data: bytes) -> Instruction | None:
    """The instruction; None if the data is not valid."""
    try:
        decoded = _decode(json.loads(data))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return decoded if isinstance(decoded, Instruction) else None


def from_json(data: bytes, source: Source) -> Buildfile | None:
    """The recipe; None if the data is not valid."""
    try:
        decoded = dict(zip(_FIELDS, map(_decode, json.loads(data)), strict=True))
        buildfile = Buildfile(source, **decoded)  # type: ignore[arg-type]  # checked below
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(buildfile.escape, str) or not isinstance(buildfile.args, tuple):
        return None
    if not isinstance(buildfile.stages, tuple) or not all(isinstance(arg, Arg) for arg in buildfile.args):
        return None
    return buildfile if all(isinstance(stage, Stage) for stage in buildfile.stages) else None


def _encode(value: object) -> object:
    if isinstance(value, Span):
        return {"Span": [value.line, value.column, value.end_line, value.end_column]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: [_encode(getattr(value, field.name)) for field in dataclasses.fields(value)]}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: object) -> object:
    if isinstance(value, dict):
        ((name, fields),) = value.items()
        return _KINDS[name](*(_decode(field) for field in fields))
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    return value
