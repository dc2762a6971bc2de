"""Bringing images into the store: OCI archives, and root filesystems as a plain tar.

Each blob is copied, hashed, expanded and read for its table of contents in one pass; nothing of an image is visible
before all of it was found right. Layers that the store has already are not read again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from store.changeset import LayerBlob
from store.compression import Compression, Compressor, Expander
from store.digest import Digest
from store.errors import DigestMismatch, InvalidImage, NotFound, StoreError
from store.extract import read_layer
from store.files import no_space
from store.jsonio import Fields, load_object
from store.layout import NAME_ANNOTATION, REF_ANNOTATION, ArchiveFiles, looks_like_layout
from store.reference import Reference
from store.spec import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    Descriptor,
    ExecConfig,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    Platform,
    chain_id,
    check_image,
)
from store.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from store.store import Store
    from store.toc import Toc

_INDEXES = (MediaType.OCI_INDEX, MediaType.DOCKER_INDEX)
_MAX_NESTING = 8
_COMPRESSIONS = {
    MediaType.OCI_LAYER: Compression.UNCOMPRESSED,
    MediaType.OCI_LAYER_GZIP: Compression.GZIP,
    MediaType.OCI_LAYER_ZSTD: Compression.ZSTD,
    MediaType.DOCKER_LAYER: Compression.UNCOMPRESSED,
    MediaType.DOCKER_LAYER_GZIP: Compression.GZIP,
}


def import_archive(store: Store, path: str, name: Reference | None, now: int) -> list[tuple[Digest, list[Reference]]]:
    """Import the file at `path`; return each image's manifest digest with the names it got.

    `name` overrides the names that the archive gives; a root filesystem needs one. Raises StoreError, OSError.
    """
    try:
        with open(path, "rb") as file:
            found = _read_archive(store, path, file, name)
        store.seal()
    except OSError as error:
        raise no_space(error, store.root) from error
    for digest, names in found:
        store.images.tag(names, digest, now, recipe=f"import {os.path.basename(path)}")
    return found


def _read_archive(
    store: Store, path: str, file: BinaryIO, name: Reference | None
) -> list[tuple[Digest, list[Reference]]]:
    with _whole_tar(store, file) as tar:
        if not looks_like_layout(tar):
            if name is None:
                raise InvalidImage(
                    f"{path} holds a root filesystem, which has no name", hint="give one: pybuild import FILE NAME"
                )
            file.seek(0)
            return [(_import_rootfs(store, file), [name])]
        return _import_layout(store, ArchiveFiles(tar), name)


@contextmanager
def _whole_tar(store: Store, file: BinaryIO) -> Iterator[BinaryIO]:
    """The archive without its compression; an archive that has one is expanded to the ingest directory first."""
    start = file.read(4)
    file.seek(0)
    if not start:
        raise InvalidImage("the archive is empty")
    expander = Expander(file)
    if expander.kind is Compression.UNCOMPRESSED:
        yield file
        return
    path = store.ingest.new_path()
    try:
        with open(path, "x+b") as plain:
            while chunk := expander.read(1 << 20):
                plain.write(chunk)
            plain.flush()
            yield plain
    finally:
        os.unlink(path)


def _import_layout(store: Store, files: ArchiveFiles, name: Reference | None) -> list[tuple[Digest, list[Reference]]]:
    version = Fields(load_object(files.read(b"oci-layout", 4096), "oci-layout", limit=4096), "oci-layout")
    if version.text("imageLayoutVersion").partition(".")[0] != "1":
        raise version.wrong("imageLayoutVersion", "1.0.0")
    index = Index.from_bytes(files.read(b"index.json", MANIFEST_LIMIT))
    if not index.manifests:
        raise InvalidImage("index.json lists no image")
    chosen: dict[Digest, list[Reference]] = {}
    descriptors = index.manifests
    if name is not None and len({descriptor.digest for descriptor in descriptors}) > 1:
        descriptors = (index.select(Platform.host()),)
    # Names and indexes first: what is wrong with them shall come out before the work on the layers.
    found = [
        (_manifest_of(files, descriptor), [name] if name is not None else _names(descriptor))
        for descriptor in descriptors
    ]
    for manifest, references in found:
        names = chosen.setdefault(_import_image(store, files, manifest), [])
        names += [reference for reference in references if reference not in names]
    return list(chosen.items())


def _names(descriptor: Descriptor) -> list[Reference]:
    """The name that the archive gives an image: the full one, or a tag that is a name by itself."""
    text = descriptor.annotations.get(NAME_ANNOTATION)
    if text is None:
        text = descriptor.annotations.get(REF_ANNOTATION, "")
        if "/" not in text and ":" not in text:  # only a tag, as skopeo writes it
            return []
    return [Reference.parse(text).with_default_tag()]


def _manifest_of(files: ArchiveFiles, descriptor: Descriptor) -> Descriptor:
    """Follow nested indexes to the manifest for this machine's platform."""
    for _ in range(_MAX_NESTING):
        if descriptor.media_type not in _INDEXES:
            return descriptor
        index = Index.from_bytes(_checked(files, descriptor, MANIFEST_LIMIT), descriptor.media_type)
        descriptor = index.select(Platform.host())
    raise InvalidImage(f"indexes nested more than {_MAX_NESTING} deep")


def _import_image(store: Store, files: ArchiveFiles, descriptor: Descriptor) -> Digest:
    manifest_bytes = _checked(files, descriptor, MANIFEST_LIMIT)
    manifest = Manifest.from_bytes(manifest_bytes, descriptor.media_type)
    config_bytes = _checked(files, manifest.config, CONFIG_LIMIT)
    config = ImageConfig.from_bytes(config_bytes)
    check_image(manifest, config)
    snapshot = chain = None
    below: list[Toc] = []
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        chain = chain_id((diff_id,) if chain is None else (chain, diff_id))
        snapshot = _import_layer(store, files, layer, snapshot, View(below), diff_id, chain)
        below.insert(0, store.snapshots.top(snapshot))
    return store.images.add(manifest_bytes, config_bytes, snapshot, (store.ingest.new_path(), store.ingest.new_path()))


def _import_layer(
    store: Store,
    files: ArchiveFiles,
    layer: Descriptor,
    parent: int | None,
    below: View,
    diff_id: Digest,
    chain: Digest,
) -> int:
    known = store.snapshots.by_chain(chain)
    if known is not None and any(
        (blob.digest, blob.size) == (layer.digest, layer.size) and store.blobs.has(blob.digest)
        for blob in store.changesets.blobs_of(diff_id)
    ):
        return known
    with _named(layer.digest):
        compression = _COMPRESSIONS.get(layer.media_type)
        if compression is None:
            raise InvalidImage(f"media type {layer.media_type!r} is no layer")
        scratch = store.ingest.new_path()
        with open(scratch, "xb") as copy:
            source = _Copier(_member(files, layer), layer, copy)
            expander = Expander(source, compression)
            entries = read_layer(expander, below)
            if expander.diff_id() != diff_id:
                raise DigestMismatch(f"expands to {expander.diff_id()}, the config promises {diff_id}")
            source.finish()
        store.blobs.adopt(scratch, layer.digest, layer.size)
        blob = LayerBlob(diff_id, layer.digest, layer.size, compression)
        if known is not None:
            store.changesets.add_blob(blob)
            return known
        changeset = store.changesets.add(entries, store.ingest.new_path())
        store.changesets.add_tar(changeset, None, blob)
        return store.snapshots.set_chain(chain, store.snapshots.add(parent, changeset))


def _import_rootfs(store: Store, file: BinaryIO) -> Digest:
    """A tar of files becomes an image of one layer. Its bytes stay as they are: only compression is added."""
    scratch = store.ingest.new_path()
    expander = Expander(file)
    with open(scratch, "xb") as out:
        if expander.kind is Compression.UNCOMPRESSED:
            compressor = Compressor(out, Compression.GZIP)
            entries = read_layer(_Tee(expander, compressor.write), store.snapshots.view(None))
            diff_id = expander.diff_id()
            digest, size, compression = compressor.finish(), compressor.size, Compression.GZIP
        else:
            entries = read_layer(expander, store.snapshots.view(None))
            diff_id = expander.diff_id()
            file.seek(0)
            copier = Compressor(out, Compression.UNCOMPRESSED)
            while chunk := file.read(1 << 20):
                copier.write(chunk)
            digest, size, compression = copier.finish(), copier.size, expander.kind
    store.blobs.adopt(scratch, digest, size)
    chain = chain_id((diff_id,))
    snapshot = store.snapshots.by_chain(chain)
    blob = LayerBlob(diff_id, digest, size, compression)
    if snapshot is None:
        changeset = store.changesets.add(entries, store.ingest.new_path())
        store.changesets.add_tar(changeset, None, blob)
        snapshot = store.snapshots.set_chain(chain, store.snapshots.add(None, changeset))
    else:
        store.changesets.add_blob(blob)
    host = Platform.host()
    config = ImageConfig(
        architecture=host.architecture,
        os=host.os,
        variant=host.variant,
        created=None,
        author="",
        config=ExecConfig(),
        diff_ids=(diff_id,),
        history=(History(created=None, created_by="import of a root filesystem"),),
    )
    config_bytes = config.to_bytes()
    media_type = {Compression.GZIP: MediaType.OCI_LAYER_GZIP, Compression.ZSTD: MediaType.OCI_LAYER_ZSTD}[compression]
    manifest = Manifest(
        config=Descriptor(MediaType.OCI_CONFIG, Digest.of(config_bytes), len(config_bytes)),
        layers=(Descriptor(media_type, digest, size),),
        media_type=MediaType.OCI_MANIFEST,
    )
    return store.images.add(
        manifest.to_bytes(), config_bytes, snapshot, (store.ingest.new_path(), store.ingest.new_path())
    )


@contextmanager
def _named(digest: Digest) -> Iterator[None]:
    """Say in every error of the block which layer it is about."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"layer {digest}: {error}", hint=error.hint) from error
    except OSError as error:
        raise no_space(error, f"layer {digest}") from error


def _member(files: ArchiveFiles, descriptor: Descriptor) -> Iterator[bytes]:
    name = b"blobs/%s/%s" % (descriptor.digest.algorithm.encode(), descriptor.digest.hex.encode())
    if name not in files:
        raise NotFound(f"the archive lacks blob {descriptor.digest}", hint="the file is incomplete; fetch it again")
    return files.chunks(name)


def _checked(files: ArchiveFiles, descriptor: Descriptor, limit: int) -> bytes:
    """A small blob of the archive; raises DigestMismatch where its bytes are others than promised."""
    if descriptor.size > limit:
        raise InvalidImage(f"blob {descriptor.digest} of {descriptor.size} bytes exceeds the limit of {limit}")
    data = bytearray()
    for chunk in _member(files, descriptor):
        data += chunk
        if len(data) > descriptor.size:
            break
    found = hashlib.new(descriptor.digest.algorithm, data).hexdigest()
    if len(data) != descriptor.size or found != descriptor.digest.hex:
        raise DigestMismatch(f"blob {descriptor.digest}: the archive holds other bytes")
    return bytes(data)


class _Copier:
    """Hands out a blob's bytes, copies them to a file and checks them against the descriptor."""

    def __init__(self, chunks: Iterator[bytes], descriptor: Descriptor, copy: BinaryIO) -> None:
        self._chunks = chunks
        self._descriptor = descriptor
        self._copy = copy
        self._hash = hashlib.new(descriptor.digest.algorithm)
        self._left = descriptor.size
        self._rest = b""

    def read(self, size: int = 1 << 20, /) -> bytes:
        data = self._rest or next(self._chunks, b"")
        data, self._rest = data[:size], data[size:]
        self._hash.update(data)
        self._left -= len(data)
        if self._left < 0:
            raise DigestMismatch(f"is longer than the {self._descriptor.size} bytes of its descriptor")
        self._copy.write(data)
        return data

    def finish(self) -> None:
        """Read to the end. Raises DigestMismatch."""
        while self.read():
            pass
        if self._left or self._hash.hexdigest() != self._descriptor.digest.hex:
            raise DigestMismatch("the archive holds other bytes under this digest")


class _Tee:
    """A readable that passes on what it reads."""

    def __init__(self, source: Expander, sink: Callable[[bytes], None]) -> None:
        self._source = source
        self._sink = sink

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._sink(data)
        return data
