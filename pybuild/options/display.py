"""The options of `pybuild build` about what it shows and how it exits."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from pybuild.builder.errors import StepFailed
from pybuild.options.call import Call, read_call
from pybuild.options.groups import OptionGroup
from pybuild.progress import COLOURS, KINDS, kind_for
from pybuild.values import frozen


@frozen
class DisplayOptions:
    """What the user sees, on the terminal and as the exit status."""

    kind: str  # a display of pybuild.progress.progress_for
    call: Call | None  # what to print in place of building; None: the recipe is built
    exit_code: str  # "1" or "run"
    colour: str = "auto"  # one of pybuild.progress.COLOURS

    def status_of(self, error: Exception) -> int:
        """The exit status of a build that ended with this error."""
        return error.status if self.exit_code == "run" and isinstance(error, StepFailed) else 1


def _display_options(
    *, progress: str, quiet: bool, check: bool, call: str | None, format: str | None, exit_code: str, colour: str
) -> DisplayOptions:
    try:
        kind = kind_for("quiet" if quiet else progress, os.environ, terminal=sys.stderr.isatty())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return DisplayOptions(kind, read_call(call, format, check=check), exit_code, colour)


class _Kind(click.Choice):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """The values of --progress."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click.UsageError."""
        if value == "rawjson":
            self.fail("rawjson is BuildKit's own form of events; pybuild's is --progress=json", param, ctx)
        return super().convert(value, param, ctx)


DISPLAY = OptionGroup(
    "display",
    "Display and exit status",
    _display_options,
    (
        click.Option(
            ["--progress"],
            type=_Kind(KINDS),
            default="auto",
            show_default=True,
            help="How to show progress; auto is a live view on a terminal, groups and annotations in GitHub Actions, and"
            " plain lines elsewhere.",
        ),
        click.Option(
            ["--color", "--colour", "colour"],
            type=click.Choice(COLOURS),
            default="auto",
            show_default=True,
            help="When to colour what is shown; auto is on a terminal, unless the variable NO_COLOR is set.",
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show only the digest of the image, and errors."),
        click.Option(["--check"], is_flag=True, help="Only list warnings and mistakes of the recipe: build nothing."),
        click.Option(
            ["--call"],
            metavar="METHOD",
            help="Build nothing: check is --check, outline lists the parameters of the target, targets lists the stages."
            " METHOD,format=json prints JSON.",
        ),
        click.Option(
            ["--format"],
            metavar="FORMAT",
            help="How to print what --check or --call finds: text, json, and for a check sarif or github.  [default: text]",
        ),
        click.Option(
            ["--exit-code"],
            type=click.Choice(["1", "run"]),
            default="1",
            show_default=True,
            help="The exit status when a RUN fails: 1, or the status of its command.",
        ),
    ),
)
