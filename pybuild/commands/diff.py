"""pybuild diff: the differences between two images, or those that each layer makes above a base."""

from __future__ import annotations

import json
import os
import stat
from itertools import takewhile
from typing import TYPE_CHECKING

import click

from pybuild.builder.plan.history import instruction_of
from pybuild.builder.steps.layer_forms import ensure_tocs
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.progress import human_size
from pybuild.report import printable
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.oci_config import normalise_history
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.difference import Change, differences, layer_differences
from pybuild.store.layers.view import View
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.formats.toc import Toc
    from pybuild.store.layers.difference import Difference
    from pybuild.store.objects.images import StoredImage

_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option(
    "--layers", "by_layer", is_flag=True, help="List the files of each layer of B above A, which must be its base."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def diff(root: str, before: str, after: str, by_layer: bool, as_json: bool) -> int:
    """List the files that differ between two images.

    Compared with image A, image B adds (A), changes (C) and deletes (D) them. Type, mode, owner, size and content are
    compared, times are not. The exit status is 0 whether files differ or not.
    """
    with Store(root, Access.READ) as store:
        images = store.images.find(before), store.images.find(after)
        with Pool() as pool:
            for image in images:
                run_until_complete(ensure_tocs(store, pool, image.snapshot))
        if by_layer:
            for layer, instruction, found in _by_layer(store, *images):
                if as_json:
                    _show_json(found, layer=layer, instruction=instruction)
                else:
                    click.echo(f"{layer.partition(':')[2][:12]}  {printable(instruction)}")
                    _show(found)
        else:
            found = differences(*(store.snapshots.view(image.snapshot) for image in images))
            if as_json:
                _show_json(found)
            else:
                _show(found)
    return 0


def _tables(store: Store, image: StoredImage) -> list[Toc]:
    """The tables of contents of an image, lowest layer first."""
    return [store.changesets.toc(changeset) for changeset in store.snapshots.changesets(image.snapshot)[::-1]]


def _by_layer(store: Store, base: StoredImage, image: StoredImage) -> Iterator[tuple[str, str, Iterable[Difference]]]:
    """Digest, instruction and differences of each layer above the base. Raises InvalidImage if it is not a base."""
    pairs = zip(base.config.diff_ids, image.config.diff_ids, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if shared < len(base.config.diff_ids):
        raise InvalidImage(
            "the first image is not a base of the second:"
            f" they share {shared} of its {len(base.config.diff_ids)} layers",
            hint="without --layers any two images can be compared",
        )
    tables = _tables(store, image)
    lines = [
        instruction_of(line.created_by) for line in normalise_history(image.config).history if not line.empty_layer
    ]
    for number in range(shared, len(tables)):
        found = layer_differences(View(tables[:number][::-1]), tables[number])
        yield str(image.manifest.layers[number].digest), lines[number], found


def _show(found: Iterable[Difference]) -> None:
    count = dict.fromkeys(Change, 0)
    growth = 0
    for difference in found:
        count[difference.change] += 1
        growth += _size(difference.after) - _size(difference.before)
        click.echo(f"{difference.change.value} /{printable(os.fsdecode(difference.path))}  {_rows(*difference[1:])}")
    size = f"{'-' if growth < 0 else '+'}{human_size(abs(growth))}"
    click.echo(f"{count[Change.ADDED]} added, {count[Change.CHANGED]} changed, {count[Change.DELETED]} deleted; {size}")


def _show_json(found: Iterable[Difference], **fields: str) -> None:
    for difference in found:
        rows = {"before": _fields(difference.before), "after": _fields(difference.after)}
        path = "/" + os.fsdecode(difference.path)
        click.echo(json.dumps({**fields, "change": difference.change.value, "path": path, **rows}))


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
