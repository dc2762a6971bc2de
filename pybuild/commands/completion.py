"""pybuild completion: the script that makes a shell complete command lines."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the script that makes a shell complete pybuild's commands, options, images and stages.

    A wheel installs the scripts below its prefix. If the shell does not look there, as with pipx: eval "$(pybuild completion
    bash)" in ~/.bashrc, or the same for zsh; pybuild completion fish > ~/.config/fish/completions/pybuild.fish.
    """
    from pybuild.completion_scripts import completion_script

    click.echo(completion_script(ctx.find_root().command, shell), nl=False)
    return 0
