"""Frozen dataclasses that a process pays for when it uses them.

`dataclass(frozen=True, slots=True)` writes the source of six methods for each class and compiles it, in every process that
imports the class: for the 150 classes that a cached build imports, most of them for nothing, that took a quarter of its
time. Here one method is compiled, `__init__`, when the first value is made; the others are the same functions for all.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """The class as a frozen dataclass with slots; `fields`, `replace`, `match` and type checkers take it as any other.

    Values are equal where their classes are the same and their fields equal. Methods that the class has itself stay.
    """
    own = vars(cls)
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)

    def first_init(self: object, *args: object, **kwargs: object) -> None:
        made.__init__ = _compiled_init(fields(made), has_post_init=hasattr(made, "__post_init__"))
        made.__init__(self, *args, **kwargs)

    made.__init__ = first_init
    made._compared = staticmethod(_getter([one.name for one in fields(made) if one.compare]))
    for name in _METHODS:
        if name not in own:
            setattr(made, name, vars(_Value)[name])
    return made  # type: ignore[no-any-return]


class _Value:
    """The methods that all classes have."""

    _compared: Callable[[Any], object]  # the fields that count for equality, out of an object

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._compared(self) == self._compared(other)

    def __hash__(self) -> int:
        return hash(self._compared(self))

    def __repr__(self: Any) -> str:
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def __setattr__(self, name: str, _value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    # For copies and pickles, which set what lies in slots by name otherwise.

    def __getstate__(self: Any) -> list[object]:
        return [getattr(self, one.name) for one in fields(self)]

    def __setstate__(self: Any, state: list[object]) -> None:
        for one, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, one.name, value)


_METHODS = ("__eq__", "__hash__", "__repr__", "__setattr__", "__delattr__", "__getstate__", "__setstate__")


def _getter(names: list[str]) -> Callable[[Any], object]:
    """What takes the values of some attributes out of an object."""
    return attrgetter(*names) if names else lambda _: ()


def _compiled_init(found: Sequence[Field[Any]], *, has_post_init: bool) -> Callable[..., None]:
    """An `__init__` that takes fields in their order and sets them. Those with init=False are left to __post_init__."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_MISSING": MISSING}
    parameters, body = ["self"], []
    for one in found:
        if not one.init:
            continue
        default, value = "", one.name
        if one.default is not MISSING:
            known[f"_default_{one.name}"] = one.default
            default = f"=_default_{one.name}"
        elif one.default_factory is not MISSING:
            known[f"_new_{one.name}"] = one.default_factory
            default = "=_MISSING"
            value = f"_new_{one.name}() if {one.name} is _MISSING else {one.name}"
        parameters.append(one.name + default)
        body.append(f"_set(self, {one.name!r}, {value})")
    if has_post_init:
        body.append("self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"]), known)
    return known["__init__"]  # type: ignore[no-any-return]
