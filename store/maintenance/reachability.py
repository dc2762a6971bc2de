"""The graph of a store: which object reaches which. gc marks it, df counts it.

    image ──▶ its manifest, config and layer blobs        snapshot ──▶ the snapshot below, its changeset
          ├─▶ the blobs of the indexes that have it       changeset ─▶ all stored blobs of its layer
          └─▶ its topmost snapshot
    record ─▶ its snapshot                                             (its toc and its trees are part of it)

The graph is in memory: a store of ten thousand records takes about ten megabytes.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.toc import Kind, Toc
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.objects.database import number
from pybuild.store.system.files import file_size
from pybuild.store.system.holes import size_on_disk
from pybuild.values import frozen
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pybuild.store.store import Store

_LARGE = 1 << 20  # bytes; the holes of smaller files are not looked for
_BLOCK = 4096  # bytes that the smallest file or directory takes on common filesystems


class StoreObject(NamedTuple):
    """A node of the graph; `key` is its key in the table of its kind."""

    kind: Condemnable
    key: str


@frozen
class ImageRow:
    """An image of the store. `named_before` is true if it has, or ever had, a name."""

    object: StoreObject
    names: tuple[str, ...]
    named_before: bool
    snapshot: StoreObject | None


@frozen
class RecordRow:
    """A record of the build cache; `inputs` are the fields that its keys were made from, as JSON."""

    id: int
    snapshot: StoreObject
    last_used: int
    inputs: str


class Graph:
    """The graph at the time of its creation. Inside a transaction it stays true."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._edges: dict[StoreObject, list[StoreObject]] = {}
        self._sizes: dict[StoreObject, int] = {}
        self._blobs()
        self._changesets()
        self._snapshots()
        self.images = self._images()
        self.records = self._records()

    @property
    def objects(self) -> Iterable[StoreObject]:
        """Every object of the store."""
        return self._edges.keys()

    def reach(self, starts: Iterable[StoreObject], reached: set[StoreObject]) -> list[StoreObject]:
        """Add to `reached` the objects `starts` and all that they reach; return those that were not in it before."""
        new = []
        pending = list(starts)
        while pending:
            each = pending.pop()
            if each in reached or each not in self._edges:
                continue
            reached.add(each)
            new.append(each)
            pending += self._edges[each]
        return new

    def size(self, objects: Iterable[StoreObject]) -> int:
        """The bytes on the disk that removing these objects frees."""
        return sum(self._sizes.get(each, 0) for each in objects)

    def _blobs(self) -> None:
        for digest, size in self._store.metadata.all("SELECT digest, size FROM blobs"):
            blob = StoreObject(Condemnable.BLOB, str(digest))
            self._edges[blob] = []
            self._sizes[blob] = self._size_of_blob(blob.key, number(size))

    def _size_of_blob(self, digest: str, size: int) -> int:
        """What a blob takes on the disk: an uncompressed one can have holes."""
        if size < _LARGE:
            return size
        try:
            return size_on_disk(self._store.blobs.path(Digest.parse(digest)), size)
        except (OSError, StoreError):
            return size  # fsck reports it

    def _changesets(self) -> None:
        query = self._store.metadata.all
        for (key,) in query("SELECT id FROM changesets"):
            changeset = StoreObject(Condemnable.CHANGESET, str(key))
            self._edges[changeset] = []
            self._sizes[changeset] = file_size(self._store.changesets.toc_path(changeset.key))
        for key, size in query("SELECT changeset, coalesce(size, 0) FROM trees LEFT JOIN tree_sizes USING (id)"):
            self._sizes[StoreObject(Condemnable.CHANGESET, str(key))] += number(size)
        for key, digest in query(
            "SELECT changeset, digest FROM tars JOIN layer_blobs USING (diff_id) UNION SELECT changeset, digest FROM claims"
        ):
            self._edges[StoreObject(Condemnable.CHANGESET, str(key))].append(StoreObject(Condemnable.BLOB, str(digest)))

    def _snapshots(self) -> None:
        for key, parent, changeset in self._store.metadata.all("SELECT id, parent, changeset FROM snapshots"):
            below = [StoreObject(Condemnable.CHANGESET, str(changeset))]
            if parent is not None:
                below.append(StoreObject(Condemnable.SNAPSHOT, str(parent)))
            self._edges[StoreObject(Condemnable.SNAPSHOT, str(key))] = below

    def _images(self) -> list[ImageRow]:
        names: dict[str, list[str]] = {}
        for tag in self._store.images.tags():
            names.setdefault(str(tag.manifest), []).append(tag.name)
        ever_named = {str(row[0]) for row in self._store.metadata.all("SELECT DISTINCT manifest FROM tag_log")}
        indexes: dict[str, list[str]] = {}
        for digest, manifest in self._store.metadata.all("SELECT digest, manifest FROM indexes"):
            indexes.setdefault(str(manifest), []).append(str(digest))
        images = []
        for manifest, config, snapshot in self._store.metadata.all(
            "SELECT manifest, config, snapshot FROM images ORDER BY manifest"
        ):
            image = StoreObject(Condemnable.IMAGE, str(manifest))
            top = None if snapshot is None else StoreObject(Condemnable.SNAPSHOT, str(snapshot))
            blobs = [str(manifest), str(config), *self._layers(image.key)]
            self._edges[image] = [StoreObject(Condemnable.BLOB, digest) for digest in blobs]
            self._edges[image] += [] if top is None else [top]
            self._edges[image] += [StoreObject(Condemnable.BLOB, index) for index in indexes.get(image.key, ())]
            images.append(ImageRow(image, tuple(names.get(image.key, ())), image.key in ever_named, top))
        return images

    def _layers(self, manifest: str) -> list[str]:
        """The digests of an image's layers. Blobs.read is not used, because it would spare a condemned manifest."""
        try:
            with open(self._store.blobs.path(Digest.parse(manifest)), "rb") as file:
                return [str(layer.digest) for layer in Manifest.from_bytes(file.read(MANIFEST_BYTES.value)).layers]
        except (OSError, StoreError):
            return []  # fsck reports it; the blobs of its changesets are reached through its snapshot

    def _records(self) -> list[RecordRow]:
        rows = self._store.metadata.all("SELECT id, snapshot, last_used, inputs FROM records ORDER BY id")
        return [
            RecordRow(number(key), StoreObject(Condemnable.SNAPSHOT, str(snapshot)), number(used), str(inputs))
            for key, snapshot, used, inputs in rows
        ]


def title_of(inputs: str) -> str:
    """A step in a few words, from the fields that its keys were made from (a JSON text); "?" if they are damaged."""
    try:
        fields = json.loads(inputs)
        match fields.get("step"):
            case "RUN":
                words = fields["argv"][2:] if fields["argv"][:2] == ["/bin/sh", "-c"] else fields["argv"]
                return " ".join(["RUN", *map(str, words)])
            case "WORKDIR":
                return f"WORKDIR {fields['path']}"
            case str(step):
                return " ".join([step, *map(str, fields.get("sources", ())), str(fields.get("dest", ""))]).strip()
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return "?"


def measure_trees(store: Store, measure: Callable[[str], int]) -> None:
    """Compute and record the sizes of the trees that are not measured yet.

    The tables of contents give the sizes, except those of large files, which can have holes. The files of a tree belong to
    other ids, so this process might not be allowed to look at one: `measure(directory)` then measures the whole tree.
    """
    rows = store.metadata.all("SELECT id, changeset FROM trees WHERE id NOT IN (SELECT id FROM tree_sizes)")
    sizes = [
        (_tree_size(store, str(changeset), store.changesets.tree_path(str(tree)), measure), str(tree))
        for tree, changeset in rows
    ]
    if sizes:
        if store.obstacle is not None:
            store.metadata.shadow("tree_sizes", [(tree, size) for size, tree in sizes])
            return
        with store.metadata.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO tree_sizes SELECT id, ? FROM trees WHERE id = ?", sizes)


def _tree_size(store: Store, changeset: str, tree: str, measure: Callable[[str], int]) -> int:
    try:
        entries = list(Toc.open(store.changesets.toc_path(changeset)))
    except (OSError, StoreError):
        return 0
    size = 0
    for entry in entries:
        if entry.kind is Kind.DIRECTORY:
            size += _BLOCK
        elif entry.kind is Kind.FILE and not entry.hardlink:
            taken = -(-entry.size // _BLOCK) * _BLOCK
            if entry.size >= _LARGE:
                try:
                    taken = size_on_disk(os.fsencode(tree) + b"/" + entry.path, taken)
                except PermissionError:
                    return measure(tree)
                except OSError:
                    pass  # fsck reports a missing file; a path of more than 4096 bytes cannot be asked for
            size += taken
    return size
