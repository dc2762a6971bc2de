"""What the parser reads and the builder cannot do yet: refused before anything runs, where it stands in the recipe.

Each feature is one line of a table here; the line goes when the feature comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import PlanError
from parser import Run

if TYPE_CHECKING:
    from parser import Buildfile, From, Instruction

_INSTRUCTIONS: frozenset[str] = frozenset()
_FLAGS = frozenset(
    (
        ("ADD", "keep-git-dir"),
        ("RUN", "device"),
    )
)
_MOUNTS: frozenset[str] = frozenset()
_HINTS = {("RUN", "device"): "a step has no devices of the machine but the usual ones: null, zero, full, random, tty"}


def refuse_unsupported(buildfile: Buildfile) -> None:
    """Look at every instruction of every stage, needed or not. Raises PlanError at the first that has to wait."""
    for stage in buildfile.stages:
        refuse_instruction(stage.base)
        for instruction in stage.instructions:
            refuse_instruction(instruction)


def refuse_instruction(instruction: From | Instruction) -> None:
    """One instruction: of a recipe, or of a trigger that an image brings. Raises PlanError."""
    keyword = instruction.keyword
    if keyword in _INSTRUCTIONS:
        raise PlanError(f"{keyword} is not supported yet", span=instruction.span)
    for flag in getattr(instruction, "flags", ()):
        if (keyword, flag.name) in _FLAGS:
            hint = _HINTS.get((keyword, flag.name))
            raise PlanError(f"{keyword} --{flag.name} is not supported yet", span=flag.span, hint=hint)
    for mount in instruction.mounts if isinstance(instruction, Run) else ():
        if mount.type in _MOUNTS:
            raise PlanError(f"mounts of type {mount.type} are not supported yet", span=mount.span)
