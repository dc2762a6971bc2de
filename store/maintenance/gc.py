"""gc removes from a store what nothing needs, while builds go on.

    1. choose    images that lost their names; with a size limit also the records, unnamed images and cache mounts that
                 have not been used for the longest time
    2. condemn   the objects that nothing reaches any more; their rows stay (objects/condemned.py explains why)
    3. remove    the rows of condemned objects, once every process that had the store open at step 2 has closed it
    4. purge     the files without a row

gc removes a file after its row, and both inside a transaction. Writers rename a file into place inside a transaction
too, so gc never removes a file whose row is about to be written. A killed gc leaves files without a row, or condemned
rows; the next gc continues from there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.errors import CannotWrite
from pybuild.store.maintenance.orphans import find_orphans
from pybuild.store.maintenance.reachability import Graph, StoreObject, measure_trees
from pybuild.store.objects import build_logs, context_memo
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.objects.ingest import live_leases
from pybuild.store.objects.parts import CACHE_MOUNTS, INGEST, PARSES, PARTS, PLACES
from pybuild.store.system.files import file_size
from pybuild.store.system.holes import size_on_disk
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pybuild.store.objects.cache_mounts import StoredCacheMount
    from pybuild.store.store import Store

_BLOCK = 4096  # bytes that an empty directory takes
_BATCH = 200  # files removed in one transaction; a writer waits for at most one batch


@frozen
class Freed:
    """What gc removed, or would remove in a dry run."""

    images: int = 0
    records: int = 0
    layers: int = 0
    blobs: int = 0
    cache_mounts: int = 0
    leftovers: int = 0  # files without a row, and old memos
    logs: int = 0
    size: int = 0  # bytes on the disk
    waiting: int = 0  # bytes that a later gc removes, when the processes that have the store open now have closed it
    kept: int = 0  # bytes that something needs


@frozen
class _Choice:
    """The ids of the records and cache mounts to remove; and the objects to keep, with their size in bytes."""

    records: tuple[int, ...]
    cache_mounts: tuple[str, ...]
    kept: set[StoreObject]
    size: int


@frozen
class _Candidate:
    """A record, a cache mount, or an image that never had a name: a size limit can remove it."""

    last_used: int
    starts: tuple[StoreObject, ...]  # it needs these and what they reach
    size: int = 0  # its own bytes, in addition to those of the objects
    record: int | None = None
    mount: str | None = None


def collect(
    store: Store,
    keep: int | None,
    measure: Callable[[str], int],
    remove: Callable[[str], None],
    *,
    dry_run: bool = False,
) -> Freed:
    """Remove what nothing reaches, and what exceeds `keep` bytes (None: no limit), but never an image that has a name.

    `measure(directory)` returns the size of a cache mount in bytes. `remove(directory)` removes a directory in this
    store's ingest. Both are passed in because the files can belong to ids that this process has no access to.
    Raises StoreError, OSError; the store is intact after either of them.
    """
    # Memos only save time: those in use go only if everything has to go.
    leftovers, leftover_size = context_memo.prune(
        store.memos, files=0 if keep == 0 else context_memo.KEPT_FILES, dry_run=dry_run
    )
    log_count, log_size = build_logs.prune(store.logs, since=store.builds.oldest(), dry_run=dry_run)
    if not dry_run:
        count, size = _purge(store, remove)  # first, because on a full disk the transactions below might need the space
        leftovers, leftover_size = leftovers + count, leftover_size + size
    measure_trees(store, measure)
    mounts = sized_cache_mounts(store, measure)
    if dry_run:
        would = _would_free(store, keep, mounts)
        size = would.size + leftover_size + log_size
        return replace(would, leftovers=would.leftovers + leftovers, logs=log_count, size=size)
    with store.metadata.transaction() as db:
        graph = Graph(store)
        choice = _choose(graph, keep, mounts)
        db.executemany("DELETE FROM records WHERE id = ?", [(record,) for record in choice.records])
        if keep == 0:
            db.execute(f"DELETE FROM {PARSES.table}")
        _condemn(db, set(graph.objects) - choice.kept)
    with store.metadata.transaction() as db:
        # A process that opens the store from here on sees what is condemned, so only those of this moment are waited for.
        # They are listed inside the transaction, because another gc can have condemned more since the first one.
        leases = live_leases(INGEST.path(store.root), without=store.ingest.name)
        gone = _remove_rows(db, Graph(store), leases)
    _purge(store, remove)
    removed = [mount for mount in choice.cache_mounts if _remove_cache_mount(store, mount, remove)]
    freed = _freed(graph, gone, len(choice.records), sum(size for mount, size in mounts if mount.id in removed))
    return replace(
        freed,
        cache_mounts=len(removed),
        leftovers=leftovers,
        logs=log_count,
        size=freed.size + leftover_size + log_size,
        waiting=graph.size(set(graph.objects) - choice.kept - gone),
        kept=choice.size,
    )


def exceeds(store: Store, limit: int, measure: Callable[[str], int]) -> bool:
    """Whether the objects and cache mounts of a store take more than `limit` bytes."""
    measure_trees(store, measure)
    graph = Graph(store)
    return graph.size(graph.objects) + sum(size for _, size in sized_cache_mounts(store, measure)) > limit


def sized_cache_mounts(store: Store, measure: Callable[[str], int]) -> list[tuple[StoredCacheMount, int]]:
    """The cache mounts with their sizes in bytes. One in use without a known size is not measured: it counts as empty."""
    sized = []
    for mount in store.cache_mounts.all():
        size = mount.size
        lock = store.cache_mounts.lock(mount.id) if size is None else None
        if lock is not None:
            try:
                size = max(_BLOCK, measure(f"{store.cache_mounts.directory}/{mount.id}"))
                with suppress(CannotWrite):
                    store.cache_mounts.set_size(mount.id, size)
            finally:
                os.close(lock)
        sized.append((mount, size or _BLOCK))
    return sized


def _would_free(store: Store, keep: int | None, mounts: list[tuple[StoredCacheMount, int]]) -> Freed:
    graph = Graph(store)
    choice = _choose(graph, keep, mounts)
    gone = set(graph.objects) - choice.kept
    size = sum(size for mount, size in mounts if mount.id in choice.cache_mounts)
    freed = _freed(graph, gone, len(choice.records), size)
    leftovers = [f"{store.root}/{each.directory}/{name}" for each in find_orphans(store) for name in each.names]
    return replace(
        freed,
        cache_mounts=len(choice.cache_mounts),
        leftovers=len(leftovers),
        size=freed.size + sum(map(_size_of_file, leftovers)),
        kept=choice.size,
    )


def _freed(graph: Graph, gone: set[StoreObject], records: int, size: int) -> Freed:
    kinds = [each.kind for each in gone]
    return Freed(
        images=kinds.count(Condemnable.IMAGE),
        records=records,
        layers=kinds.count(Condemnable.CHANGESET),
        blobs=kinds.count(Condemnable.BLOB),
        size=graph.size(gone) + size,
    )


def _choose(graph: Graph, keep: int | None, mounts: list[tuple[StoredCacheMount, int]]) -> _Choice:
    """Choose what stays: what named images reach, then the most recently used candidates until the limit is reached."""
    kept: set[StoreObject] = set()
    size = graph.size(graph.reach([image.object for image in graph.images if image.names], kept))
    if keep is None:
        starts = [record.snapshot for record in graph.records]
        starts += [image.object for image in graph.images if not image.named_before]
        size += graph.size(graph.reach(starts, kept))
        return _Choice((), (), kept, size + sum(size for _, size in mounts))
    gone = []
    for candidate in _candidates(graph, mounts):
        new = graph.reach(candidate.starts, kept)
        more = graph.size(new) + candidate.size
        if size + more <= keep or not more:
            size += more
        else:
            kept.difference_update(new)
            gone.append(candidate)
    records = tuple(candidate.record for candidate in gone if candidate.record is not None)
    return _Choice(records, tuple(candidate.mount for candidate in gone if candidate.mount is not None), kept, size)


def _candidates(graph: Graph, mounts: list[tuple[StoredCacheMount, int]]) -> list[_Candidate]:
    """The candidates, the most recently used first. Records of one build stay in order: lower ones come first."""
    candidates = [_Candidate(record.last_used, (record.snapshot,), record=record.id) for record in graph.records]
    used: dict[StoreObject | None, int] = {}
    for record in graph.records:
        used[record.snapshot] = max(record.last_used, used.get(record.snapshot, 0))
    candidates += [
        _Candidate(used.get(image.snapshot, 0), (image.object,))
        for image in graph.images
        if not image.names and not image.named_before
    ]
    candidates += [_Candidate(mount.last_used, (), size, mount=mount.id) for mount, size in mounts]
    return sorted(candidates, key=lambda candidate: -candidate.last_used)


def _condemn(db: sqlite3.Connection, unreached: set[StoreObject]) -> None:
    """Make `unreached` the set of condemned objects. Those that are condemned already keep their generation."""
    known = {StoreObject(Condemnable(kind), key) for kind, key in db.execute("SELECT kind, key FROM condemned")}
    db.executemany(
        "DELETE FROM condemned WHERE kind = ? AND key = ?", [(kind.value, key) for kind, key in known - unreached]
    )
    (last,) = db.execute(
        "SELECT max(generation) FROM (SELECT generation FROM condemned UNION ALL SELECT generation FROM waits)"
    ).fetchone()
    generation = (last or 0) + 1
    db.executemany(
        "INSERT INTO condemned VALUES (?, ?, ?)",
        [(kind.value, key, generation) for kind, key in sorted(unreached - known, key=lambda each: each.key)],
    )


def _remove_rows(db: sqlite3.Connection, graph: Graph, leases: list[str]) -> set[StoreObject]:
    """Remove the rows of the condemned objects that no process is waited for; return those objects.

    `leases` are the processes that have the store open now. A generation waits for those that had it open when its list
    was written.
    """
    rows = [(StoreObject(Condemnable(kind), key), int(g)) for kind, key, g in db.execute("SELECT * FROM condemned")]
    generations = {generation for _, generation in rows}
    listed = {generation for (generation,) in db.execute("SELECT DISTINCT generation FROM waits")}
    new = [(generation, lease) for generation in generations - listed for lease in leases]
    db.executemany("INSERT INTO waits VALUES (?, ?)", new)
    known = {lease for (lease,) in db.execute("SELECT DISTINCT lease FROM waits")}
    db.executemany("DELETE FROM waits WHERE lease = ?", [(lease,) for lease in known.difference(leases)])
    unripe = {generation for (generation,) in db.execute("SELECT DISTINCT generation FROM waits")}
    ripe = {each for each, generation in rows if generation not in unripe}
    # Another process might have made them reachable meanwhile. An object that is not condemned might be about to get a
    # name, so what it reaches is kept as well.
    kept: set[StoreObject] = set()
    graph.reach([image.object for image in graph.images if image.names], kept)
    graph.reach([record.snapshot for record in graph.records], kept)
    graph.reach([each for each in graph.objects if each not in ripe], kept)
    gone = ripe.intersection(graph.objects) - kept
    for part in PARTS:
        if part.condemned_as:
            keys = [(each.key,) for each in gone if each.kind is part.condemned_as]
            db.executemany(f"DELETE FROM {part.table} WHERE {part.key} = ?", keys)
    db.executemany("DELETE FROM condemned WHERE kind = ? AND key = ?", [(kind.value, key) for kind, key in ripe])
    db.execute(
        f"DELETE FROM {PLACES.table} WHERE digest NOT IN (SELECT digest FROM blobs)"
        " AND digest NOT IN (SELECT digest FROM claims)"
    )
    db.execute("DELETE FROM waits WHERE generation NOT IN (SELECT generation FROM condemned)")
    return gone


def _purge(store: Store, remove: Callable[[str], None]) -> tuple[int, int]:
    """Remove the files without a row; return their number and their size in bytes, which for trees is unknown."""
    count = size = 0
    for part, directory, prefix, names in find_orphans(store):
        for start in range(0, len(names), _BATCH):
            moved = []
            with store.metadata.transaction():
                for name in names[start : start + _BATCH]:
                    path = f"{store.root}/{directory}/{name}"
                    if store.metadata.one(f"SELECT 1 FROM {part.table} WHERE {part.key} = ?", prefix + name):
                        continue
                    count += 1
                    size += _size_of_file(path)
                    try:
                        os.unlink(path)
                    except IsADirectoryError:
                        moved.append(store.ingest.new_path())
                        os.rename(path, moved[-1])
                    except FileNotFoundError:
                        pass  # another gc has removed it
            for moved_directory in moved:
                remove(moved_directory)
    return count, size


def _size_of_file(path: str) -> int:
    """The bytes on the disk of a file without a row; 0 if it does not exist."""
    try:
        return size_on_disk(path, file_size(path))
    except FileNotFoundError:
        return 0


def _remove_cache_mount(store: Store, identity: str, remove: Callable[[str], None]) -> bool:
    """Remove a cache mount; return whether it existed and was not in use."""
    lock = store.cache_mounts.lock(identity)
    if lock is None:
        return False
    directory = store.ingest.new_path()
    try:
        with store.metadata.transaction() as db:
            db.execute(f"DELETE FROM {CACHE_MOUNTS.table} WHERE id = ?", (identity,))
        # After the commit: a row without its directory would be damage, a directory without its row is garbage.
        try:
            os.rename(f"{store.cache_mounts.directory}/{identity}", directory)
        except FileNotFoundError:
            return True  # another gc has taken it for garbage
    finally:
        os.close(lock)
    remove(directory)
    return True
