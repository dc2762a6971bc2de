"""What a store contains and why. Every byte is counted once, for the first of the reasons to keep it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.maintenance.gc import sized_cache_mounts
from pybuild.store.maintenance.origins import StepOrigin, StoredLayer, origins, stored_layers
from pybuild.store.maintenance.reachability import Graph, StoreObject, measure_trees
from pybuild.store.objects.build_logs import build_logs
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.objects.context_memo import memos
from pybuild.store.objects.parts import DATABASE
from pybuild.store.objects.reserve import reserve_size
from pybuild.store.system.files import file_size
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.store.store import Store


class Reason(Enum):
    """Why the store keeps an object, the strongest reason first."""

    IMAGE = "images"
    UNNAMED = "unnamed images"
    RECORD = "cache records"
    CACHE_MOUNT = "cache mounts"
    NOTHING = "nothing"  # gc removes it


class StoredForm(Enum):
    """In which form an object is on the disk."""

    BLOB = "blobs"
    UNREAD = "unread blobs"  # of layers that were pulled and never read
    TOC = "tables of contents"
    TREE = "trees"
    CACHE_MOUNT = "cache mounts"


@frozen
class UsageLine:
    """One image, record, cache mount or unreached object. Sizes are in bytes.

    `size` counts everything that it reaches, `own` only what no earlier line reaches.
    """

    reason: Reason
    name: str
    size: int
    own: int
    last_used: int | None = None  # seconds since the epoch
    in_use: bool = False
    origin: StepOrigin | None = None  # the step that made it, if a build remembers it


@frozen
class Sum:
    """The number of objects and their total size."""

    count: int
    size: int  # bytes


@frozen
class Usage:
    """The usage of a store. `reasons` and `forms` divide the same objects; `tables`, `memos`, `logs` and `reserve` come on top."""

    reasons: dict[Reason, Sum]
    forms: dict[StoredForm, Sum]
    lines: tuple[UsageLine, ...]
    tables: int  # bytes of the database files
    memos: int  # bytes
    logs: Sum
    reserve: int  # bytes
    layers: tuple[StoredLayer, ...]
    elsewhere: Sum  # blobs that the store can fetch, and does not have

    @property
    def total(self) -> int:
        """The size of the whole store in bytes."""
        return (
            sum(part.size for part in self.reasons.values()) + self.tables + self.memos + self.logs.size + self.reserve
        )


def usage(store: Store, measure: Callable[[str], int]) -> Usage:
    """Measure a store. `measure(directory)` returns the size of a cache mount in bytes."""
    measure_trees(store, measure)
    mounts = sized_cache_mounts(store, measure)
    graph, known = Graph(store), origins(store)
    lines = _object_lines(graph, known)
    lines += [
        UsageLine(Reason.CACHE_MOUNT, mount.name, size, size, mount.last_used, store.cache_mounts.in_use(mount.id))
        for mount, size in mounts
    ]
    reasons = {}
    for reason in Reason:
        sizes = [line.own for line in lines if line.reason is reason]
        reasons[reason] = Sum(len(sizes), sum(sizes))
    tables = sum(file_size(f"{store.root}/{DATABASE}{suffix}") for suffix in ("", "-wal", "-shm"))
    memo_bytes = sum(status.st_size for _, status in memos(store.memos))
    logs = [log.total() for log in build_logs(store.logs)]
    forms = _forms(store, graph, [size for _, size in mounts])
    logged = Sum(len(logs), sum(logs))
    layers = tuple(stored_layers(graph, known))
    absent = store.changesets.absent_blobs()
    elsewhere = Sum(len(absent), sum(blob.size for blob in absent))
    return Usage(reasons, forms, tuple(lines), tables, memo_bytes, logged, reserve_size(store.root), layers, elsewhere)


def _object_lines(graph: Graph, known: Mapping[StoreObject, StepOrigin]) -> list[UsageLine]:
    reached: set[StoreObject] = set()
    lines = []

    def add(reason: Reason, name: str, start: StoreObject, last_used: int | None = None) -> None:
        size = graph.size(graph.reach([start], set()))
        own = graph.size(graph.reach([start], reached))
        lines.append(UsageLine(reason, name, size, own, last_used, origin=known.get(start)))

    for image in sorted(graph.images, key=lambda image: image.names):
        if image.names:
            add(Reason.IMAGE, " ".join(image.names), image.object)
    for image in graph.images:
        if not image.names and not image.named_before:
            add(Reason.UNNAMED, image.object.key, image.object)
    for record in sorted(graph.records, key=lambda record: -record.last_used):
        add(Reason.RECORD, record.inputs, record.snapshot, record.last_used)
    for each in graph.objects:
        if each not in reached:
            size = graph.size([each])
            name = f"{each.kind.value} {each.key}"
            lines.append(UsageLine(Reason.NOTHING, name, size, size, origin=known.get(each)))
    return lines


def _forms(store: Store, graph: Graph, mounts: list[int]) -> dict[StoredForm, Sum]:
    unread = "SELECT digest FROM claims WHERE changeset NOT IN (SELECT id FROM tocs)"
    tocs = [file_size(store.changesets.toc_path(str(row[0]))) for row in store.metadata.all("SELECT id FROM tocs")]
    return {
        StoredForm.BLOB: _sum_of_blobs(store, graph, f"digest NOT IN ({unread})"),
        StoredForm.UNREAD: _sum_of_blobs(store, graph, f"digest IN ({unread})"),
        StoredForm.TOC: Sum(len(tocs), sum(tocs)),
        StoredForm.TREE: _sum(store, "SELECT count(*), sum(size) FROM tree_sizes"),
        StoredForm.CACHE_MOUNT: Sum(len(mounts), sum(mounts)),
    }


def _sum_of_blobs(store: Store, graph: Graph, condition: str) -> Sum:
    rows = store.metadata.all(f"SELECT digest FROM blobs WHERE {condition}")
    return Sum(len(rows), graph.size(StoreObject(Condemnable.BLOB, str(digest)) for (digest,) in rows))


def _sum(store: Store, query: str) -> Sum:
    ((count, size),) = store.metadata.all(query)
    return Sum(int(str(count)), int(str(size or 0)))
