"""What a page tells of one image, or of the differences between two."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from pybuild.builder.plan.history import instruction_of
from pybuild.pages.columns import Columns
from pybuild.pages.file_rows import put_files
from pybuild.pages.texts import shown_json, shown_name, shown_text
from pybuild.store.formats.oci_config import normalise_history
from pybuild.store.layers.difference import Change, differences_in_order
from pybuild.store.layers.largest import largest
from pybuild.store.layers.overlaid import Overlaid, Version, overlaid, visible_entries

if TYPE_CHECKING:
    from pybuild.pages.file_rows import FileSums
    from pybuild.store.importing.archived import ReadableImage
    from pybuild.store.layers.difference import Difference

_LARGEST = 30


def image_data(name: str, image: ReadableImage) -> str:
    """The data of the page of an image that the user calls `name`. Raises StoreError, RemoteError."""
    tables = image.tables()
    columns = Columns()
    sums = put_files(columns, overlaid(tables), len(tables))
    head = {"kind": "image", "image": _described(name, image, sums), "largest": _largest(sums)}
    return columns.packed({**head, "repeated": sums.repeated})


def difference_data(names: tuple[str, str], before: ReadableImage, after: ReadableImage) -> str:
    """The data of the page of what differs between two images. Raises StoreError, RemoteError."""
    columns = Columns()
    found = differences_in_order(visible_entries(before.tables()), visible_entries(after.tables()))
    put_files(columns, map(_sides, found), 2)
    pairs = zip(before.config.diff_ids, after.config.diff_ids, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    images = [_described(names[0], before), _described(names[1], after)]
    return columns.packed({"kind": "difference", "images": images, "shared": shared})


def _sides(found: Difference) -> Overlaid:
    """A difference as if the first image were a layer, and the second one a layer on it."""
    versions = []
    if found.before is not None:
        versions.append(Version(0, Change.ADDED, found.before, 1))
    versions.append(Version(1, found.change, found.after))
    return Overlaid(found.path, versions)


def _described(name: str, image: ReadableImage, sums: FileSums | None = None) -> dict[str, object]:
    config = image.config
    layers: list[dict[str, object]] = []
    history: list[dict[str, object]] = []
    for line in normalise_history(config).history:
        instruction = shown_text(instruction_of(line.created_by))
        told: dict[str, object] = {
            "instruction": instruction,
            "created": line.created,
            "comment": line.comment,
            "author": line.author,
        }
        if not line.empty_layer:
            number = len(layers)
            layer = image.layers[number]
            layers.append(
                {
                    "instruction": instruction,
                    "digest": str(layer.digest or ""),
                    "diff_id": str(layer.diff_id),
                    "size": layer.size,
                    "content": sums.content[number] if sums else 0,
                    "hidden": sums.hidden[number] if sums else 0,
                }
            )
            history.append({**told, "layer": number})
        else:
            history.append(told)
    platform = "/".join(part for part in (config.os, config.architecture, config.variant) if part)
    return {
        "name": shown_text(name),
        "names": [*map(shown_text, image.names)],
        "digest": str(image.digest or ""),
        "platform": shown_text(platform),
        "created": config.created,
        "author": shown_text(config.author),
        "config": shown_json(config.config.to_json()),
        "annotations": shown_json(image.manifest.annotations if image.manifest else {}),
        "layers": layers,
        "history": shown_json(history),
    }


def _largest(sums: FileSums) -> list[list[object]]:
    return [["/" + shown_name(path), size] for path, size in largest(sums.visible, _LARGEST)]
