"""--on-fail: what is done where a RUN fails."""

from __future__ import annotations

import os

import click

from pybuild.builder.on_failure import FailedExport, OnFail

HELP = (
    "Where a RUN fails: `shell` opens a shell in what it left, on this terminal; `export=PATH:DEST` copies PATH of it to DEST,"
    " where nothing may be yet. Can be repeated."
)


def on_fail_option(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> OnFail:
    """What --on-fail says. Raises UsageError, also where there is no terminal for a shell."""
    exports = tuple(_export(value) for value in values if value != "shell")
    taken = [export.destination for export in exports]
    for number, destination in enumerate(taken):
        if destination in taken[:number]:
            raise click.UsageError(f"--on-fail: two exports to {destination}")
    if "shell" not in values:
        return OnFail(exports)

    from pybuild.shell_terminal import ShellTerminal, find_terminal

    try:
        incoming, outgoing = find_terminal()
    except ValueError as error:
        raise click.UsageError(f"--on-fail shell needs a terminal, and {error}") from None
    term = os.environ.get("TERM")
    variables = (f"TERM={term}",) if term else ()
    return OnFail(exports, ShellTerminal(incoming, outgoing), variables)


def _export(value: str) -> FailedExport:
    kind, equals, rest = value.partition("=")
    path, colon, destination = rest.partition(":")
    if kind != "export" or not equals or not path or not colon or not destination:
        raise click.UsageError(f"--on-fail {value}: expected shell or export=PATH:DEST")
    place = os.path.abspath(destination)
    if os.path.lexists(place):
        raise click.UsageError(f"--on-fail {value}: {destination} exists already")
    if not os.path.isdir(os.path.dirname(place)):
        raise click.UsageError(f"--on-fail {value}: there is no directory {os.path.dirname(place)}")
    return FailedExport(path, place)
