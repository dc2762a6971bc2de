"""The content of files of layers, read from the layer's tree or from a blob of its tar."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from pybuild.builder.files.spool import Spool
from pybuild.store.errors import DigestMismatch, InvalidImage
from pybuild.store.formats.compression import Compression, DecompressingReader
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.view import View
from pybuild.store.objects.blobs import VerifyingReader
from pybuild.store.system.holes import open_sparse
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.tree_files import TreeContent
    from pybuild.store.objects.changesets import LayerBlob
    from pybuild.store.store import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
REBUILD_HINT = "the stored file is damaged: build again with --no-cache"
_DAMAGED_HINT = "the blob is damaged: run pybuild fsck to find other damage, and fetch or build the image again"


@frozen
class BlobPlace:
    """A stored blob of a layer."""

    path: str
    digest: str
    size: int
    compression: str

    def open(self, *, hashed: bool = True) -> DecompressingReader:
        """The tar of the layer. The blob's digest is verified at the end of the stream."""
        return DecompressingReader(self.open_compressed(), Compression(self.compression), hashed=hashed)

    def open_compressed(self) -> VerifyingReader:
        """The blob as it is stored."""
        return VerifyingReader(open_sparse(self.path), Digest.parse(self.digest), self.size)


@frozen
class LayerPlace:
    """Where the files of a changeset are on the disk: its table of contents, and its tree, or a blob, or both."""

    changeset: str
    toc: str
    tree: str | None
    blob: BlobPlace | None


def layer_place(store: Store, changeset: str, id_map: str) -> LayerPlace:
    """The place of a changeset. Its tree is used only if it was made under this id map."""
    tree = store.changesets.tree_name(changeset, id_map)
    blob = store.changesets.any_blob(changeset)
    return LayerPlace(
        changeset,
        store.changesets.toc_path(changeset),
        None if tree is None else store.changesets.tree_path(tree),
        None if blob is None else blob_place(store, blob),
    )


def blob_place(store: Store, blob: LayerBlob) -> BlobPlace:
    """The place of a stored blob."""
    return BlobPlace(store.blobs.path(blob.digest), str(blob.digest), blob.size, blob.compression.value)


def view_of(layers: Sequence[LayerPlace]) -> View:
    """The root filesystem of these layers."""
    return View([Toc.open(layer.toc) for layer in layers])


def check_content(before: Iterable[Entry], after: Iterable[Entry], where: str) -> None:
    """Raise DigestMismatch if the digest of a file changed. Files without a digest in `before` are not compared."""
    for old, new in zip(before, after, strict=True):
        if old.sha256 and old.sha256 != new.sha256:
            raise DigestMismatch(f"{where}: {show(old.path)} does not match its digest", hint=REBUILD_HINT)


class StoredContents:
    """The content of files of several layers, by the index of the layer. A context manager.

    A tree is read file by file. A tar can only be read from front to back: the caller announces the files that it will
    read, and `announce` copies them to a spool in one pass. After that they can be read in any order.
    """

    def __init__(self, layers: Sequence[LayerPlace], spool: str) -> None:
        """`spool` is a path that does not exist. It is used only if a tar must be read."""
        self._layers = layers
        self._spool = Spool(spool)
        self._spooled: dict[tuple[int, int], int] = {}  # (layer, offset in its tar) -> offset in the spool
        self._trees: dict[int, TreeContent] = {}

    def announce(self, wanted: Iterable[tuple[int, Entry]]) -> None:
        """Prepare to read these files; each comes with the index of its layer."""
        by_layer: dict[int, dict[int, Entry]] = {}
        for layer, entry in wanted:
            if self._layers[layer].tree is None and entry.size:
                by_layer.setdefault(layer, {})[entry.offset] = entry
        for layer, entries in by_layer.items():
            self._spool_layer(layer, [entries[offset] for offset in sorted(entries)])

    def chunks(self, layer: int, entry: Entry) -> Iterator[bytes]:
        """The content of a file. Raises InvalidImage if the layer lacks it, DigestMismatch if its blob is damaged."""
        tree = self._layers[layer].tree
        if tree is not None:
            if layer not in self._trees:
                from pybuild.store.layers.tree_files import TreeContent

                fd = os.open(tree, _DIRECTORY)
                try:
                    self._trees[layer] = TreeContent(fd)
                finally:
                    os.close(fd)
            yield from self._trees[layer].chunks(entry)
            return
        if (layer, entry.offset) not in self._spooled:
            self.announce([(layer, entry)])
        if entry.size:
            yield from self._spool.chunks(self._spooled[(layer, entry.offset)], entry.size)

    def close(self) -> None:
        self._spool.close()
        for tree in self._trees.values():
            tree.close()

    def __enter__(self) -> StoredContents:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spool_layer(self, layer: int, entries: list[Entry]) -> None:
        blob = self._layers[layer].blob
        if blob is None:
            raise InvalidImage(f"changeset {self._layers[layer].changeset} has neither a tree nor a tar")
        tar = blob.open(hashed=False)
        position = 0
        for entry in entries:
            _skip(tar, entry.offset - position)
            self._spooled[(layer, entry.offset)] = self._spool.size
            hasher = hashlib.sha256()
            for data in _pieces(tar, entry.size):
                hasher.update(data)
                self._spool.write(data)
            position = entry.offset + entry.size
            # The digest of each file is checked, so the rest of the tar need not be read to verify it. For
            # /etc/passwd in a large layer, that rest is nearly the whole tar.
            if hasher.digest() != entry.sha256:
                raise DigestMismatch(
                    f"blob {blob.digest}: {show(entry.path)} does not match its digest", hint=_DAMAGED_HINT
                )


def _skip(tar: DecompressingReader, count: int) -> None:
    for _ in _pieces(tar, count):
        pass


def _pieces(tar: DecompressingReader, count: int) -> Iterator[bytes]:
    while count:
        data = tar.read(min(count, _CHUNK))
        if not data:
            raise InvalidImage("a layer is shorter than its table of contents")
        count -= len(data)
        yield data
