"""For gc, df and fsck: measures, removes and reads trees and cache mounts, whose files can belong to ids of the namespace."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.jobs.fsck import CompareTree, WriteBlob
from pybuild.builder.jobs.step import MeasureTree
from pybuild.builder.steps.removal import discard
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.maintenance.gc import collect, exceeds
from pybuild.store.system.directories import opened_directory, tree_size
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.builder.jobs.job import Job
    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.maintenance.gc import Freed
    from pybuild.store.maintenance.trees import BlobToWrite, TreeToCompare
    from pybuild.store.objects.changesets import LayerBlob
    from pybuild.store.store import Store

R = TypeVar("R")


class StoreDirectories:
    """Measures and removes directories of a store, inside the namespace if it has to."""

    def __init__(self, store: Store, pool: Pool) -> None:
        self._store = store
        self._pool = pool
        self.not_removed = 0  # the number of directories for which the machine refused the necessary namespace

    def measure(self, directory: str) -> int:
        """The bytes of a directory; 0 if it does not exist, or if it takes a namespace that the machine refuses."""
        try:
            with opened_directory(directory) as fd:
                return tree_size(fd)
        except PermissionError:
            try:
                return self._pool.run(MeasureTree(directory)).size
            except PrivilegeError:
                return 0
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return 0
            raise

    def remove(self, directory: str) -> None:
        """Remove a directory in the store's ingest. If this machine cannot, `not_removed` counts it."""
        try:
            discard(self._store, self._pool, directory)
        except PrivilegeError:
            self.not_removed += 1


class StoreTrees:
    """Reads the trees of a store for fsck: those of the id maps that this user has here, inside the namespace.

    `pools` are for builds of every isolation: their id maps can differ.
    """

    def __init__(self, *pools: Pool) -> None:
        self._pools = pools

    def compare(self, wanted: TreeToCompare) -> str | None:
        """See `store.maintenance.trees.Trees`."""
        found = self._run(wanted.id_map, CompareTree(wanted.tree, wanted.toc, wanted.below, wanted.content))
        return None if found is None else found.text

    def write_blob(self, wanted: BlobToWrite) -> str | None:
        """See `store.maintenance.trees.Trees`."""
        job = WriteBlob(wanted.tree, wanted.toc, wanted.path, wanted.compression, wanted.clamp)
        found = self._run(wanted.id_map, job)
        return None if found is None else found.digest

    def _run(self, id_map: str, job: Job[R]) -> R | None:
        for pool in self._pools:
            if id_map == pool.tree_map:
                try:
                    return pool.run(job)
                except PrivilegeError:
                    return None
        return None


def fetch_again(fetcher: LayerFetcher, had: Iterable[LayerBlob]) -> Iterator[str]:
    """Fetch the layer blobs that a repair has dropped and a registry has; yield a line about each.

    `had` are those that were elsewhere before the repair.
    """
    before = {blob.digest for blob in had}
    for blob in fetcher.store.changesets.absent_blobs():
        if blob.digest in before:
            continue
        try:
            run_until_complete(fetcher.fetch([blob]))
        except PybuildError as error:
            yield f"blob {blob.digest}: not fetched again yet ({error})"
        else:
            yield f"blob {blob.digest}: fetched again"


def collect_above(store: Store, pool: Pool, limit: int) -> Freed | None:
    """Free what exceeds the limit (bytes), the least recently used first. None: the store is within the limit."""
    directories = StoreDirectories(store, pool)
    if not exceeds(store, limit, directories.measure):
        return None
    return collect(store, limit, directories.measure, directories.remove)
