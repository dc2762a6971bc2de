"""Removing from a store what nobody needs, beside builds that go on.

    1. choose    images that lost their names, and with a limit the records, unnamed images and cache mounts that were
                 not used for the longest time
    2. condemn   what nothing reaches any more; its rows stay (condemned.py says why)
    3. remove    the rows of what was condemned, once every process that had the store open then has left it
    4. purge     files without a row

A file is removed after its row, and both under the lock of a transaction: writers rename their files into place under
the same lock, so that no file is ever missed by its writer. Killed at any point, gc leaves files without rows or
condemned rows, and the next one goes on from there.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.maintenance.reachability import Graph, Thing, measure_trees
from pybuild.store.objects import build_logs, context_memo
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.objects.ingest import living
from pybuild.store.system.files import file_size
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from pybuild.store.objects.cache_mounts import StoredCacheMount
    from pybuild.store.store import Store

_BLOCK = 4096  # bytes that an empty directory takes
_BATCH = 200  # files removed in one transaction: what a writer waits for at most
_TABLES = {
    Condemnable.IMAGE: "images",
    Condemnable.SNAPSHOT: "snapshots",
    Condemnable.CHANGESET: "changesets",
    Condemnable.BLOB: "blobs",
}
_COLUMNS = {
    Condemnable.IMAGE: "manifest",
    Condemnable.SNAPSHOT: "id",
    Condemnable.CHANGESET: "id",
    Condemnable.BLOB: "digest",
}
_PARTS = (
    ("blobs/sha256", "blobs", "digest", "sha256:"), ("blobs/sha512", "blobs", "digest", "sha512:"),
    ("tocs", "tocs", "id", ""), ("trees", "trees", "id", ""), ("cachemounts", "cachemounts", "id", ""),
)  # fmt: skip


@frozen
class Freed:
    """What a gc removed, or would remove. `size` is bytes on the disk."""

    images: int = 0
    records: int = 0
    layers: int = 0
    blobs: int = 0
    cache_mounts: int = 0
    leftovers: int = 0  # files without a row
    logs: int = 0  # of builds that are not remembered any more
    size: int = 0
    waiting: int = 0  # bytes that go when the processes that have the store open now have left it
    kept: int = 0  # bytes that something needs


@frozen
class _Choice:
    """Who has to go: ids of records and of cache mounts; and all that the rest reaches, with its bytes."""

    records: tuple[int, ...]
    cache_mounts: tuple[str, ...]
    kept: set[Thing]
    size: int


@frozen
class _Candidate:
    """What a limit may take away: a record, a cache mount, or an image that never had a name."""

    last_used: int
    starts: tuple[Thing, ...]  # of what it reaches
    size: int = 0  # bytes beside those
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
    """Free what nothing reaches, and what exceeds `keep` bytes (None: no limit), but never an image that has a name.

    `measure(directory)` tells the bytes of a cache mount, `remove(directory)` removes a directory of this store's
    ingest: their files may belong to ids that this process may not touch. Raises StoreError, OSError; the store is
    whole after any of them.
    """
    # Memos are worth nothing but time: only where everything has to go, those of use go too.
    leftovers, leftover_size = context_memo.prune(
        store.memos, files=0 if keep == 0 else context_memo.KEPT_FILES, dry_run=dry_run
    )
    log_count, log_size = build_logs.prune(store.logs, since=store.builds.oldest(), dry_run=dry_run)
    if not dry_run:
        count, size = _purge(store, remove)  # first: a full disk may need it to go on
        leftovers, leftover_size = leftovers + count, leftover_size + size
    measure_trees(store)
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
            db.execute("DELETE FROM parses")
        _condemn(db, set(graph.things) - choice.kept)
    # Whoever comes to the store from here on finds the condemned ones condemned.
    leases = living(f"{store.root}/ingest", without=store.ingest.name)
    with store.metadata.transaction() as db:
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
        waiting=graph.size(set(graph.things) - choice.kept - gone),
        kept=choice.size,
    )


def exceeds(store: Store, limit: int, measure: Callable[[str], int]) -> bool:
    """Whether a store takes more than so many bytes."""
    measure_trees(store)
    graph = Graph(store)
    return graph.size(graph.things) + sum(size for _, size in sized_cache_mounts(store, measure)) > limit


def sized_cache_mounts(store: Store, measure: Callable[[str], int]) -> list[tuple[StoredCacheMount, int]]:
    """The cache mounts with their bytes. One in use changes while one looks, and counts as empty unless it is known."""
    found = []
    for mount in store.cachemounts.all():
        size = mount.size
        lock = store.cachemounts.lock(mount.id) if size is None else None
        if lock is not None:
            try:
                size = max(_BLOCK, measure(f"{store.cachemounts.directory}/{mount.id}"))
                store.cachemounts.set_size(mount.id, size)
            finally:
                os.close(lock)
        found.append((mount, size or _BLOCK))
    return found


def _would_free(store: Store, keep: int | None, mounts: list[tuple[StoredCacheMount, int]]) -> Freed:
    graph = Graph(store)
    choice = _choose(graph, keep, mounts)
    gone = set(graph.things) - choice.kept
    size = sum(size for mount, size in mounts if mount.id in choice.cache_mounts)
    freed = _freed(graph, gone, len(choice.records), size)
    leftovers = [f"{store.root}/{part}/{name}" for part, *_, names in _without_row(store) for name in names]
    return replace(
        freed,
        cache_mounts=len(choice.cache_mounts),
        leftovers=len(leftovers),
        size=freed.size + sum(map(file_size, leftovers)),
        kept=choice.size,
    )


def _freed(graph: Graph, gone: set[Thing], records: int, size: int) -> Freed:
    kinds = [thing.kind for thing in gone]
    return Freed(
        images=kinds.count(Condemnable.IMAGE),
        records=records,
        layers=kinds.count(Condemnable.CHANGESET),
        blobs=kinds.count(Condemnable.BLOB),
        size=graph.size(gone) + size,
    )


def _choose(graph: Graph, keep: int | None, mounts: list[tuple[StoredCacheMount, int]]) -> _Choice:
    """What stays. Of what may be evicted the latest used comes first, until the limit is reached."""
    kept: set[Thing] = set()
    size = graph.size(graph.reach([image.thing for image in graph.images if image.names], kept))
    if keep is None:
        starts = [record.snapshot for record in graph.records]
        starts += [image.thing for image in graph.images if not image.named_before]
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
    """The latest used first. Of the records of one build those come first that others stand on."""
    found = [_Candidate(record.last_used, (record.snapshot,), record=record.id) for record in graph.records]
    used: dict[Thing | None, int] = {}
    for record in graph.records:
        used[record.snapshot] = max(record.last_used, used.get(record.snapshot, 0))
    found += [
        _Candidate(used.get(image.snapshot, 0), (image.thing,))
        for image in graph.images
        if not image.names and not image.named_before
    ]
    found += [_Candidate(mount.last_used, (), size, mount=mount.id) for mount, size in mounts]
    return sorted(found, key=lambda candidate: -candidate.last_used)


def _condemn(db: sqlite3.Connection, unreached: set[Thing]) -> None:
    """Condemn these, and nothing else; those that were condemned before are not condemned anew."""
    known = {Thing(Condemnable(kind), key) for kind, key in db.execute("SELECT kind, key FROM condemned")}
    db.executemany(
        "DELETE FROM condemned WHERE kind = ? AND key = ?", [(kind.value, key) for kind, key in known - unreached]
    )
    (last,) = db.execute(
        "SELECT max(generation) FROM (SELECT generation FROM condemned UNION ALL SELECT generation FROM waits)"
    ).fetchone()
    generation = (last or 0) + 1
    db.executemany(
        "INSERT INTO condemned VALUES (?, ?, ?)",
        [(kind.value, key, generation) for kind, key in sorted(unreached - known, key=lambda thing: thing.key)],
    )


def _remove_rows(db: sqlite3.Connection, graph: Graph, leases: list[str]) -> set[Thing]:
    """Remove the rows of what was condemned before any of the living came, and return it."""
    rows = [(Thing(Condemnable(kind), key), int(g)) for kind, key, g in db.execute("SELECT * FROM condemned")]
    generations = {generation for _, generation in rows}
    listed = {generation for (generation,) in db.execute("SELECT DISTINCT generation FROM waits")}
    new = [(generation, lease) for generation in generations - listed for lease in leases]
    db.executemany("INSERT INTO waits VALUES (?, ?)", new)
    known = {lease for (lease,) in db.execute("SELECT DISTINCT lease FROM waits")}
    db.executemany("DELETE FROM waits WHERE lease = ?", [(lease,) for lease in known.difference(leases)])
    unripe = {generation for (generation,) in db.execute("SELECT DISTINCT generation FROM waits")}
    ripe = {thing for thing, generation in rows if generation not in unripe}
    # Others may have come to reach it meanwhile. What is not condemned may be on its way to a name, and counts too.
    kept: set[Thing] = set()
    graph.reach([image.thing for image in graph.images if image.names], kept)
    graph.reach([record.snapshot for record in graph.records], kept)
    graph.reach([thing for thing in graph.things if thing not in ripe], kept)
    gone = ripe.intersection(graph.things) - kept
    for kind, table in _TABLES.items():
        keys = [(thing.key,) for thing in gone if thing.kind is kind]
        db.executemany(f"DELETE FROM {table} WHERE {_COLUMNS[kind]} = ?", keys)
    db.executemany("DELETE FROM condemned WHERE kind = ? AND key = ?", [(kind.value, key) for kind, key in ripe])
    db.execute("DELETE FROM waits WHERE generation NOT IN (SELECT generation FROM condemned)")
    return gone


def _purge(store: Store, remove: Callable[[str], None]) -> tuple[int, int]:
    """Remove files without a row; return how many there were, and their bytes (of trees nobody knows)."""
    count = size = 0
    for part, table, column, prefix, names in _without_row(store):
        for start in range(0, len(names), _BATCH):
            moved = []
            with store.metadata.transaction():
                for name in names[start : start + _BATCH]:
                    path = f"{store.root}/{part}/{name}"
                    if store.metadata.one(f"SELECT 1 FROM {table} WHERE {column} = ?", prefix + name):
                        continue
                    count += 1
                    size += file_size(path)
                    try:
                        os.unlink(path)
                    except IsADirectoryError:
                        moved.append(store.ingest.new_path())
                        os.rename(path, moved[-1])
                    except FileNotFoundError:
                        pass  # another gc was here
            for directory in moved:
                remove(directory)
    return count, size


def _without_row(store: Store) -> Iterator[tuple[str, str, str, str, list[str]]]:
    """Of each part of the store (as in `_PARTS`) the names that no row tells about."""
    for part, table, column, prefix in _PARTS:
        directory = f"{store.root}/{part}"
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        known = {str(row[0]) for row in store.metadata.all(f"SELECT {column} FROM {table}")}
        yield part, table, column, prefix, [name for name in names if prefix + name not in known]


def _remove_cache_mount(store: Store, identity: str, remove: Callable[[str], None]) -> bool:
    """Remove a cache mount; answer whether it was there and nobody used it."""
    lock = store.cachemounts.lock(identity)
    if lock is None:
        return False
    directory = store.ingest.new_path()
    try:
        with store.metadata.transaction() as db:
            db.execute("DELETE FROM cachemounts WHERE id = ?", (identity,))
            os.rename(f"{store.cachemounts.directory}/{identity}", directory)
    finally:
        os.close(lock)
    remove(directory)
    return True
