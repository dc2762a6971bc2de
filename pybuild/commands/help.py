"""pybuild help and pybuild version: what people type who look for --help and --version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.parser.suggest import suggest
from pybuild.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_(ctx: click.Context, command: str | None) -> int:
    """Show the help of a command, or the list of commands."""
    parent = ctx.parent
    assert parent is not None and isinstance(parent.command, click.Group)  # the group has called this command
    if command is None:
        click.echo(parent.get_help())
        return 0
    found = parent.command.get_command(parent, command)
    if found is None:
        known = parent.command.list_commands(parent)
        raise click.UsageError(f"{command}: there is no such command; expected {', '.join(known)}")
    click.echo(found.get_help(click.Context(found, parent, command)))
    return 0


@click.command()
def version() -> int:
    """Show the version."""
    click.echo(f"pybuild, version {__version__}")
    return 0


def refuse_misspelt(word: str, known: Sequence[str], following: str = "-") -> None:
    """Raise UsageError if `word`, which is neither a command nor a directory, cannot be a context that is missing.

    It cannot if a command has nearly that name, or if the word `following` is not an option: a build takes one context.
    """
    near = suggest(word, known)
    if near is not None or not following.startswith("-"):
        advice = f"did you mean {near}?" if near else "pybuild --help lists the commands"
        raise click.UsageError(f"{word}: there is no such command or directory; {advice}")
