"""Option groups: options that reach a command as one value and have a heading of their own in --help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAMES_WIDTH = 30  # columns for the names of options: the same in all sections


@frozen
class OptionGroup:
    """Options, and the function that makes one value of theirs.

    A GroupedCommand passes that value to its callback as the argument `name`. `make` takes the value of each option by
    keyword and raises click.UsageError if they contradict each other.
    """

    name: str
    title: str
    make: Callable[..., object]
    options: tuple[click.Option, ...]

    def collect(self, values: dict[str, Any]) -> None:
        """Replace the values of the single options by the value of the group."""
        own = {option.name: values.pop(option.name) for option in self.options if option.name and option.expose_value}
        values[self.name] = self.make(**own)


class GroupedCommand(click.Command):
    """A command whose callback gets one argument for each group of options."""

    def __init__(
        self,
        *,
        groups: Sequence[OptionGroup],
        callback: Callable[..., int],
        params: Sequence[click.Parameter],
        **attributes: Any,
    ) -> None:
        def grouped(**values: Any) -> int:
            for group in groups:
                group.collect(values)
            return callback(**values)

        options = [option for group in groups for option in group.options]
        super().__init__(callback=grouped, params=[*params, *options], **attributes)
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each group under its title, then --help."""
        for title, options in self.sections(ctx):
            _write_section(title, options, ctx, formatter)

    def sections(self, ctx: click.Context) -> list[tuple[str, Sequence[click.Option]]]:
        """The titles and options of the groups, with --help at the end."""
        help_option = self.get_help_option(ctx)
        return [
            *((group.title, group.options) for group in self._groups),
            ("Help", [help_option] if help_option else []),
        ]


def _write_section(
    title: str, options: Sequence[click.Option], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            formatter.write_dl([(names.ljust(_NAMES_WIDTH), text) for names, text in records], col_max=_NAMES_WIDTH)
