"""--sort, -n and --depth of the commands that list files with sizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from pybuild.store.layers.sizes import by_directory, by_path
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.layers.sizes import ListedChange


@frozen
class ListingOptions:
    """How files are listed. `most` None lists all of them, `depth` None each by itself, `sort` None as is usual."""

    sort: str | None
    most: int | None
    depth: int | None

    @property
    def given(self) -> bool:
        """Whether any of the options is there."""
        return self != ListingOptions(None, None, None)

    def arranged(
        self, lines: Sequence[ListedChange], largest_first: Callable[[ListedChange], tuple[int, bytes]]
    ) -> list[ListedChange]:
        """All lines, summed by directory and sorted as asked for; `largest_first` is the key for `--sort size`."""
        summed = list(lines) if self.depth is None else by_directory(lines, self.depth)
        return sorted(summed, key=largest_first if self.sort == "size" else by_path)


def listing_options() -> list[click.Parameter]:
    """The options `sort`, `most` and `depth`."""
    return [
        click.Option(["--sort"], type=click.Choice(["path", "size"]), help="The order of the files. [default: path]"),
        click.Option(
            ["-n", "--lines", "most"], type=click.IntRange(min=0), metavar="N", help="List at most N files, the first."
        ),
        click.Option(
            ["--depth"],
            type=click.IntRange(min=0),
            metavar="N",
            help="Sum files by directory, down to N levels below the root.",
        ),
    ]


def shown_path(path: bytes) -> str:
    """A path from the root, as text: that of a toc, or the `path` of a ListedChange."""
    return "/" if path == b"/" else "/" + os.fsdecode(path)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 line", "2 lines"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
