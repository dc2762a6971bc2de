"""Findings, outlines and targets as text, in the tables of `docker buildx build --call`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.events import CheckWarning
from pybuild.builder.plan.rules import DOCUMENT
from pybuild.progress.formatting import one_line, warning_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.check import CheckReport
    from pybuild.builder.outline import Outline, Targets


def warnings_as_text(found: CheckReport) -> Iterator[str]:
    """The warnings with their lines of the recipe, and the counts. Mistakes are reported like those of a build."""
    for warning in found.warnings:
        event = CheckWarning(warning.rule, warning.message, found.source, warning.span)
        yield f"{warning_line(event)}\n{found.source.excerpt(warning.span)}"
    if found.warnings:
        yield f"{DOCUMENT} explains each rule, and how to skip it."
    errors = [_counted(len(found.mistakes), "error")] if found.mistakes else []
    counts = " and ".join([*errors, _counted(len(found.warnings), "warning")])
    yield f"Check complete, {counts} found."


def outline_as_text(found: Outline) -> Iterator[str]:
    """The name of the target, its build arguments, secrets and agents; what it has none of is left out."""
    if found.name or found.description:
        yield f"TARGET:      {one_line(found.name) or '(default)'}"
        if found.description:
            yield f"DESCRIPTION: {one_line(found.description)}"
    tables: list[tuple[Sequence[str], list[Sequence[str]]]] = [
        (("BUILD ARG", "VALUE", "DESCRIPTION"), [(a.name, a.value, a.description) for a in found.arguments]),
        (("SECRET", "REQUIRED"), [(need.id, "true" if need.required else "") for need in found.secrets]),
        (("SSH", "REQUIRED"), [(need.id, "true" if need.required else "") for need in found.agents]),
    ]
    is_first = not (found.name or found.description)
    for title, rows in tables:
        if rows:
            if not is_first:
                yield ""
            yield from _table([title, *rows], gap=3)
            is_first = False


def targets_as_text(found: Targets) -> Iterator[str]:
    """The names and descriptions of all targets."""
    rows: list[Sequence[str]] = [("TARGET", "DESCRIPTION")]
    for target in found.targets:
        default = "(default)" if target.is_default else ""
        rows.append((f"{target.name} {default}".strip(), target.description))
    yield from _table(rows, gap=1)


def _table(rows: Sequence[Sequence[str]], gap: int) -> Iterator[str]:
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) + gap for column in zip(*cells, strict=True)]
    for row in cells:
        yield "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
