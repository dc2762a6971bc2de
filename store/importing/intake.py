"""Storing an image and its layers, wherever the bytes come from.

Each layer blob is copied, hashed, decompressed and read for its table of contents in one pass. An image becomes visible
only after all of it was checked. Layers that the store already has are not read again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import DigestMismatch, InvalidImage
from pybuild.store.formats.compression import Compression, Compressor, DecompressingReader, sniff
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.oci_config import ImageConfig, chain_id, check_image
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.importing.chunk_reader import ChunkReader
from pybuild.store.importing.outer_compression import without_outer_compression
from pybuild.store.layers.errors import layer_errors
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import View
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.system.holes import create_sparse
from pybuild.store.system.streams import Peeked, Tee
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.store.formats.toc import Entry, Toc
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store
    from pybuild.store.system.streams import Readable
    from pybuild.values.limits import Limit


class BlobSource(Protocol):
    """A source of the blobs of an image."""

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob in chunks, not verified. Raises NotFound."""
        ...


def read_blob(source: BlobSource, descriptor: Descriptor, limit: Limit) -> bytes:
    """All bytes of a blob, verified. Raises DigestMismatch, or InvalidImage if it is larger than `limit`."""
    if descriptor.size > limit.value:
        what = f"blob {descriptor.digest} of {descriptor.size} bytes"
        raise limit.exceeded(InvalidImage, f"{what} exceeds the limit of {{}}")
    data = bytearray()
    for chunk in source.chunks(descriptor):
        data += chunk
        if len(data) > descriptor.size:
            break
    actual = hashlib.new(descriptor.digest.algorithm, data).hexdigest()
    if len(data) != descriptor.size or actual != descriptor.digest.hex:
        raise DigestMismatch(f"blob {descriptor.digest}: the bytes do not match the digest")
    return bytes(data)


def import_image(store: Store, source: BlobSource, descriptor: Descriptor) -> StoredImage:
    """Store the image whose manifest has this descriptor. Raises StoreError, OSError."""
    manifest_bytes = read_blob(source, descriptor, MANIFEST_BYTES)
    manifest = Manifest.from_bytes(manifest_bytes, descriptor.media_type)
    config_bytes = read_blob(source, manifest.config, CONFIG_BYTES)
    config = ImageConfig.from_bytes(config_bytes)
    check_image(manifest, config)
    stack = LayerStack(store)
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        with layer_errors(layer.digest):
            stack.put(source, layer, diff_id)
    return store.images.add(manifest_bytes, config_bytes, stack.snapshot, stack.scratch())


def read_layer_blob(
    source: BlobSource, layer: Descriptor, diff_id: Digest, below: View, copy: Callable[[bytes], object]
) -> tuple[list[Entry], Compression]:
    """The entries of a layer and the compression of its blob, which is verified; `copy` takes its bytes.

    Raises DigestMismatch, InvalidImage, UnsafePath.
    """
    compression = COMPRESSIONS.get(layer.media_type)
    if compression is None:
        raise InvalidImage(f"{layer.media_type!r} is not a media type of layers")
    copier = _Copier(source.chunks(layer), layer, copy)
    expander = DecompressingReader(copier, compression)
    entries = read_layer(expander, below)
    check_diff_id(expander.diff_id(), diff_id)
    copier.finish()
    return entries, compression


class LayerStack:
    """Stores the layers of one image, from the lowest up; `snapshot` is that of the topmost layer so far."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chain: Digest | None = None
        self._below: list[Toc] = []
        self.snapshot: int | None = None

    def put(self, source: BlobSource, layer: Descriptor, diff_id: Digest) -> None:
        """Add the next layer: the blob with the descriptor `layer`. Raises DigestMismatch, InvalidImage."""
        store = self._store
        chain, known = self._next(diff_id)
        if known is not None and any(
            (blob.digest, blob.size) == (layer.digest, layer.size) and store.blobs.has(blob.digest)
            for blob in store.changesets.blobs_of(diff_id)
        ):
            self._advance(chain, known)
            return
        scratch = store.ingest.new_path()
        with create_sparse(scratch) as copy:
            entries, compression = read_layer_blob(source, layer, diff_id, View(self._below), copy.write)
        self._record(chain, known, scratch, LayerBlob(diff_id, layer.digest, layer.size, compression), entries)

    def put_tar(self, raw: Readable, diff_id: Digest | None) -> LayerBlob:
        """Add the next layer: a plain or compressed tar. A gzip or zstd file is stored as it is, any other as gzip.

        `diff_id` is the expected diff_id, or None. The tar is read even if the store has the layer, because the
        returned blob must depend on the tar alone, and the stored one can have another compression. Raises
        DigestMismatch, InvalidImage.
        """
        store = self._store
        scratch = store.ingest.new_path()
        peeked = Peeked(raw)
        compression = sniff(peeked.start)
        keep_as_is = compression is not Compression.UNCOMPRESSED
        compression = compression if keep_as_is else Compression.GZIP
        with (
            create_sparse(scratch) as out,
            Compressor(out, Compression.UNCOMPRESSED if keep_as_is else compression) as written,
        ):
            if keep_as_is:
                expander = DecompressingReader(Tee(peeked, written.write), compression)
                entries = read_layer(expander, View(self._below))
            else:
                expander = DecompressingReader(without_outer_compression(peeked), Compression.UNCOMPRESSED)
                entries = read_layer(Tee(expander, written.write), View(self._below))
            actual = expander.diff_id()
            if diff_id is not None:
                check_diff_id(actual, diff_id)
            digest = written.finish()
        chain, known = self._next(actual)
        blob = LayerBlob(actual, digest, written.size, compression)
        self._record(chain, known, scratch, blob, entries)
        return blob

    def scratch(self) -> tuple[str, str]:
        """Two unused paths, for the config and the manifest."""
        return self._store.ingest.new_path(), self._store.ingest.new_path()

    def _next(self, diff_id: Digest) -> tuple[Digest, int | None]:
        """The chain ID of the stack with one more layer, and its snapshot if the store has it."""
        chain = chain_id((diff_id,) if self._chain is None else (self._chain, diff_id))
        return chain, self._store.snapshots.by_chain(chain)

    def _record(self, chain: Digest, known: int | None, path: str, blob: LayerBlob, entries: list[Entry]) -> None:
        """Add a layer with everything that belongs to it, in one transaction. `path` is the file with the blob."""
        store = self._store
        with store.metadata.transaction():
            store.blobs.adopt(path, blob.digest, blob.size)
            if known is not None:
                store.changesets.add_blob(blob)
            else:
                changeset = store.changesets.add(entries, store.ingest.new_path())
                store.changesets.add_tar(changeset, None, blob)
                known = store.snapshots.set_chain(chain, store.snapshots.add(self.snapshot, changeset))
        self._advance(chain, known)

    def _advance(self, chain: Digest, snapshot: int) -> None:
        self._chain, self.snapshot = chain, snapshot
        self._below.insert(0, self._store.snapshots.top_toc(snapshot))


def check_diff_id(actual: Digest, expected: Digest) -> None:
    """Raise DigestMismatch if a layer is not the one that the config names."""
    if actual != expected:
        raise DigestMismatch(f"expands to {actual}, the config promises {expected}")


class _Copier:
    """A stream that passes on a blob's bytes to `copy` while they are read, and checks them against the descriptor."""

    def __init__(self, chunks: Iterator[bytes], descriptor: Descriptor, copy: Callable[[bytes], object]) -> None:
        self._source = ChunkReader(chunks)
        self._descriptor = descriptor
        self._copy = copy
        self._hash = hashlib.new(descriptor.digest.algorithm)
        self._left = descriptor.size

    def read(self, size: int = 1 << 20, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self._left -= len(data)
        if self._left < 0:
            raise DigestMismatch(f"is longer than the {self._descriptor.size} bytes of its descriptor")
        self._copy(data)
        return data

    def finish(self) -> None:
        """Read to the end. Raises DigestMismatch."""
        while self.read():
            pass
        if self._left or self._hash.hexdigest() != self._descriptor.digest.hex:
            raise DigestMismatch("the bytes do not match the digest")
