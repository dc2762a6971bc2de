"""pybuild help and pybuild version: what people type who look for --help and --version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.parser.suggest import suggest
from pybuild.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("help")
@click.argument("commands", metavar="[COMMAND...]", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, commands: tuple[str, ...]) -> int:
    """Show the help of a command, such as `build` or `index create`, or the list of commands."""
    context = ctx.parent
    assert context is not None  # the group has called this command
    for name in commands:
        group = context.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{name}: {context.info_name} has no commands of its own")
        found = group.get_command(context, name)
        if found is None:
            known = group.list_commands(context)
            raise click.UsageError(f"{name}: there is no such command; expected {', '.join(known)}")
        context = click.Context(found, context, name)
    click.echo(context.get_help())
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
