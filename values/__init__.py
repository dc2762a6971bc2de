"""Frozen dataclasses that cost time only when they are used.

`dataclass(frozen=True, slots=True)` generates and compiles the source of six methods for each class, in every process that
imports the class. A cached build imports 150 such classes and uses few of them; compiling took a quarter of its time.
`frozen` compiles only `__init__`, when a class makes its first value; all classes share the other methods.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """Make the class a frozen dataclass with slots, for `fields`, `replace`, `match` and type checkers like any other.

    Two values are equal if their classes are the same and their fields are equal. Methods that the class defines itself
    stay. Raises TypeError for a class or field that uses a feature of dataclasses that `frozen` lacks.
    """
    own = vars(cls)
    _refuse_class(cls)
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    found = fields(made)
    _refuse_fields(made, found)

    def first_init(self: object, *args: object, **kwargs: object) -> None:
        made.__init__ = _compiled_init(found, has_post_init=hasattr(made, "__post_init__"))
        made.__init__(self, *args, **kwargs)

    made.__init__ = first_init
    made._compared = staticmethod(_getter([one.name for one in found if one.compare]))
    for name in _METHODS:
        if name not in own:
            setattr(made, name, vars(_Value)[name])
    return made  # type: ignore[no-any-return]


def _refuse_class(cls: type) -> None:
    """Raise TypeError if the class defines or inherits a method or field that `frozen` would ignore or overwrite."""
    own = vars(cls)
    for name, instead in _REFUSED_METHODS.items():
        if name in own:
            raise TypeError(f"{cls.__qualname__}: frozen does not support a class with its own {name}{instead}")
    if "__eq__" in own and own["__hash__"] is None:
        raise TypeError(f"{cls.__qualname__}: frozen does not support an __eq__ without a __hash__")
    for base in cls.__mro__[1:]:
        if "__dataclass_fields__" in vars(base) and "_compared" not in vars(base):
            raise TypeError(
                f"{cls.__qualname__}: frozen does not support the base class {base.__qualname__}, a dataclass of the "
                "standard library; decorate that one with frozen too"
            )


def _refuse_fields(made: Any, found: Sequence[Field[Any]]) -> None:
    """Raise TypeError if a field asks for something that the methods of `frozen` do not do."""
    if len(found) < len(made.__dataclass_fields__):  # the others are ClassVar or InitVar
        for one in made.__dataclass_fields__.values():
            if one._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]
                raise _refused_field(made, one, "InitVar")
    with_default = ""
    for one in found:
        has_default = one.default is not MISSING or one.default_factory is not MISSING
        if one.kw_only:
            raise _refused_field(made, one, "kw_only")
        if one.name == "_compared":
            raise _refused_field(made, one, "a field of this name")
        if one.hash is not None:
            raise _refused_field(made, one, "hash=; compare= decides about both")
        if has_default and not one.init:
            raise _refused_field(made, one, "a default with init=False; set the field in __post_init__")
        if has_default:
            with_default = one.name
        elif one.init and with_default:
            raise _refused_field(made, one, f"a field without a default after {with_default!r}, which has one")


def _refused_field(made: type, one: Field[Any], feature: str) -> TypeError:
    return TypeError(f"{made.__qualname__}.{one.name}: frozen does not support {feature}")


_REFUSED_METHODS = {
    "__init__": "; define __post_init__",
    "__setattr__": "",
    "__delattr__": "",
    "_compared": "",
}


class _Value:
    """The methods that all classes share."""

    _compared: Callable[[Any], object]  # returns the values of the fields that count for equality

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

    # copy and pickle would otherwise set each slot through __setattr__.

    def __getstate__(self: Any) -> list[object]:
        return [getattr(self, one.name) for one in fields(self)]

    def __setstate__(self: Any, state: list[object]) -> None:
        for one, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, one.name, value)


_METHODS = ("__eq__", "__hash__", "__repr__", "__setattr__", "__delattr__", "__getstate__", "__setstate__")


def _getter(names: list[str]) -> Callable[[Any], object]:
    """A function that returns the values of these attributes of an object."""
    return attrgetter(*names) if names else lambda _: ()


def _compiled_init(found: Sequence[Field[Any]], *, has_post_init: bool) -> Callable[..., None]:
    """An `__init__` that takes the fields in their order and sets them; __post_init__ sets those with init=False.

    No field can have one of the generated names: in a class body Python renames names that begin with two underscores.
    """
    namespace: dict[str, Any] = {"__set": object.__setattr__, "__MISSING": MISSING}
    parameters, body = ["__self"], []
    for one in found:
        if not one.init:
            continue
        default, value = "", one.name
        if one.default is not MISSING:
            namespace[f"__default_{one.name}"] = one.default
            default = f"=__default_{one.name}"
        elif one.default_factory is not MISSING:
            namespace[f"__new_{one.name}"] = one.default_factory
            default = "=__MISSING"
            value = f"__new_{one.name}() if {one.name} is __MISSING else {one.name}"
        parameters.append(one.name + default)
        body.append(f"__set(__self, {one.name!r}, {value})")
    if has_post_init:
        body.append("__self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"]), namespace)
    return namespace["__init__"]  # type: ignore[no-any-return]
