"""Frozen dataclasses <-> JSON, guided by their annotations: strings, numbers, tuples, nested dataclasses, None."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from builder.sandbox.frames import Message


T = TypeVar("T")


def encode(value: Any) -> Message:
    """The fields of a dataclass, those of nested ones too."""
    return dataclasses.asdict(value)


def decode(kind: type[T], data: Message) -> T:
    """The other direction. Raises TypeError where the data does not fit the class."""
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _value(hints[name], value) for name, value in data.items() if name in names})


def _value(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
        return _value(hint, value)
    if origin is tuple:
        options = typing.get_args(hint)
        if len(options) == 2 and options[1] is Ellipsis:
            return tuple(_value(options[0], item) for item in value)
        return tuple(_value(option, item) for option, item in zip(options, value, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value)
    return value
