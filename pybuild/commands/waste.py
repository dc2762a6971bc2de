"""pybuild history --waste: what an image carries for nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import click

from pybuild.named_image import layer_instructions
from pybuild.options.listing import counted, shown_path
from pybuild.progress.formatting import short
from pybuild.report import printable
from pybuild.store.formats.toc import sort_key
from pybuild.store.layers.sizes import content_size, shortened
from pybuild.store.layers.view import View
from pybuild.store.layers.waste import hidden_files, repeated_files
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.options.listing import ListingOptions
    from pybuild.store.formats.toc import Toc
    from pybuild.store.importing.archived import ReadableImage


class _Wasted(NamedTuple):
    """A line of the listing. A number of a layer is -1 if it does not apply."""

    path: bytes
    reason: str  # deleted, overwritten or twice
    layer: int  # that has the bytes
    hidden_by: int
    same_as: bytes | None
    size: int
    paths: int


def show_waste(image: ReadableImage, options: ListingOptions, *, as_json: bool) -> None:
    """Print what of the image is waste, the largest first unless the options say otherwise. Raises StoreError."""
    tables = image.tables()
    lines = _wasted(tables, options.depth)
    lines.sort(key=lambda line: sort_key(line.path) if options.sort == "path" else (-line.size, sort_key(line.path)))
    shown = lines[: options.most]
    if as_json:
        for line in shown:
            click.echo(json.dumps(_fields(line, image)))
        return
    instructions = [short(text) or "?" for text in layer_instructions(image)]
    for line in shown:
        click.echo(f"{human_size(line.size):>9}  {_text(line, instructions)}")
    wasted = sum(line.size for line in lines)
    left = len(lines) - len(shown)
    more = f", {counted(left, 'line')} not shown" if left else ""
    total = sum(content_size(entry) for toc in tables for entry in toc)
    click.echo(f"{human_size(wasted):>9}  wasted of {human_size(total)} in all layers{more}")


def _wasted(tables: Sequence[Toc], depth: int | None) -> list[_Wasted]:
    """All waste; with a depth, what differs only in deeper components becomes one line."""
    found = [
        _Wasted(each.path, "deleted" if each.deleted else "overwritten", each.layer, each.hidden_by, None, each.size, 1)
        for each in hidden_files(tables)
        if each.size
    ]
    found += [
        _Wasted(each.path, "twice", -1, -1, each.same_as, each.size, 1) for each in repeated_files(View(tables[::-1]))
    ]
    if depth is None:
        return found
    sums: dict[tuple[object, ...], _Wasted] = {}
    for line in found:
        path = shortened(line.path, depth)
        key = path, line.reason, line.layer, line.hidden_by
        known = sums.get(key)
        if known is None:
            sums[key] = line._replace(path=path)
        else:
            sums[key] = known._replace(size=known.size + line.size, paths=known.paths + line.paths, same_as=None)
    return list(sums.values())


def _text(line: _Wasted, instructions: Sequence[str]) -> str:
    path = printable(shown_path(line.path)) + (f" ({line.paths} files)" if line.paths > 1 else "")
    if line.reason == "twice":
        same = "another file" if line.same_as is None else printable(shown_path(line.same_as))
        return f"{path}  has the content of {same}"
    return f"{path}  of `{instructions[line.layer]}`, {line.reason} by `{instructions[line.hidden_by]}`"


def _fields(line: _Wasted, image: ReadableImage) -> dict[str, object]:
    def layer(number: int) -> str | None:
        return None if number < 0 else str(image.layers[number].diff_id)

    return {
        "path": shown_path(line.path),
        "size": line.size,
        "reason": line.reason,
        "diff_id": layer(line.layer),
        "hidden_by": layer(line.hidden_by),
        "same_as": None if line.same_as is None else shown_path(line.same_as),
        "paths": line.paths,
    }
