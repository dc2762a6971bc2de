"""pybuild history: what each instruction added to an image."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from pybuild.api import open_image
from pybuild.progress.formatting import one_line
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.image import Image
    from pybuild.store.layers.difference import Difference


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--files", "with_files", is_flag=True, help="List what each layer adds (A), changes (C) and deletes (D).")
@click.pass_obj
def history(root: str, name: str, as_json: bool, with_files: bool) -> int:
    """Show the instructions and layers of an image, oldest first."""
    image = open_image(name, root)
    changes = image.changes() if with_files else None
    if not as_json:
        click.echo(f"{'SIZE':>9}  {'CREATED':<20}  {'LAYER':<12}  INSTRUCTION")
    for row in _rows(image, changes):
        click.echo(json.dumps(row) if as_json else _line(row))
        if with_files and not as_json:
            for change in row["files"]:  # type: ignore[attr-defined]
                click.echo(f"{'':>9}  {change['change']} {change['path']}")
    return 0


def _line(row: dict[str, object]) -> str:
    size = human_size(int(str(row["size"]))) if row["layer"] else ""
    layer = str(row["layer"] or "").partition(":")[2][:12]
    return f"{size:>9}  {str(row['created'] or '')[:20]:<20}  {layer:<12}  {one_line(str(row['instruction']))}"


def _rows(image: Image, changes: Sequence[Sequence[Difference]] | None) -> Iterator[dict[str, object]]:
    """A row for each line of the history; with the files of its layer, if `changes` is given for all layers."""
    by_layer = iter(changes or ())
    for line in image.history:
        layer = line.layer
        row: dict[str, object] = {
            "created": line.created,
            "instruction": line.instruction,
            "layer": str(layer.digest) if layer else None,
            "diff_id": str(layer.diff_id) if layer else None,
            "size": layer.size if layer else 0,
        }
        if changes is not None:
            row["files"] = [_file_fields(found) for found in (next(by_layer) if layer else ())]
        yield row


def _file_fields(found: Difference) -> dict[str, object]:
    size = 0 if found.after is None else found.after.size
    return {"change": found.change.value, "path": "/" + os.fsdecode(found.path), "size": size}
