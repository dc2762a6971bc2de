"""Variants of a value, one a field: for tests that no new field is forgotten."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pybuild.parser import Buildfile, From, Instruction

T = TypeVar("T")


def names_of(kind: type[Any]) -> list[str]:
    """The names of the fields of a class."""
    return [field.name for field in fields(kind)]


def with_other(value: T, name: str, others: Mapping[str, object]) -> T:
    """The value with another content of one field: that of `others`, else one that fits the current content's type."""
    return replace(value, **{name: others.get(name, _other(getattr(value, name)))})  # type: ignore[type-var]


def _other(content: object) -> object:
    match content:
        case bool():
            return not content
        case int():
            return content + 1
        case tuple():
            return (*content, "x")
        case _:
            return f"{content or ''}x"


def flags_of(recipe: Buildfile) -> set[tuple[str, str]]:
    """All flags of a recipe and of its triggers, each with its instruction."""
    return {
        (instruction.keyword, flag.name)
        for stage in recipe.stages
        for outer in (stage.base, *stage.instructions)
        for instruction in _with_trigger(outer)
        for flag in getattr(instruction, "flags", ())
    }


def _with_trigger(instruction: From | Instruction) -> Iterator[From | Instruction]:
    yield instruction
    if (inner := getattr(instruction, "instruction", None)) is not None:
        yield inner
