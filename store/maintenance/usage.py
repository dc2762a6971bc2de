"""What a store holds and why: every byte counted once, for the first of the reasons that it is kept for."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.maintenance.gc import sized_cache_mounts
from pybuild.store.maintenance.reachability import Graph, Thing, measure_trees
from pybuild.store.objects.build_logs import kept
from pybuild.store.objects.context_memo import memos
from pybuild.store.system.files import file_size
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.store.store import Store


class Reason(Enum):
    """Why something is kept, the strongest first."""

    IMAGE = "images"
    UNNAMED = "unnamed images"
    RECORD = "cache records"
    CACHE_MOUNT = "cache mounts"
    NOTHING = "nothing"  # gc frees it


class StoredForm(Enum):
    """As what it lies on the disk."""

    BLOB = "blobs"
    UNREAD = "unread blobs"  # of layers that were pulled and never looked into
    TOC = "tables of contents"
    TREE = "trees"
    CACHE_MOUNT = "cache mounts"


@frozen
class UsageLine:
    """Something with a name. `size` is all that it reaches, `own` what nothing of an earlier line reaches. Bytes."""

    reason: Reason
    name: str
    size: int
    own: int
    last_used: int | None = None  # seconds since the epoch
    in_use: bool = False


@frozen
class Sum:
    """How many there are, and their bytes."""

    count: int
    size: int


@frozen
class Usage:
    """All of it: the sums of either table are those of the store, but for its own tables, memos and logs."""

    reasons: dict[Reason, Sum]
    forms: dict[StoredForm, Sum]
    items: tuple[UsageLine, ...]
    tables: int  # bytes of the metadata
    memos: int  # bytes of what is known of files of contexts
    logs: Sum  # of builds

    @property
    def total(self) -> int:
        """Bytes of the whole store."""
        return sum(part.size for part in self.reasons.values()) + self.tables + self.memos + self.logs.size


def usage(store: Store, measure: Callable[[str], int]) -> Usage:
    """Look at all of a store. `measure(directory)` tells the bytes of a cache mount."""
    measure_trees(store)
    mounts = sized_cache_mounts(store, measure)
    items = [*_reached(Graph(store))]
    items += [
        UsageLine(Reason.CACHE_MOUNT, mount.name, size, size, mount.last_used, store.cachemounts.in_use(mount.id))
        for mount, size in mounts
    ]
    reasons = {}
    for reason in Reason:
        sizes = [item.own for item in items if item.reason is reason]
        reasons[reason] = Sum(len(sizes), sum(sizes))
    tables = sum(file_size(f"{store.root}/metadata.db{suffix}") for suffix in ("", "-wal", "-shm"))
    known = sum(status.st_size for _, status in memos(store.memos))
    logs = [log.total() for log in kept(store.logs)]
    forms = _forms(store, [size for _, size in mounts])
    return Usage(reasons, forms, tuple(items), tables, known, Sum(len(logs), sum(logs)))


def _reached(graph: Graph) -> list[UsageLine]:
    known: set[Thing] = set()
    items = []

    def add(reason: Reason, name: str, start: Thing, last_used: int | None = None) -> None:
        size = graph.size(graph.reach([start], set()))
        items.append(UsageLine(reason, name, size, graph.size(graph.reach([start], known)), last_used))

    for image in sorted(graph.images, key=lambda image: image.names):
        if image.names:
            add(Reason.IMAGE, " ".join(image.names), image.thing)
    for image in graph.images:
        if not image.names and not image.named_before:
            add(Reason.UNNAMED, image.thing.key, image.thing)
    for record in sorted(graph.records, key=lambda record: -record.last_used):
        add(Reason.RECORD, record.inputs, record.snapshot, record.last_used)
    for thing in [thing for thing in graph.things if thing not in known]:
        items.append(
            UsageLine(Reason.NOTHING, f"{thing.kind.value} {thing.key}", graph.size([thing]), graph.size([thing]))
        )
    return items


def _forms(store: Store, mounts: list[int]) -> dict[StoredForm, Sum]:
    unread = "FROM unread JOIN blobs USING (digest) WHERE id NOT IN (SELECT id FROM tocs)"
    tocs = [file_size(store.changesets.toc_path(str(row[0]))) for row in store.metadata.all("SELECT id FROM tocs")]
    return {
        StoredForm.BLOB: _sum(
            store, f"SELECT count(*), sum(size) FROM blobs WHERE digest NOT IN (SELECT digest {unread})"
        ),
        StoredForm.UNREAD: _sum(store, f"SELECT count(*), sum(size) FROM (SELECT DISTINCT digest, size {unread})"),
        StoredForm.TOC: Sum(len(tocs), sum(tocs)),
        StoredForm.TREE: _sum(store, "SELECT count(*), sum(size) FROM tree_sizes"),
        StoredForm.CACHE_MOUNT: Sum(len(mounts), sum(mounts)),
    }


def _sum(store: Store, query: str) -> Sum:
    ((count, size),) = store.metadata.all(query)
    return Sum(int(str(count)), int(str(size or 0)))
