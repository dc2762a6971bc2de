"""Importing docker archives (formats/docker_archive.py describes them).

A docker archive has no OCI manifest, and the only digest of a layer is its diff_id. The imported image has the same
config bytes, and so Docker's image ID. Uncompressed layers are compressed with gzip.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound
from pybuild.store.formats.bounded_json import load_list
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.docker_archive import MANIFEST
from pybuild.store.formats.media_types import LAYER_TYPES, MediaType
from pybuild.store.formats.oci_config import ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.tar import show
from pybuild.store.importing.choice import ArchivedImage
from pybuild.store.importing.chunk_reader import ChunkReader
from pybuild.store.importing.intake import LayerStack
from pybuild.store.importing.members import read_member
from pybuild.store.layers.errors import layer_errors
from pybuild.store.layers.read import clean_path
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.store.importing.members import Members
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store

# Names of a config that contain its digest: from docker and podman, from containerd, from crane and kaniko.
_CONFIG_NAME = pattern(rb"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")


@frozen
class SavedImage:
    """One item of manifest.json: the members of the archive that make up an image."""

    config: bytes
    layers: tuple[bytes, ...]


def saved_images(members: Members) -> list[ArchivedImage[SavedImage]]:
    """The images that manifest.json lists. Raises InvalidImage, UnsafePath, NotFound."""
    if MANIFEST not in members:
        raise NotFound(
            "the archive has no manifest.json",
            hint="it was written by docker before 1.10; load it into a newer docker and save it again",
        )
    images = []
    for item in load_list(read_member(members, MANIFEST, MANIFEST_BYTES), "manifest.json", limit=MANIFEST_BYTES):
        config = _member_name(item.text("Config"))
        layers = tuple(_member_name(text) for text in item.texts("Layers"))
        names = tuple(Reference.parse(text).with_default_tag() for text in item.texts("RepoTags"))
        images.append(ArchivedImage(SavedImage(config, layers), names))
    if not images:
        raise InvalidImage("manifest.json lists no image")
    return images


def import_saved_image(store: Store, members: Members, image: SavedImage) -> StoredImage:
    """Import an image, with a new manifest. Raises StoreError, OSError."""
    config_bytes, config = saved_config(members, image)
    stack = LayerStack(store)
    layers = []
    for name, diff_id in zip(image.layers, config.diff_ids, strict=True):
        with layer_errors(f"{show(name)} ({diff_id})"):
            blob = stack.put_tar(ChunkReader(members.chunks(name)), diff_id)
        layers.append(Descriptor(LAYER_TYPES[blob.compression], blob.digest, blob.size))
    manifest = Manifest(
        config=Descriptor(MediaType.OCI_CONFIG, Digest.of(config_bytes), len(config_bytes)),
        layers=tuple(layers),
    )
    return store.images.add(manifest.to_bytes(), config_bytes, stack.snapshot, stack.scratch())


def saved_config(members: Members, image: SavedImage) -> tuple[bytes, ImageConfig]:
    """The config of an image: its bytes, and what they mean. Raises StoreError."""
    config_bytes = read_member(members, image.config, CONFIG_BYTES)
    match = _CONFIG_NAME.fullmatch(image.config)
    if match is not None and hashlib.sha256(config_bytes).hexdigest().encode() != match[1]:
        raise DigestMismatch(f"config {show(image.config)}: the bytes do not match the digest")
    config = ImageConfig.from_bytes(config_bytes)
    if len(image.layers) != len(config.diff_ids):
        raise InvalidImage(f"manifest.json has {len(image.layers)} layers, the config {len(config.diff_ids)}")
    return config_bytes, config


def _member_name(text: str) -> bytes:
    return clean_path(text.encode("utf-8"))
