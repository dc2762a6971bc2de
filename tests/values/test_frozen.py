"""`frozen` makes what the standard library's decorator makes of the same class."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from pybuild.values import frozen

T = TypeVar("T")


class Plain:
    """A class as it is written, before a decorator makes a dataclass of it."""

    kind: ClassVar[str] = "plain"
    number: int
    text: str = "text"
    hidden: str = field(default="", repr=False)
    place: int = field(default=0, compare=False)
    items: list[int] = field(default_factory=list)

    def double(self) -> int:
        return self.number * 2


class Derived:
    """Has a field that nobody gives, and a method that the decorator would make."""

    number: int
    half: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "half", self.number // 2)

    def __repr__(self) -> str:
        return f"<{self.number}>"


class Empty:
    """Has no fields."""


def twins(written: type) -> tuple[Any, Any]:
    """The class of the standard library, and ours."""
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
def test_values_have_the_same_fields_and_look_the_same(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    theirs, ours = (kind(*positional, **named) for kind in twins(Plain))
    assert asdict(ours) == asdict(theirs) and repr(ours) == repr(theirs)
    assert ours.double() == 2 and ours.kind == "plain"
    assert [one.name for one in fields(ours)] == [one.name for one in fields(theirs)]
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert asdict(replace(ours, number=7)) == asdict(replace(theirs, number=7))


@pytest.mark.parametrize(("positional", "named"), [((), {}), ((1,), {"other": 2}), ((1,), {"number": 2}), ((1,) * 6, {})])
def test_wrong_arguments_are_refused(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in twins(Plain):
        for _ in range(2):  # the first call makes the method
            with pytest.raises(TypeError):
                kind(*positional, **named)


def test_values_are_equal_where_their_classes_and_fields_are() -> None:
    _, kind = twins(Plain)
    _, other = twins(Plain)
    assert kind(1) == kind(1, place=5) and kind(1) != kind(2) and kind(1) != other(1) and kind(1) != (1, "text", "", 0, [])
    assert hash(kind(1, items=())) == hash(kind(1, place=5, items=()))
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind(1))
    assert len({kind(1, items=()), kind(1, items=()), kind(2, items=())}) == 2


def test_each_value_has_a_default_of_its_own() -> None:
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
    with pytest.raises((FrozenInstanceError, TypeError)):  # the library's raises either, as the version has it
        value.other = 2
    assert value.number == 1 and not hasattr(value, "__dict__")


def test_what_a_class_has_itself_stays() -> None:
    theirs, ours = (kind(9) for kind in twins(Derived))
    assert ours.half == theirs.half == 4 and repr(ours) == repr(theirs) == "<9>"


def test_a_class_without_fields_has_one_value() -> None:
    theirs, ours = twins(Empty)
    assert ours() == ours() and hash(ours()) == hash(theirs()) and repr(ours()) == repr(theirs()) == "Empty()"


@frozen
class Pair(Generic[T]):
    """At the top of a module, where pickle finds it."""

    one: T
    two: T


@frozen
class Triple(Pair[T]):
    """With what it inherits."""

    three: int = 3


def test_fields_are_inherited() -> None:
    value = Triple("a", "b")
    assert (value.one, value.two, value.three) == ("a", "b", 3)
    assert Triple("a", "b") != Pair("a", "b") and repr(value) == "Triple(one='a', two='b', three=3)"
    match value:
        case Triple(one, two, three):
            assert (one, two, three) == ("a", "b", 3)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_values_are_copied_and_pickled(again: Callable[[object], object]) -> None:
    assert again(Triple("a", ("b",))) == Triple("a", ("b",))
