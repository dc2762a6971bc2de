"""A parsed recipe as JSON and back, so that a recipe that was parsed before needs no grammar.

The form is private: it is kept beside the version of the parser and the digest of the text, and a value that does not
fit is parsed again.
"""

from __future__ import annotations

import dataclasses
import json

from parser import instructions
from parser.instructions import Arg, Buildfile, Stage
from parser.source import Source, Span

_KINDS = {
    kind.__name__: kind
    for kind in vars(instructions).values()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type)
}
_KINDS["Span"] = Span


def to_json(buildfile: Buildfile) -> bytes:
    """Everything but the source, which the reader has."""
    return json.dumps(
        [buildfile.escape, _encode(buildfile.args), _encode(buildfile.stages)], separators=(",", ":")
    ).encode()


def from_json(data: bytes, source: Source) -> Buildfile | None:
    """The recipe, or None where the data is no such value."""
    try:
        escape, args, stages = json.loads(data)
        decoded_args, decoded_stages = _decode(args), _decode(stages)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(escape, str) or not isinstance(decoded_args, tuple) or not isinstance(decoded_stages, tuple):
        return None
    if not all(isinstance(arg, Arg) for arg in decoded_args) or not all(
        isinstance(stage, Stage) for stage in decoded_stages
    ):
        return None
    return Buildfile(source, escape, decoded_args, decoded_stages)


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
