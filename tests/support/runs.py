"""Runs commands as RUN steps and returns their output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.cli import BASE, write_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.support.cli import Done, Pybuild


def outputs(done: Done) -> dict[str, str]:
    """Instruction -> its whole output, from a build with --progress=json."""
    found: dict[str, str] = {}
    for event in done.events:
        if event["event"] == "step_output":
            instruction = str(event["instruction"])
            found[instruction] = found.get(instruction, "") + str(event["data"])
    return found


def run_all(
    pybuild: Pybuild,
    directory: Path,
    commands: Mapping[str, str],
    *arguments: str,
    before: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
    **environment: str,
) -> dict[str, str]:
    """Build `FROM base`, the lines of `before`, and a RUN for each command; return name of the command -> output."""
    lines = [f"FROM {BASE}", *before, *(f"RUN {command}" for command in commands.values())]
    context = write_context(directory, "\n".join(lines) + "\n", **(files or {}))
    found = outputs(pybuild.with_environment(environment)("--progress=json", *arguments, context))
    return {name: found.get(f"RUN {command}", "") for name, command in commands.items()}
