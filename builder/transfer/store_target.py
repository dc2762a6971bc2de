"""Copying an image into the store, as a pull does: its layers stay blobs until a step needs to know what is in them.

Of an index the store gets every image, and the one name stands for all of them. What is not the image of a root
filesystem, such as an attestation, is left out: the index is then another one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Note
from pybuild.builder.transfer.source import MovedBytes, RemoteBlobs, fetch_blobs
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.blobs import copy_verified
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.claimed_layers import stack_layers
from pybuild.store.system.disk_full import require_space
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.builder.transfer.source import CopySource, LocalBlobs
    from pybuild.builder.transfer.workshop import CopyWorkshop
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.image_graph import ImageDocument
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored


@frozen
class StoreTarget:
    """A name in the store."""

    name: Reference

    @staticmethod
    def at(text: str) -> StoreTarget:
        """Read the name. Raises InvalidImage."""
        name = Reference.parse(text).with_default_tag()
        if name.digest is not None:
            raise InvalidImage(f"store:{text}: the name has a digest, which the image itself determines")
        return StoreTarget(name)

    def check(self, source: CopySource) -> None:
        """Raise BuildError if nothing of the source can be stored."""
        self.check_storable(source)

    @staticmethod
    def check_storable(source: CopySource) -> None:
        """Raise BuildError if nothing of the source can be stored."""
        if not source.graph.images:
            raise BuildError(
                f"{source.shown}: the store holds only images of root filesystems",
                hint="copy it to oci:DIR, oci-archive:FILE or a registry",
            )

    def write(self, source: CopySource, work: CopyWorkshop) -> MovedBytes:
        """Store the images and give them the name. Raises BuildError, StoreError, RemoteError, OSError."""
        stored, moved = take_in(source, work)
        work.store.seal()
        work.store.indexes.give_names([self.name], stored, int(time.time()), recipe=f"copy {source.shown}")
        return moved


def take_in(source: CopySource, work: CopyWorkshop) -> tuple[Stored, MovedBytes]:
    """Store what a source is, without a name. Raises BuildError, StoreError, RemoteError, OSError."""
    documents, store = source.graph.images, work.store
    left_out = sum(not document.is_index for document in source.graph.documents) - len(documents)
    if left_out:
        work.observe(Note(f"not an image of a root filesystem, so not stored: {left_out} of {source.shown}"))
    blobs = {blob.digest: blob for document in documents for blob in document.blobs}
    missing = [blob for blob in blobs.values() if not store.blobs.has(blob.digest)]
    if isinstance(source.blobs, RemoteBlobs):
        paths = fetch_blobs(source, source.blobs, missing, store.ingest.new_directory(), work)
        store.places.add(blobs, source.blobs.reference, int(time.time()))
    else:
        paths = _copied(source.blobs, missing, work)
    images = [_add(document, paths, work) for document in documents]
    sent = sum(blob.size for blob in missing)
    moved = MovedBytes(sent, sum(blob.size for blob in blobs.values()) - sent)
    root = source.graph.root
    if not root.is_index:
        return images[0], moved
    return store.indexes.adopt(root.data, images, store.ingest.new_path()), moved


def _copied(blobs: LocalBlobs, wanted: Sequence[Descriptor], work: CopyWorkshop) -> dict[Digest, str]:
    """Copy blobs of this machine into the store's working directory, and check them. Raises StoreError, OSError."""
    store = work.store
    require_space(store.root, sum(blob.size for blob in wanted), "what has to be copied")
    paths = {}
    for blob in wanted:
        paths[blob.digest] = path = store.ingest.new_path()
        with blobs.open(blob.digest) as reader, open(path, "xb") as file:
            copy_verified(reader, file)
            if file.tell() != blob.size:
                raise InvalidImage(f"blob {blob.digest}: {file.tell()} bytes, its descriptor says {blob.size}")
    return paths


def _add(document: ImageDocument, paths: Mapping[Digest, str], work: CopyWorkshop) -> StoredImage:
    """Record an image; `paths` has those of its blobs that the store lacks."""
    store = work.store
    manifest = Manifest.from_bytes(document.data, document.descriptor.media_type)
    config_bytes = _config(manifest.config, paths, work)
    config = ImageConfig.from_bytes(config_bytes)
    check_image(manifest, config)
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        if layer.digest in paths and not store.blobs.has(layer.digest):
            blob = LayerBlob(diff_id, layer.digest, layer.size, COMPRESSIONS[layer.media_type])
            store.changesets.adopt_blob(paths[layer.digest], blob)
    snapshot = stack_layers(store.metadata, store.changesets, store.snapshots, manifest, config)
    return store.images.add(document.data, config_bytes, snapshot, (store.ingest.new_path(), store.ingest.new_path()))


def _config(descriptor: Descriptor, paths: Mapping[Digest, str], work: CopyWorkshop) -> bytes:
    if descriptor.digest not in paths:
        return work.store.blobs.read(descriptor.digest, CONFIG_BYTES)
    if descriptor.size > CONFIG_BYTES.value:
        raise CONFIG_BYTES.exceeded(InvalidImage, f"a config of {descriptor.size} bytes exceeds the limit of {{}}")
    with open(paths[descriptor.digest], "rb") as file:
        return file.read()
