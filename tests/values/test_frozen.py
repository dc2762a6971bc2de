"""`frozen` gives the same class as the standard library's decorator, or refuses what it does not support."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import KW_ONLY, FrozenInstanceError, InitVar, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from pybuild.values import frozen

T = TypeVar("T")


class Plain:
    """A class with fields of every supported form, before decoration."""

    kind: ClassVar[str] = "plain"
    number: int
    text: str = "text"
    hidden: str = field(default="", repr=False)
    place: int = field(default=0, compare=False)
    items: list[int] = field(default_factory=list)

    def double(self) -> int:
        return self.number * 2


class Derived:
    """A class that computes one of its fields and defines a method that the decorator would add."""

    number: int
    half: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "half", self.number // 2)

    def __repr__(self) -> str:
        return f"<{self.number}>"


class Empty:
    """A class without fields."""


def twins(written: type) -> tuple[Any, Any]:
    """The same class decorated by the standard library and by `frozen`."""
    bodies = [{name: value for name, value in vars(written).items() if name not in ("__dict__", "__weakref__")} for _ in "ab"]
    theirs, ours = (type(written.__name__, (), body) for body in bodies)
    return dataclass(frozen=True, slots=True)(theirs), frozen(ours)


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, "a"), {"place": 3}),
    ((), {"number": 1, "items": (4,), "hidden": "h"}),
    ((1, "a", "h", 0, (2, 3)), {}),
]


@pytest.mark.parametrize(("positional", "named"), ARGUMENTS)
def test_fields_repr_and_match_args_are_those_of_the_standard_library(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    theirs, ours = (kind(*positional, **named) for kind in twins(Plain))
    assert asdict(ours) == asdict(theirs) and repr(ours) == repr(theirs)
    assert ours.double() == 2 and ours.kind == "plain"
    assert [one.name for one in fields(ours)] == [one.name for one in fields(theirs)]
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert asdict(replace(ours, number=7)) == asdict(replace(theirs, number=7))


@pytest.mark.parametrize(("positional", "named"), [((), {}), ((1,), {"other": 2}), ((1,), {"number": 2}), ((1,) * 6, {})])
def test_wrong_arguments_are_refused(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in twins(Plain):
        for _ in range(2):  # the first call compiles __init__
            with pytest.raises(TypeError):
                kind(*positional, **named)


def test_values_are_equal_if_their_classes_and_compared_fields_are_equal() -> None:
    _, kind = twins(Plain)
    _, other = twins(Plain)
    assert kind(1) == kind(1, place=5) and kind(1) != kind(2) and kind(1) != other(1) and kind(1) != (1, "text", "", 0, [])
    assert hash(kind(1, items=())) == hash(kind(1, place=5, items=()))
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind(1))
    assert len({kind(1, items=()), kind(1, items=()), kind(2, items=())}) == 2


def test_a_default_factory_is_called_for_each_value() -> None:
    _, kind = twins(Plain)
    first, second = kind(1), kind(1)
    first.items.append(3)
    assert second.items == []


@pytest.mark.parametrize("kind", twins(Plain), ids=["theirs", "ours"])
def test_a_value_does_not_change(kind: Any) -> None:
    value = kind(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'number'"):
        value.number = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'number'"):
        del value.number
    with pytest.raises((FrozenInstanceError, TypeError)):  # which one the standard library raises depends on the Python version
        value.other = 2
    assert value.number == 1 and not hasattr(value, "__dict__")


def test_methods_that_the_class_defines_itself_stay() -> None:
    theirs, ours = (kind(9) for kind in twins(Derived))
    assert ours.half == theirs.half == 4 and repr(ours) == repr(theirs) == "<9>"


def test_all_values_of_a_class_without_fields_are_equal() -> None:
    theirs, ours = twins(Empty)
    assert ours() == ours() and hash(ours()) == hash(theirs()) and repr(ours()) == repr(theirs()) == "Empty()"


@frozen
class Pair(Generic[T]):
    """At module level, where pickle finds it."""

    one: T
    two: T


@frozen
class Triple(Pair[T]):
    """Inherits two fields and adds one."""

    three: int = 3


def test_fields_are_inherited() -> None:
    value = Triple("a", "b")
    assert (value.one, value.two, value.three) == ("a", "b", 3)
    assert Triple("a", "b") != Pair("a", "b") and repr(value) == "Triple(one='a', two='b', three=3)"
    match value:
        case Triple(one, two, three):
            assert (one, two, three) == ("a", "b", 3)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_values_can_be_copied_and_pickled(again: Callable[[object], object]) -> None:
    assert again(Triple("a", ("b",))) == Triple("a", ("b",))


# -- what frozen refuses


class KeywordOnlyField:
    number: int = field(kw_only=True)


class KeywordOnlyMarker:
    _: KW_ONLY
    number: int


class DefaultWithoutInit:
    number: int = field(init=False, default=1)


class FactoryWithoutInit:
    items: list[int] = field(init=False, default_factory=list)


class InitVariable:
    seed: InitVar[int]
    number: int = field(init=False)


class HashOfItsOwn:
    number: int = field(hash=False)


class DefaultFirst:
    number: int = 1
    text: str


class OwnInit:
    number: int

    def __init__(self) -> None: ...


class OwnSetattr:
    number: int

    def __setattr__(self, name: str, value: object) -> None: ...


class OwnDelattr:
    number: int

    def __delattr__(self, name: str) -> None: ...


class OwnEqAlone:  # noqa: PLW1641
    number: int

    def __eq__(self, other: object) -> bool:
        return self is other


class ReservedField:
    _compared: int


class ReservedMethod:
    number: int

    def _compared(self) -> None: ...


class OwnSlots:
    __slots__ = ("number",)
    number: int


class MutableDefault:
    items: list[int] = []  # noqa: RUF012


@dataclass(frozen=True)
class StandardFrozen:
    number: int


@dataclass
class Standard:
    number: int


class OnStandardFrozen(StandardFrozen):
    text: str


class OnStandard(Standard):
    text: str


class DefaultInBase(Triple[int]):
    four: int


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (KeywordOnlyField, "KeywordOnlyField.number: frozen does not support kw_only"),
        (KeywordOnlyMarker, "KeywordOnlyMarker.number: frozen does not support kw_only"),
        (DefaultWithoutInit, "DefaultWithoutInit.number: frozen does not support a default with init=False"),
        (FactoryWithoutInit, "FactoryWithoutInit.items: frozen does not support a default with init=False"),
        (InitVariable, "InitVariable.seed: frozen does not support InitVar"),
        (HashOfItsOwn, "HashOfItsOwn.number: frozen does not support hash=; compare= decides about both"),
        (DefaultFirst, "DefaultFirst.text: frozen does not support a field without a default after 'number'"),
        (DefaultInBase, "DefaultInBase.four: frozen does not support a field without a default after 'three'"),
        (OwnInit, "OwnInit: frozen does not support a class with its own __init__; define __post_init__"),
        (OwnSetattr, "OwnSetattr: frozen does not support a class with its own __setattr__"),
        (OwnDelattr, "OwnDelattr: frozen does not support a class with its own __delattr__"),
        (OwnEqAlone, "OwnEqAlone: frozen does not support an __eq__ without a __hash__"),
        (ReservedField, "ReservedField._compared: frozen does not support a field of this name"),
        (ReservedMethod, "ReservedMethod: frozen does not support a class with its own _compared"),
        (OnStandardFrozen, "OnStandardFrozen: frozen does not support the base class StandardFrozen, a dataclass of"),
        (OnStandard, "OnStandard: frozen does not support the base class Standard, a dataclass of the standard library"),
        (OwnSlots, "OwnSlots already specifies __slots__"),
    ],
)
def test_decoration_refuses_what_is_not_supported(written: type, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        frozen(written)
    assert message in str(caught.value)


def test_a_mutable_default_is_refused_as_by_the_standard_library() -> None:
    with pytest.raises(ValueError, match="mutable default"):
        frozen(MutableDefault)


def test_a_field_can_have_any_name() -> None:
    """The names that the compiled __init__ uses are not those of fields."""

    @frozen
    class Odd:
        self: int
        _set: int
        _MISSING: int = 3
        _new_items: int = 4
        items: list[int] = field(default_factory=list)

    assert repr(Odd(1, 2)).endswith("Odd(self=1, _set=2, _MISSING=3, _new_items=4, items=[])")


def test_an_own_eq_and_hash_stay() -> None:
    @frozen
    class Loose:
        number: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loose)

        def __hash__(self) -> int:
            return 7

    assert Loose(1) == Loose(2) and hash(Loose(1)) == 7
