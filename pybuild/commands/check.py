"""pybuild build --check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.builder.check import check
from pybuild.builder.events import CheckWarning, Note
from pybuild.progress.formatting import warning_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.events import Event
    from pybuild.store.store import Store


def check_only(request: BuildRequest, store: Store, observe: Callable[[Event], None] | None) -> int:
    """Pass the warnings about a recipe to `observe`, or print them if it is None; return the exit status."""
    count = check(request, store, observe or _print)
    if observe is None:
        warnings = "no warnings" if not count else "1 warning" if count == 1 else f"{count} warnings"
        click.echo(f"Check complete, {warnings} found.")
    return int(count > 0)


def _print(event: Event) -> None:
    match event:
        case CheckWarning(source=source, span=span):
            click.echo(f"{warning_line(event)}\n{source.excerpt(span)}")
        case Note(text=text):
            click.echo(f"note: {text}", err=True)
        case _:
            raise AssertionError(event)
