"""SOURCE_DATE_EPOCH of a recipe: the date of the image if the user gives none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.options import SOURCE_DATE_EPOCH, parse_epoch
from pybuild.builder.plan.resolve import global_args

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Buildfile


def with_epoch(options: BuildOptions, buildfile: Buildfile) -> BuildOptions:
    """The options with the epoch of an ARG before the first FROM, unless the user gives one. Raises PlanError."""
    declared = [arg for arg in buildfile.args if any(item.name == SOURCE_DATE_EPOCH for item in arg.items)]
    if options.epoch is not None or not declared:
        return options
    try:
        epoch = parse_epoch(global_args(buildfile, options).get(SOURCE_DATE_EPOCH) or "")
    except ValueError as error:
        raise PlanError(f"ARG {error}", span=declared[-1].span) from None
    return replace(options, epoch=epoch)
