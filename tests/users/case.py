"""One case of tests/users/cases: a recipe, files beside it, a command, and what the command must print."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CASES = Path(__file__).resolve().parent / "cases"


@dataclass(frozen=True)
class UserCase:
    """A case. CONTRIBUTING.md describes the fields; their names and defaults are those of the TOML files."""

    name: str
    recipe: str = ""  # the Dockerfile; none is written if it is empty
    files: Mapping[str, str] = field(default_factory=dict)  # path in the context -> text
    prepare: str = ""  # shell commands in the context, before the command
    command: str = "pybuild ."  # shell commands in the context
    status: int = 0
    says: tuple[str, ...] = ()  # parts of the output, in this order
    never: tuple[str, ...] = ()  # what the output must not contain
    people: tuple[str, ...] = ("root", "range")  # see tests/support/people.py

    def complaint(self, status: int, output: str) -> str:
        """What is wrong with a result, or "". `output` is standard output followed by standard error."""
        if status != self.status:
            return f"exit status {status}, expected {self.status}"
        if "Traceback" in output:
            return "a traceback"
        rest = output
        for part in self.says:
            _, found, rest = rest.partition(part)
            if not found:
                return f"the output lacks {part!r}" + (" after the parts before it" if part in output else "")
        return next((f"the output contains {part!r}" for part in self.never if part in output), "")


def read_cases(path: Path) -> list[UserCase]:
    """The cases of a file, in its order. Raises ValueError for a case that checks nothing."""
    found = []
    for name, fields in tomllib.loads(path.read_text(encoding="utf-8")).items():
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        case = UserCase(name, **{**fields, **lists})
        if not (case.recipe or case.prepare or case.command != UserCase.command):
            raise ValueError(f"{path.name}: {name}: nothing to run")
        found.append(case)
    return found
