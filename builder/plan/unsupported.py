"""Flags that the parser accepts and the builder does not support. They are refused before anything runs.

Each flag is one line of the table. To implement a flag, remove its line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.parser import Buildfile, From, Instruction

# (instruction, flag) -> the hint, if there is one
REFUSED: dict[tuple[str, str], str | None] = {
    ("RUN", "device"): "a step can only use these devices: null, zero, full, random, urandom, tty",
}


def stop(error: PlanError) -> None:
    """What a build does at the first mistake of a recipe. A check collects the mistakes and goes on."""
    raise error


def refuse_unsupported(buildfile: Buildfile, on_error: Callable[[PlanError], None] = stop) -> None:
    """Check every instruction of every stage, needed or not, and pass each unsupported flag to `on_error`."""
    for stage in buildfile.stages:
        for instruction in (stage.base, *stage.instructions):
            for error in _unsupported(instruction):
                on_error(error)


def refuse_instruction(instruction: From | Instruction) -> None:
    """Check one instruction: of a recipe, or of an ONBUILD trigger of an image. Raises PlanError."""
    for error in _unsupported(instruction):
        raise error


def _unsupported(instruction: From | Instruction) -> Iterator[PlanError]:
    for flag in getattr(instruction, "flags", ()):
        refused = (instruction.keyword, flag.name)
        if refused in REFUSED:
            yield PlanError(f"{' --'.join(refused)} is not supported", span=flag.span, hint=REFUSED[refused])
