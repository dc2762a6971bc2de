"""What a build added to an image, by tables of contents."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.events import AddedContent
from pybuild.store.errors import StoreError
from pybuild.store.layers.largest import largest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.store import Store

_COUNT = 3


def largest_added(store: Store, layers: Iterable[tuple[str, str]]) -> tuple[AddedContent, ...]:
    """The largest things in some changesets, each given with the instruction that made it."""
    found = []
    for changeset, instruction in layers:
        try:
            things = largest(store.changesets.toc(changeset).contents(), _COUNT)
        except (StoreError, OSError):
            continue  # the image is complete; fsck reports what is wrong with the store
        found += [AddedContent("/" + os.fsdecode(path), size, instruction) for path, size in things]
    return tuple(sorted(found, key=lambda thing: -thing.size)[:_COUNT])
