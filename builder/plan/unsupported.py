"""What the parser reads and the builder does not do: refused before anything runs, where it stands in the recipe.

A flag is one line of the table here; the line goes when the feature comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError

if TYPE_CHECKING:
    from pybuild.parser import Buildfile, From, Instruction

# Instruction and flag -> the hint, where there is something to say.
REFUSED: dict[tuple[str, str], str | None] = {
    ("RUN", "device"): "a step has no devices of the machine but the usual ones: null, zero, full, random, tty",
}


def refuse_unsupported(buildfile: Buildfile) -> None:
    """Look at every instruction of every stage, needed or not. Raises PlanError at the first that has to wait."""
    for stage in buildfile.stages:
        refuse_instruction(stage.base)
        for instruction in stage.instructions:
            refuse_instruction(instruction)


def refuse_instruction(instruction: From | Instruction) -> None:
    """One instruction: of a recipe, or of a trigger that an image brings. Raises PlanError."""
    for flag in getattr(instruction, "flags", ()):
        refused = (instruction.keyword, flag.name)
        if refused in REFUSED:
            raise PlanError(f"{' --'.join(refused)} is not supported", span=flag.span, hint=REFUSED[refused])
