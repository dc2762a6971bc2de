"""What reaches what in a store: the graph that gc marks and df counts.

    image ──▶ its manifest, config and layer blobs        snapshot ──▶ the snapshot below, its changeset
          └─▶ its topmost snapshot                         changeset ──▶ all stored blobs of its layer
    record ─▶ its snapshot                                               (its toc and its trees are part of it)

It is read at once and kept in memory: a store of ten thousand records takes some ten megabytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import StoreError
from pybuild.store.formats.oci_manifest import MANIFEST_LIMIT, Manifest
from pybuild.store.formats.toc import Kind, Toc
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.system.files import file_size
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.store import Store

_BLOCK = 4096  # bytes that the smallest file or directory takes, on the file systems that people have


class Thing(NamedTuple):
    """Something that gc keeps or removes; `key` is as in the tables."""

    kind: Condemnable
    key: str


@frozen
class ImageRow:
    """An image of the store. `names` are those it has; `named_before` tells an image whose names went elsewhere."""

    thing: Thing
    names: tuple[str, ...]
    named_before: bool
    snapshot: Thing | None


@frozen
class RecordRow:
    """A record of the build cache; `inputs` are the fields that its keys were made of, as JSON."""

    id: int
    snapshot: Thing
    last_used: int
    inputs: str


class Graph:
    """The tables as they were when it was made: inside of a transaction nothing moves under it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._edges: dict[Thing, list[Thing]] = {}
        self._sizes: dict[Thing, int] = {}
        self._blobs()
        self._changesets()
        self._snapshots()
        self.images = self._images()
        self.records = self._records()

    @property
    def things(self) -> Iterable[Thing]:
        """All that there is."""
        return self._edges.keys()

    def reach(self, starts: Iterable[Thing], known: set[Thing]) -> list[Thing]:
        """Add all that `starts` reach to `known`; return what was not known before."""
        new = []
        pending = list(starts)
        while pending:
            thing = pending.pop()
            if thing in known or thing not in self._edges:
                continue
            known.add(thing)
            new.append(thing)
            pending += self._edges[thing]
        return new

    def size(self, things: Iterable[Thing]) -> int:
        """The bytes on the disk that go away with these things."""
        return sum(self._sizes.get(thing, 0) for thing in things)

    def _blobs(self) -> None:
        for digest, size in self._store.metadata.all("SELECT digest, size FROM blobs"):
            thing = Thing(Condemnable.BLOB, str(digest))
            self._edges[thing] = []
            self._sizes[thing] = int(str(size))

    def _changesets(self) -> None:
        query = self._store.metadata.all
        for (key,) in query("SELECT id FROM changesets"):
            thing = Thing(Condemnable.CHANGESET, str(key))
            self._edges[thing] = []
            self._sizes[thing] = file_size(self._store.changesets.toc_path(thing.key))
        for key, size in query("SELECT changeset, coalesce(size, 0) FROM trees LEFT JOIN tree_sizes USING (id)"):
            self._sizes[Thing(Condemnable.CHANGESET, str(key))] += int(str(size))
        for key, digest in query(
            "SELECT changeset, digest FROM tars JOIN layer_blobs USING (diff_id) UNION SELECT id, digest FROM unread"
        ):
            self._edges[Thing(Condemnable.CHANGESET, str(key))].append(Thing(Condemnable.BLOB, str(digest)))

    def _snapshots(self) -> None:
        for key, parent, changeset in self._store.metadata.all("SELECT id, parent, changeset FROM snapshots"):
            below = [Thing(Condemnable.CHANGESET, str(changeset))]
            if parent is not None:
                below.append(Thing(Condemnable.SNAPSHOT, str(parent)))
            self._edges[Thing(Condemnable.SNAPSHOT, str(key))] = below

    def _images(self) -> list[ImageRow]:
        names: dict[str, list[str]] = {}
        for tag in self._store.images.tags():
            names.setdefault(str(tag.manifest), []).append(tag.name)
        before = {str(row[0]) for row in self._store.metadata.all("SELECT DISTINCT manifest FROM tag_log")}
        found = []
        for manifest, config, snapshot in self._store.metadata.all(
            "SELECT manifest, config, snapshot FROM images ORDER BY manifest"
        ):
            thing = Thing(Condemnable.IMAGE, str(manifest))
            top = None if snapshot is None else Thing(Condemnable.SNAPSHOT, str(snapshot))
            self._edges[thing] = [Thing(Condemnable.BLOB, str(manifest)), Thing(Condemnable.BLOB, str(config))]
            self._edges[thing] += [Thing(Condemnable.BLOB, layer) for layer in self._layers(thing.key)]
            self._edges[thing] += [] if top is None else [top]
            found.append(ImageRow(thing, tuple(names.get(thing.key, ())), thing.key in before, top))
        return found

    def _layers(self, manifest: str) -> list[str]:
        """The digests of an image's layers. Read past the store's own readers, which take condemned blobs back."""
        algorithm, _, digits = manifest.partition(":")
        try:
            with open(f"{self._store.root}/blobs/{algorithm}/{digits}", "rb") as file:
                return [str(layer.digest) for layer in Manifest.from_bytes(file.read(MANIFEST_LIMIT)).layers]
        except (OSError, StoreError):
            return []  # fsck tells; the blobs of the changesets that it stands on are reached without it

    def _records(self) -> list[RecordRow]:
        rows = self._store.metadata.all("SELECT id, snapshot, last_used, inputs FROM records ORDER BY id")
        return [
            RecordRow(int(str(key)), Thing(Condemnable.SNAPSHOT, str(snapshot)), int(str(used)), str(inputs))
            for key, snapshot, used, inputs in rows
        ]


def title_of(inputs: str) -> str:
    """What a step was, in a few words, from the fields that its keys were made of."""
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


def measure_trees(store: Store) -> None:
    """Note the sizes of trees that nobody has asked for yet.

    They follow from the tables of contents: the files of a tree belong to other ids, which may have closed directories.
    """
    rows = store.metadata.all("SELECT id, changeset FROM trees WHERE id NOT IN (SELECT id FROM tree_sizes)")
    sizes = [(str(tree), _tree_size(store, str(changeset))) for tree, changeset in rows]
    if sizes:
        with store.metadata.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO tree_sizes SELECT id, ?2 FROM trees WHERE id = ?1", sizes)


def _tree_size(store: Store, changeset: str) -> int:
    try:
        entries = list(Toc.open(store.changesets.toc_path(changeset)))
    except (OSError, StoreError):
        return 0
    size = 0
    for entry in entries:
        if entry.kind is Kind.DIRECTORY:
            size += _BLOCK
        elif entry.kind is Kind.FILE and not entry.hardlink:
            size += -(-entry.size // _BLOCK) * _BLOCK
    return size
