"""What the two kinds of places share: the result of a write, and layers that cannot be had any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.formats.cache_index import CacheIndex
from pybuild.store.formats.cache_merge import merged
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from pybuild.store.formats.cache_index import CachedMount
    from pybuild.store.formats.digest import Digest


@frozen
class WrittenCache:
    """What a place has now: the digest of the manifest, and numbers of records and layers.

    `sent` and `spared` are the bytes of layers that the place lacked and that it had, `earlier` is the number of records
    that it had. `mounts` are its cache mounts; `earlier_mounts` is the number of those that it had. If there is nothing to
    write the digest is None.
    """

    digest: Digest | None
    records: int
    layers: int
    sent: int
    spared: int
    earlier: int = 0
    mounts: tuple[CachedMount, ...] = ()
    earlier_mounts: int = 0


class LayersGone(Exception):
    """Not for users: the place lacks layers, and no other place has them: what needs them has to be left out."""

    def __init__(self, digests: AbstractSet[Digest]) -> None:
        super().__init__(f"{len(digests)} layers of the cache cannot be had any more")
        self.digests = digests


def without(index: CacheIndex, gone: AbstractSet[Digest]) -> CacheIndex:
    """The records that need none of these layers (digests of blobs), neither themselves nor below; and such mounts."""
    left = tuple(record for record in index.records if record.layer is None or record.layer.digest not in gone)
    tables = tuple(table for table in index.tables if table.pack.digest not in gone)
    mounts = tuple(mount for mount in index.mounts if mount.layer.digest not in gone)
    return merged(CacheIndex(), CacheIndex(left, tables, mounts), most=len(left))
