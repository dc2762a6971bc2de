"""pybuild build --check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild import report
from pybuild.builder.check import check
from pybuild.builder.events import CheckWarning, Note, ignore
from pybuild.progress.formatting import warning_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.check import CheckReport
    from pybuild.builder.events import Event
    from pybuild.store.store import Store


def check_only(request: BuildRequest, store: Store, observe: Callable[[Event], None] | None) -> int:
    """Pass what a check finds to `observe`, or print it if that is None; return the exit status."""
    found = check(request, store, observe or ignore)
    if observe is None:
        _print(found)
    else:
        for text in found.notes:
            observe(Note(text))
        for warning in found.warnings:
            observe(CheckWarning(warning.rule, warning.message, found.source, warning.span))
        for error in found.mistakes:
            report.show(error)
    return int(not found.is_clean)


def _print(found: CheckReport) -> None:
    for text in found.notes:
        click.echo(f"note: {text}", err=True)
    for warning in found.warnings:
        event = CheckWarning(warning.rule, warning.message, found.source, warning.span)
        click.echo(f"{warning_line(event)}\n{found.source.excerpt(warning.span)}")
    for error in found.mistakes:
        report.show(error)
    errors = [_counted(len(found.mistakes), "error")] if found.mistakes else []
    counts = " and ".join([*errors, _counted(len(found.warnings), "warning")])
    click.echo(f"Check complete, {counts} found.")


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
