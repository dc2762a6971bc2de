"""--on-fail: what happens when a RUN fails."""

from __future__ import annotations

import os

import click

from pybuild.builder.on_failure import FailedExport, OnFail

HELP = (
    "When a RUN fails: `shell` opens a shell in its filesystem, on this terminal; `export=PATH:DEST` copies PATH out of"
    " it to DEST, which must not exist. Can be repeated."
)


def parse_on_fail(values: tuple[str, ...]) -> OnFail:
    """The actions of all values together. Raises click.UsageError, also if a shell would have no terminal."""
    exports = tuple(_export(value) for value in values if value != "shell")
    destinations = [export.destination for export in exports]
    for number, destination in enumerate(destinations):
        if destination in destinations[:number]:
            raise click.UsageError(f"--on-fail: two exports to {destination}")
    if "shell" not in values:
        return OnFail(exports)

    from pybuild.shell_terminal import ShellTerminal, find_terminal

    try:
        incoming, outgoing = find_terminal()
    except ValueError as error:
        raise click.UsageError(f"--on-fail shell needs a terminal: {error}") from None
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
        raise click.UsageError(f"--on-fail {value}: {destination} already exists")
    if not os.path.isdir(os.path.dirname(place)):
        raise click.UsageError(f"--on-fail {value}: there is no directory {os.path.dirname(place)}")
    return FailedExport(path, place)
