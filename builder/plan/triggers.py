"""ONBUILD triggers: the instructions that a base adds to the stages that start from it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.unsupported import refuse_instruction
from pybuild.parser import ParseError
from pybuild.values.limits import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pybuild.parser import Instruction, Span


def read_triggers(
    texts: Sequence[str], name: str, span: Span, read_trigger: Callable[[str], Instruction]
) -> tuple[Instruction, ...]:
    """The instructions of the triggers of the base `name`; `span` is that of the FROM. Raises PlanError."""
    if len(texts) > TRIGGERS.value:
        raise TRIGGERS.exceeded(PlanError, f"{name}: {len(texts)} ONBUILD triggers exceed the limit of {{}}", span=span)
    found = []
    for text in texts:
        with locate_trigger_errors(span, name):
            try:
                found.append(read_trigger(text))
            except ParseError as error:
                raise PlanError(f"{text[:200]!r}: {error.message}", hint=error.hint) from None
            refuse_instruction(found[-1])
    return tuple(found)


@contextmanager
def locate_trigger_errors(span: Span, name: str) -> Iterator[None]:
    """Report errors in the triggers of a base at the FROM, because the text of a trigger is not in the recipe."""
    try:
        yield
    except PlanError as error:
        raise PlanError(f"ONBUILD trigger of {name}: {error}", span=span, hint=error.hint) from None
