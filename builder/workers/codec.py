"""Frozen dataclasses <-> JSON, guided by their annotations: strings, numbers, tuples, nested dataclasses, None."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pybuild.builder.sandbox.frames import Message


T = TypeVar("T")
Reader: TypeAlias = Callable[[Any], Any]


def encode(value: Any) -> Message:
    """The fields of a dataclass, those of nested ones too."""
    return dataclasses.asdict(value)


def decode(kind: type[T], data: Message) -> T:
    """The other direction. Raises TypeError where the data does not fit the class."""
    plain: type = kind
    readers = _fields(plain)
    return kind(**{name: readers[name](value) for name, value in data.items() if name in readers})


@cache
def result_of(job: type) -> type:
    """What the `run` of a job returns."""
    found: type = typing.get_type_hints(job.run)["return"]  # type: ignore[attr-defined]
    return found


# Annotations are looked at once for each class: that takes far longer than reading a value, and a job of a step on fifty
# layers holds a hundred values.
@cache
def _fields(kind: type) -> dict[str, Reader]:
    hints = typing.get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}


def _reader(hint: Any) -> Reader:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return partial(_optional, _reader(next(one for one in typing.get_args(hint) if one is not type(None))))
    if origin is tuple:
        options = typing.get_args(hint)
        if len(options) == 2 and options[1] is Ellipsis:
            return partial(_items, _reader(options[0]))
        return partial(_members, [_reader(option) for option in options])
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return partial(decode, hint)
    return _same


def _optional(reader: Reader, value: Any) -> Any:
    return None if value is None else reader(value)


def _items(reader: Reader, value: Any) -> tuple[Any, ...]:
    return tuple(map(reader, value))


def _members(readers: list[Reader], value: Any) -> tuple[Any, ...]:
    return tuple(reader(item) for reader, item in zip(readers, value, strict=True))


def _same(value: Any) -> Any:
    return value
