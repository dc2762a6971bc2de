"""Exporting the root filesystem of an image as a tar, without a mount, without privileges, without a tree.

A View merges the tables of contents of the layers. The bytes come from the layer blobs, which are read from front to
back. The tar is a function of the merged files alone, whatever layers they are in: ordered by path components, no user
names.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pybuild.store.errors import InvalidImage
from pybuild.store.exporting.publish import nothing, replacing
from pybuild.store.formats import tar
from pybuild.store.formats.clamp import stored_time
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.tar_header import TYPES, device_numbers, entry_header
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.formats.windows_layer import FILES
from pybuild.store.layers.view import ROOT, View
from pybuild.store.objects.indexes import StoredIndex, images_of
from pybuild.store.system.holes import chunks_of_file, create_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

_CHUNK = 1 << 20
_MAX_OPEN = 200  # layers that are read at the same time, each with its own descriptor


class RootfsFile(NamedTuple):
    """A file of the root filesystem."""

    entry: Entry  # with the mtime of the layer's tar, and with hard links to names that exist in the merged root
    layer: int  # its position, counted from the topmost layer


class Rootfs:
    """The merged layers of an image. A context manager: leaving it closes the blobs that are being read."""

    def __init__(self, store: Store, image: StoredImage) -> None:
        """Merge the layers. Raises NotFound, InvalidImage if a table of contents is missing or damaged."""
        self._store = store
        self._layers = image.manifest.layers[::-1]
        changesets = store.snapshots.changesets(image.snapshot)
        diff_ids = image.config.diff_ids[::-1]
        clamps = [store.changesets.clamp_of(*pair) for pair in zip(changesets, diff_ids, strict=True)]
        view = View([store.changesets.toc(changeset) for changeset in changesets])
        top = FILES.encode() if image.config.os == "windows" else b""
        self.root = view.lookup(top) or ROOT
        self.items = _items(view, clamps, top)
        self._streams: dict[int, _FileContents] = {}

    def in_order_of_path(self) -> Iterator[tuple[RootfsFile, Iterator[bytes]]]:
        """Every item with its content, parents first. Read the content of an item before taking the next one.

        Raises DigestMismatch, at the latest after the last item.
        """
        files: dict[int, list[Entry]] = {}
        for entry, layer in self.items:
            if _has_content(entry):
                files.setdefault(layer, []).append(entry)
        # A layer's tar is nearly always in this order. Otherwise its files are first copied to a file in this order.
        for layer, entries in files.items():
            if len(files) > _MAX_OPEN or any(a.offset > b.offset for a, b in pairwise(entries)):
                self._spool(layer, entries)
        for item in self.items:
            yield item, self._content(item) if _has_content(item.entry) else iter(())
        self._finish()

    def in_order_of_layers(self) -> Iterator[tuple[RootfsFile, Iterator[bytes]]]:
        """The files that have content, layer by layer. Raises DigestMismatch, at the latest after the last item."""
        files = [item for item in self.items if _has_content(item.entry)]
        for item in sorted(files, key=lambda item: (-item.layer, item.entry.offset)):
            if item.layer not in self._streams:
                self._finish()
            yield item, self._content(item)
        self._finish()

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    def __enter__(self) -> Rootfs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _content(self, item: RootfsFile) -> Iterator[bytes]:
        if item.layer not in self._streams:
            self._streams[item.layer] = _LayerStream(self._store, self._layers[item.layer])
        return self._streams[item.layer].chunks(item.entry.offset, item.entry.size)

    def _spool(self, layer: int, entries: Sequence[Entry]) -> None:
        stream = _LayerStream(self._store, self._layers[layer])
        try:
            self._streams[layer] = _SpooledLayer(stream, sorted(entries, key=lambda entry: entry.offset), self._store)
        finally:
            stream.close()

    def _finish(self) -> None:
        for stream in self._streams.values():
            stream.finish()
        self.close()


def write_rootfs(rootfs: Rootfs, out: BinaryIO) -> None:
    """Write a root filesystem as a tar. Raises DigestMismatch, OSError."""
    _write_members(rootfs, out, b"")
    out.write(tar.END)


def _write_members(rootfs: Rootfs, out: BinaryIO, directory: bytes) -> None:
    """Write the members of a root filesystem, below a directory that ends in a slash, or has no name."""
    if directory or rootfs.root._replace(mtime=0, opaque=False) != ROOT:
        out.write(_header(rootfs.root, directory or b"./"))
    for (entry, _), chunks in rootfs.in_order_of_path():
        if directory and entry.hardlink:
            entry = entry._replace(hardlink=directory + entry.hardlink)
        name = directory + entry.path
        out.write(_header(entry, name + b"/" if entry.kind is Kind.DIRECTORY else name))
        for chunk in chunks:
            out.write(chunk)
        if _has_content(entry):
            out.write(bytes(-entry.size % tar.BLOCK))


def publish_rootfs(store: Store, image: Stored, destination: str, *, ready: Callable[[], None] = nothing) -> int:
    """Write the root filesystem of an image to a path, completely or not at all; return the bytes of its files.

    That of an index has a directory for each platform. `ready` is called when only the final name is missing; if it raises
    an error, the path is as before. Raises StoreError, OSError.
    """
    size = 0
    with replacing(destination) as out:
        for one in images_of(image):
            directory = f"{one.exact_platform.directory}/" if isinstance(image, StoredIndex) else ""
            with Rootfs(store, one) as rootfs:
                _write_members(rootfs, out, directory.encode())
            size += sum(entry.size for entry, _ in rootfs.items if _has_content(entry))
        out.write(tar.END)
        out.flush()
        ready()
    return size


def _header(entry: Entry, name: bytes) -> bytes:
    return entry_header(
        name,
        tar.HARDLINK if entry.hardlink else TYPES[entry.kind],
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size if _has_content(entry) else 0,
        mtime=entry.mtime,
        link=entry.hardlink or entry.link,
        device=device_numbers(entry),
        xattrs=() if entry.hardlink else entry.xattrs,
    )


def _has_content(entry: Entry) -> bool:
    return entry.kind is Kind.FILE and not entry.hardlink and entry.size > 0


def _items(view: View, clamps: Sequence[int | None], top: bytes) -> list[RootfsFile]:
    """The files below a directory of the view, with paths relative to it."""
    cut = len(top) + 1 if top else 0
    position = {id(toc): number for number, toc in enumerate(view.layers)}
    first: dict[tuple[object, int], bytes] = {}  # the first name of each file; clamps can differ by layer
    items = []
    for entry in view.walk(top):
        located = view.locate(entry.path)
        assert located is not None
        layer = position[id(located[0])]
        name = entry.path
        mtime = stored_time(entry.mtime, clamps[layer])
        if entry.kind is not Kind.DIRECTORY:
            name = first.setdefault((view.file_of(*located), mtime), name)
        hardlink = b"" if name == entry.path else name[cut:]
        items.append(RootfsFile(entry._replace(path=entry.path[cut:], hardlink=hardlink, mtime=mtime), layer))
    return items


class _FileContents(Protocol):
    """The contents of one layer's files, by their offset in its tar."""

    def chunks(self, offset: int, size: int) -> Iterator[bytes]: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class _LayerStream:
    """Reads files of one layer in the order of its tar."""

    def __init__(self, store: Store, layer: Descriptor) -> None:
        self._layer = layer
        self._raw = store.blobs.open(layer.digest)
        self._tar = DecompressingReader(self._raw, COMPRESSIONS[layer.media_type], hashed=False)
        self._position = 0

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """The bytes at an offset that is not behind the current position. Raises InvalidImage, DigestMismatch."""
        while self._position < offset:
            self._read(offset - self._position)
        while size:
            data = self._read(size)
            size -= len(data)
            yield data

    def finish(self) -> None:
        """Read to the end, which verifies the digest. Raises DigestMismatch."""
        self._tar.finish()

    def close(self) -> None:
        self._raw.close()

    def _read(self, count: int) -> bytes:
        data = self._tar.read(min(count, _CHUNK))
        if not data:
            raise InvalidImage(f"layer {self._layer.digest} is shorter than its table of contents")
        self._position += len(data)
        return data


class _SpooledLayer:
    """Reads files of one layer in any order, from a copy in the ingest directory."""

    def __init__(self, stream: _LayerStream, entries: Sequence[Entry], store: Store) -> None:
        self._path = store.ingest.new_path()
        self._positions: dict[int, int] = {}  # offset in the tar -> offset in the copy
        end = 0
        self._file = create_sparse(self._path, "x+b")
        try:
            for entry in entries:
                self._positions[entry.offset] = end
                for chunk in stream.chunks(entry.offset, entry.size):
                    self._file.write(chunk)
                end += entry.size
            stream.finish()
            self._file.flush()
        except BaseException:
            self.close()
            raise

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        for data in chunks_of_file(self._file.fileno(), self._positions[offset], size):
            size -= len(data)
            yield data
        if size:
            raise InvalidImage("the copy of a layer in the ingest directory is truncated")

    def finish(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()
        os.unlink(self._path)
