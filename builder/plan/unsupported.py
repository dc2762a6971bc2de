"""Flags that the parser accepts and the builder does not support. They are refused before anything runs.

Each flag is one line of the table. To implement a flag, remove its line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError

if TYPE_CHECKING:
    from pybuild.parser import Buildfile, From, Instruction

# (instruction, flag) -> the hint, if there is one
REFUSED: dict[tuple[str, str], str | None] = {
    ("RUN", "device"): "a step can only use these devices: null, zero, full, random, urandom, tty",
}


def refuse_unsupported(buildfile: Buildfile) -> None:
    """Check every instruction of every stage, needed or not. Raises PlanError at the first unsupported flag."""
    for stage in buildfile.stages:
        refuse_instruction(stage.base)
        for instruction in stage.instructions:
            refuse_instruction(instruction)


def refuse_instruction(instruction: From | Instruction) -> None:
    """Check one instruction: of a recipe, or of an ONBUILD trigger of an image. Raises PlanError."""
    for flag in getattr(instruction, "flags", ()):
        refused = (instruction.keyword, flag.name)
        if refused in REFUSED:
            raise PlanError(f"{' --'.join(refused)} is not supported", span=flag.span, hint=REFUSED[refused])
