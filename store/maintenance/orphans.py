"""Orphans: files of a store that have no row. Interrupted processes leave them; no reader looks at them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.objects.parts import PARTS, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.store import Store


class Orphans(NamedTuple):
    """The orphans in one directory. A file would belong to the row of `part` with the key `prefix` + name."""

    part: Part
    directory: str  # below the store's directory
    prefix: str
    names: list[str]


def find_orphans(store: Store) -> Iterator[Orphans]:
    """List the orphans, directory by directory. A file is listed also if another process is about to write its row."""
    for part in PARTS:
        for directory, prefix in part.file_directories():
            path = f"{store.root}/{directory}"
            names = sorted(os.listdir(path)) if os.path.isdir(path) else []
            keys = {str(row[0]) for row in store.metadata.all(f"SELECT {part.key} FROM {part.table}")}
            yield Orphans(part, directory, prefix, [name for name in names if prefix + name not in keys])
