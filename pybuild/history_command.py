"""pybuild history: what each instruction added to an image."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from builder.changesets import ensure_tocs
from builder.history import instruction_of
from builder.workers.pool import Pool
from builder.workers.tasks import complete
from pybuild.progress import human_size
from store.difference import layer_differences
from store.spec import normalise_history
from store.store import Store
from store.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.images import Image


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--files", "with_files", is_flag=True, help="List what each layer adds (A), changes (C) and deletes (D).")
@click.pass_obj
def history(root: str, name: str, as_json: bool, with_files: bool) -> int:
    """Show the layers of an image and the instructions that made them, the first one first."""
    with Store(root) as store:
        image = store.images.find(name)
        if with_files:
            with Pool() as pool:
                complete(ensure_tocs(store, pool, image.snapshot))
        if not as_json:
            click.echo(f"{'SIZE':>9}  {'CREATED':<20}  {'LAYER':<12}  INSTRUCTION")
        for row in _rows(store, image, with_files):
            click.echo(json.dumps(row) if as_json else _line(row))
            if with_files and not as_json:
                for change in row["files"]:  # type: ignore[attr-defined]
                    click.echo(f"{'':>9}  {change['change']} {change['path']}")
    return 0


def _line(row: dict[str, object]) -> str:
    size = human_size(int(str(row["size"]))) if row["layer"] else ""
    layer = str(row["layer"] or "").partition(":")[2][:12]
    text = "".join(character if character.isprintable() else " " for character in str(row["instruction"]))
    return f"{size:>9}  {str(row['created'] or '')[:20]:<20}  {layer:<12}  {text}"


def _rows(store: Store, image: Image, with_files: bool) -> Iterator[dict[str, object]]:
    changesets = store.snapshots.changesets(image.snapshot)[::-1]
    layer = 0
    for line in normalise_history(image.config).history:
        row: dict[str, object] = {
            "created": line.created,
            "instruction": instruction_of(line.created_by),
            "layer": None,
            "diff_id": None,
            "size": 0,
        }
        if not line.empty_layer:
            descriptor = image.manifest.layers[layer]
            row |= {
                "layer": str(descriptor.digest),
                "diff_id": str(image.config.diff_ids[layer]),
                "size": descriptor.size,
            }
            if with_files:
                tocs = [store.changesets.toc(changeset) for changeset in changesets[: layer + 1]]
                row["files"] = [
                    {
                        "change": found.change.value,
                        "path": "/" + os.fsdecode(found.path),
                        "size": 0 if found.after is None else found.after.size,
                    }
                    for found in layer_differences(View(tocs[:-1][::-1]), tocs[-1])
                ]
            layer += 1
        elif with_files:
            row["files"] = []
        yield row
