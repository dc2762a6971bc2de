"""The checks of fsck: each looks at one object and says in one line what is wrong with it; "" if nothing is.

The plain checks read every blob (its digest), every table of contents (the checksum of each record, and the structure),
and the names and metadata of everything in every tree. The deep checks also read the files of the trees (their digests),
and expand every layer blob: its tar must have its diff_id, and must give the same table of contents.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.clamp import stored_time
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import View
from pybuild.store.layers.write import stored_xattrs
from pybuild.store.maintenance.trees import TreeToCompare
from pybuild.store.objects.database import number
from pybuild.store.objects.places import OBTAINABLE
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.maintenance.trees import Trees
    from pybuild.store.objects.changesets import LayerBlob
    from pybuild.store.store import Store

_CHUNK = 1 << 20


class StoreChecks:
    """The checks of one store."""

    def __init__(self, store: Store, trees: Trees, *, deep: bool) -> None:
        self._store = store
        self._trees = trees
        self._deep = deep
        self.not_compared = 0  # trees that this user or machine cannot read

    def blob(self, digest: Digest) -> str:
        """Whether its bytes are all there and match its digest."""
        try:
            with self._store.blobs.open(digest) as reader:
                while reader.read(_CHUNK):
                    pass
        except (StoreError, OSError) as error:
            return str(error)
        return ""

    def toc(self, changeset: str) -> str:
        """Whether the table of contents of a changeset can be used."""
        try:
            return _structure_problem(self._store.changesets.toc(changeset))
        except (StoreError, OSError) as error:
            return str(error)

    def tree(self, name: str, changeset: str, id_map: str) -> str:
        """Whether a tree is what the table of contents of its changeset says."""
        tree = self._store.changesets.tree_path(name)
        if not os.path.isdir(tree):
            return "is missing"
        if self.toc(changeset):
            return ""  # that is the problem of the table of contents
        toc, below = self._store.changesets.toc_path(changeset), tocs_below(self._store, changeset)
        found = self._trees.compare(TreeToCompare(id_map, tree, toc, below, self._deep))
        if found is None:
            self.not_compared += 1
        return found or ""

    def layer(self, changeset: str, blob: LayerBlob, clamp: int | None) -> str:
        """Whether a blob expands to the tar that it is recorded for, and gives the table of contents of its changeset.

        Only a deep check reads that; the plain one relies on the digest of the blob.
        """
        if not self._deep:
            return ""
        below = tocs_below(self._store, changeset)
        try:
            with self._store.blobs.open(blob.digest) as raw:
                tar = DecompressingReader(raw, blob.compression)
                entries = read_layer(tar, View([Toc.open(path) for path in below or ()]))
                if tar.diff_id() != blob.diff_id:
                    return f"blob {blob.digest} expands to {tar.diff_id()}, not to {blob.diff_id}"
            return "" if below is None else _toc_difference(self._store.changesets.toc(changeset), entries, clamp)
        except (StoreError, OSError) as error:
            return f"blob {blob.digest}: {error}"

    def forms(self, changeset: str) -> str:
        """Whether the store has a tree or a tar of a changeset that has a table of contents."""
        has_tree = self._store.metadata.one("SELECT 1 FROM trees WHERE changeset = ?", changeset)
        if has_tree or self._store.changesets.any_blob(changeset) is not None:
            return ""
        if self._store.changesets.absent_blob(changeset) is not None and not self.claim(changeset):
            return ""
        return "has neither a tree nor a tar"

    def claim(self, changeset: str) -> str:
        """Whether a layer without a tree that was not read, or lost its blob, can be read: the blob is here or elsewhere."""
        if self._is_obtainable("changeset", changeset):
            return ""
        return "its blob is missing, and no registry is known to have it"

    def image(self, manifest_digest: str, config_digest: str) -> str:
        """Whether manifest and config of an image can be read, and all its layers are there."""
        try:
            manifest = Manifest.from_bytes(self._store.blobs.read(Digest.parse(manifest_digest), MANIFEST_BYTES))
            config = ImageConfig.from_bytes(self._store.blobs.read(Digest.parse(config_digest), CONFIG_BYTES))
            check_image(manifest, config)
        except (StoreError, OSError) as error:
            return str(error)
        for layer in manifest.layers:
            here = self._store.blobs.size(layer.digest) is not None
            if not here and not self._is_obtainable("digest", str(layer.digest)):
                return f"layer {layer.digest} is missing"
        return ""

    def index(self, digest: Digest) -> str:
        """Whether an index that a name stands for can be read, and has all its images."""
        try:
            self._store.indexes.get(digest)
        except (StoreError, OSError) as error:
            return str(error)
        return ""

    def _is_obtainable(self, column: str, value: str) -> bool:
        """Whether a claimed blob is in the store, or in a registry that is known."""
        query = f"SELECT 1 FROM claims WHERE {column} = ? AND {OBTAINABLE}"
        return self._store.metadata.one(query, value) is not None


def tocs_below(store: Store, changeset: str) -> tuple[str, ...] | None:
    """The tables of contents of the layers under a changeset, topmost first; None if one of them is missing.

    A changeset can stand on several parents only if its tree needs none of them (COPY --link).
    """
    row = store.metadata.one("SELECT id FROM snapshots WHERE changeset = ? ORDER BY id", changeset)
    if row is None:
        return None
    below = store.snapshots.changesets(number(row[0]))[1:]
    paths = tuple(store.changesets.toc_path(lower) for lower in below)
    return paths if all(os.path.exists(path) for path in paths) else None


def _structure_problem(toc: Toc) -> str:
    """Reading a record verifies its checksum. Here: the order, the parents, and the files of hard links."""
    kinds: dict[bytes, Kind] = {}
    for entry in toc:
        path = entry.path
        if path in kinds or (path and parent_of(path) and kinds.get(parent_of(path)) is not Kind.DIRECTORY):
            return f"{show(path)} has no directory in the table of contents"
        if entry.hardlink and kinds.get(entry.hardlink) is not entry.kind:
            return f"{show(path)} is linked to {show(entry.hardlink)}, which is not an earlier file"
        kinds[path] = entry.kind
    for group in toc.links:
        if len(group) < 2 or any(kinds.get(path) in (Kind.DIRECTORY, Kind.WHITEOUT) for path in group):
            return f"{show(b', '.join(group))} cannot be one file"
    return ""


def _toc_difference(toc: Iterable[Entry], tar: Iterable[Entry], clamp: int | None) -> str:
    """What distinguishes a table of contents from the one that its tar gives; "" if nothing does."""
    listed = {entry.path: _as_in_tar(entry, clamp) for entry in toc}
    read = {entry.path: _as_in_tar(entry, clamp) for entry in tar}
    for path in sorted(listed.keys() | read.keys()):
        if listed.get(path) != read.get(path):
            return f"{show(path)} is not what the tar says"
    return ""


def _as_in_tar(entry: Entry, clamp: int | None) -> Entry:
    """The entry as a tar with this clamp has it."""
    if entry.kind is Kind.WHITEOUT:
        return Entry(entry.path, Kind.WHITEOUT)
    return entry._replace(mtime=stored_time(entry.mtime, clamp), xattrs=stored_xattrs(entry))
