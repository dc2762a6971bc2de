"""Frozen dataclasses to JSON values and back, guided by their annotations.

A field holds a string, an integer, a bool, None, a tuple, a JSON object (dict), or a dataclass of such fields. Strings
can hold lone surrogates: file names and variables that are not UTF-8 are decoded with `surrogateescape`.
docs/dev/decisions/0006-messages-to-workers.md says why this is not msgspec.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pybuild.builder.errors import BuildError

if TYPE_CHECKING:
    from pybuild.builder.sandbox.frames import Message

T = TypeVar("T")
Reader: TypeAlias = Callable[[Any], Any]

IF_UPDATED = "if pybuild was updated while it ran, build again"
_SCALARS = (str, int, bool, dict)


def encode(value: Any) -> Message:
    """The fields of a dataclass by name, as JSON values."""
    return {name: _plain(getattr(value, name)) for name in _names(value.__class__)}


def decode(kind: type[T], data: object) -> T:
    """The opposite of `encode`. Raises BuildError, which names the field, if the data does not fit the class."""
    try:
        return _read(kind, data)  # type: ignore[no-any-return]
    except _Misfit as error:
        raise BuildError(
            f"cannot read a message between pybuild's processes: {'.'.join((kind.__name__, *error.path))}: {error.problem}",
            hint=IF_UPDATED,
        ) from None


class _Misfit(Exception):
    """Data that does not fit an annotation. `path` has the names of the fields that lead to it."""

    def __init__(self, problem: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path


# Annotations are read once per class: reading them takes far longer than reading a value, and a job of a step on fifty
# layers holds a hundred values.
@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


@cache
def _readers(kind: type) -> dict[str, Reader]:
    hints = typing.get_type_hints(kind)
    return {name: _reader(hints[name]) for name in _names(kind)}


def _plain(value: Any) -> Any:
    if value.__class__ is tuple:
        return list(map(_plain, value))
    names = _names(value.__class__)
    return {name: _plain(getattr(value, name)) for name in names} if names else value


def _read(kind: type, data: Any) -> Any:
    readers = _readers(kind)
    if not isinstance(data, dict) or data.keys() != readers.keys():
        raise _Misfit(_difference(readers, data))
    values = []
    name = ""
    try:
        for name, reader in readers.items():
            values.append(reader(data[name]))
    except _Misfit as error:
        raise _Misfit(error.problem, (name, *error.path)) from None
    return kind(*values)


def _difference(readers: dict[str, Reader], data: object) -> str:
    if not isinstance(data, dict):
        return _unexpected("an object", data)
    missing, unknown = sorted(readers.keys() - data), sorted(data.keys() - readers)
    return f"no field {missing[0]}" if missing else f"unknown field {unknown[0]}"


def _reader(hint: Any) -> Reader:
    """The function that reads values of an annotated type. Raises TypeError for a type that messages cannot hold."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        reader = _reader(options[0]) if len(options) == 1 else _scalar(*options)
        return reader if len(options) == len(arguments) else partial(_read_optional, reader)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return partial(_read_items, _reader(arguments[0]))
        return partial(_read_members, list(map(_reader, arguments)))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return partial(_read, hint)
    return _scalar(origin or hint)


def _scalar(*kinds: type) -> Reader:
    if not set(kinds) <= set(_SCALARS):
        raise TypeError(f"messages cannot hold {' | '.join(map(str, kinds))}")
    return partial(_read_scalar, kinds)


def _read_scalar(kinds: tuple[type, ...], value: Any) -> Any:
    if isinstance(value, kinds):
        return value
    raise _Misfit(_unexpected(" or ".join(kind.__name__ for kind in kinds), value))


def _read_optional(reader: Reader, value: Any) -> Any:
    return None if value is None else reader(value)


def _read_items(reader: Reader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Misfit(_unexpected("a list", value))
    return tuple(map(reader, value))


def _read_members(readers: list[Reader], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(readers):
        raise _Misfit(_unexpected(f"a list of {len(readers)}", value))
    return tuple(reader(item) for reader, item in zip(readers, value, strict=True))


def _unexpected(expected: str, value: object) -> str:
    """A problem that names the type of the value, not the value: it can be a secret."""
    return f"expected {expected}, got {type(value).__name__}"
