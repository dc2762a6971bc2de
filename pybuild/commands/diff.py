"""pybuild diff: the differences between two images, or those that each layer makes above a base."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING

import click

from pybuild.named_image import layer_instructions, open_images
from pybuild.options.arguments import image_platform_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.options.listing import ListingOptions, counted, listing_options, shown_path
from pybuild.progress import human_size
from pybuild.report import printable
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.difference import Change, differences
from pybuild.store.layers.sizes import largest_growth, listed
from pybuild.store.layers.view import View
from pybuild.store.layers.waste import layer_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.platform import Platform
    from pybuild.store.importing.archived import ImageLayer, ReadableImage
    from pybuild.store.layers.sizes import ListedChange

_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


@click.command(params=[*listing_options(), image_platform_option(), tls_verify_option()])
@click.argument("before", metavar="A", shell_complete=complete_images)
@click.argument("after", metavar="B", shell_complete=complete_images)
@click.option(
    "--layers", "by_layer", is_flag=True, help="List the files of each layer of B above A, which must be its base."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, with all sizes in bytes.")
@click.pass_obj
def diff(
    root: str,
    before: str,
    after: str,
    by_layer: bool,
    as_json: bool,
    sort: str | None,
    most: int | None,
    depth: int | None,
    platform: Platform | None,
    tls_verify: bool,
) -> int:
    """List the files that differ between two images.

    A and B are images of the store, or ones that are not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with
    :NAME behind it if there are several.

    Compared with image A, image B adds (A), changes (C) and deletes (D) them. Type, mode, owner, size and content are
    compared, times are not. Each line begins with the bytes that B has more or less than A; --sort size lists the files
    first that make the most difference. The exit status is 0 whether files differ or not.
    """
    options = ListingOptions(sort, most, depth)
    show = _show_json if as_json else _show
    with open_images(root, before, after, platform=platform, tls_verify=tls_verify) as (base, image):
        if by_layer:
            for layer, instruction, lines in _by_layer(base, image):
                if not as_json:
                    click.echo(f"{(layer.digest or layer.diff_id).hex[:12]}  {printable(instruction)}")
                show(lines, options, layer=str(layer.digest or layer.diff_id), instruction=instruction)
        else:
            show(listed(differences(View(base.tables()[::-1]), View(image.tables()[::-1]))), options)
    return 0


def _by_layer(base: ReadableImage, image: ReadableImage) -> Iterator[tuple[ImageLayer, str, list[ListedChange]]]:
    """Layer, instruction and changes of each layer above the base. Raises InvalidImage if it is not a base."""
    pairs = zip(base.config.diff_ids, image.config.diff_ids, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if shared < len(base.config.diff_ids):
        raise InvalidImage(
            "the first image is not a base of the second:"
            f" they share {shared} of its {len(base.config.diff_ids)} layers",
            hint="without --layers any two images can be compared",
        )
    changes, instructions = list(layer_changes(image.tables())), layer_instructions(image)
    for number in range(shared, len(changes)):
        yield image.layers[number], instructions[number], changes[number].lines


def _show(changes: list[ListedChange], options: ListingOptions, **_fields_of_layer: str) -> None:
    lines = options.arranged(changes, largest_growth)
    for line in lines[: options.most]:
        growth = _signed(line.growth) if line.growth else ""
        rest = f"({counted(line.paths, 'path')})" if line.difference is None else _rows(*line.difference[1:])
        click.echo(f"{growth:>9}  {line.change.value} {printable(shown_path(line.path))}  {rest}")
    count = Counter(line.change for line in changes)
    more = len(lines) - len(lines[: options.most])
    click.echo(
        f"{count[Change.ADDED]} added, {count[Change.CHANGED]} changed, {count[Change.DELETED]} deleted;"
        f" {_signed(sum(line.growth for line in changes))}" + (f"; {counted(more, 'line')} not shown" if more else "")
    )


def _signed(growth: int) -> str:
    return f"{'-' if growth < 0 else '+'}{human_size(abs(growth))}"


def _show_json(changes: list[ListedChange], options: ListingOptions, **fields: str) -> None:
    for line in options.arranged(changes, largest_growth)[: options.most]:
        row = {**fields, "change": line.change.value, "path": shown_path(line.path), "growth": line.growth}
        if line.difference is None:
            click.echo(json.dumps({**row, "paths": line.paths}))
        else:
            before, after = line.difference[1:]
            click.echo(json.dumps({**row, "before": _fields(before), "after": _fields(after)}))


def _rows(before: Entry | None, after: Entry | None) -> str:
    if before is None or after is None:
        entry = before or after
        assert entry is not None
        return _row(entry)
    if _row(before) == _row(after):
        return f"{_row(after)} (other {'content' if before.sha256 != after.sha256 else 'attributes'})"
    return f"{_row(before)} -> {_row(after)}"


def _row(entry: Entry) -> str:
    """Mode, owner and size, as `ls -l` shows them."""
    link = f" to {printable(os.fsdecode(entry.link))}" if entry.kind is Kind.SYMLINK else ""
    size = f" {human_size(entry.size)}" if entry.kind is Kind.FILE else ""
    return f"{stat.filemode(_FORMATS[entry.kind] | entry.mode)} {entry.uid}:{entry.gid}{size}{link}"


def _fields(entry: Entry | None) -> dict[str, object] | None:
    if entry is None:
        return None
    return {
        "type": entry.kind.name.lower(),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": _size(entry),
        "link": os.fsdecode(entry.link) if entry.kind is Kind.SYMLINK else None,
        "sha256": entry.sha256.hex() or None,
    }


def _size(entry: Entry | None) -> int:
    return entry.size if entry is not None and entry.kind is Kind.FILE else 0
