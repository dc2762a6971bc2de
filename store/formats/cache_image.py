"""The image that a travelling cache is: making one from an index, and telling one from other images.

The image has a manifest and a config of OCI's types, so that every registry takes it. An annotation of the manifest says
that the image is nothing but a cache: such an image can be replaced by the next one. An image of a user can carry the
index of its own steps too (an inline cache); it is read, and never replaced.

BuildKit's caches have other forms. With `image-manifest=true` the config has a type of its own; without, an index names
layers where others name manifests; and the config of an image can have a member.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotACache, NotFound
from pybuild.store.formats.cache_index import (
    BUILDKIT_CONFIG,
    BUILDKIT_MEMBER,
    CacheIndex,
    descriptor_type,
    read_index,
)
from pybuild.store.formats.cache_merge import merged
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import COMPRESSIONS, CONFIGS, INDEXES, MANIFESTS, MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER, ExecConfig, ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Descriptor, Index, Manifest
from pybuild.values import frozen
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from pybuild.store.formats.platform import Platform

KIND_ANNOTATION = "pybuild.artifact-type"  # of a manifest; registries refuse artifactType with some config types
KIND = "application/vnd.pybuild.cache.v1"
_MOST_BYTES = 4 << 20  # of a manifest, as registries allow, and of a config, as skopeo does
_MAX_NESTING = 4  # an index in an index
_BUILDKIT = "it is a cache of BuildKit, which has another form"
_BUILDKIT_HINT = "give pybuild a name of its own for its cache"


@frozen
class CacheImage:
    """A cache as the bytes of an image. `size` is that of its layers in bytes."""

    index: CacheIndex
    manifest: bytes
    config: bytes

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.of(self.manifest)

    @property
    def config_digest(self) -> Digest:
        """The digest of the config."""
        return Digest.of(self.config)

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.index.layers)


def cache_image(index: CacheIndex, platform: Platform) -> CacheImage:
    """The image that carries an index and its layers. The same arguments give the same bytes."""
    layers = index.layers
    config = ImageConfig(
        platform.architecture, platform.os, platform.variant, None, "", ExecConfig(),
        tuple(layer.diff_id for layer in layers), (), {CACHE_MEMBER: index.to_member(layers)},
    ).to_bytes()  # fmt: skip
    manifest = Manifest(
        Descriptor(MediaType.OCI_CONFIG, Digest.of(config), len(config)),
        tuple(Descriptor(descriptor_type(layer), layer.digest, layer.size) for layer in layers),
        annotations={KIND_ANNOTATION: KIND},
    )
    return CacheImage(index, manifest.to_bytes(), config)


def fitting_image(index: CacheIndex, platform: Platform) -> CacheImage:
    """The image of an index, or of as much of it as registries take and as can be read back.

    The records that were used least recently are left out.
    """
    while True:
        image = cache_image(index, platform)
        if _fits(image):
            return image
        index = merged(CacheIndex(), index, most=len(index.records) * 9 // 10)


def _fits(image: CacheImage) -> bool:
    if max(len(image.manifest), len(image.config)) > _MOST_BYTES:
        return False
    try:
        manifest = Manifest.from_bytes(image.manifest)
        return read_index(manifest, ImageConfig.from_bytes(image.config)) is not None
    except InvalidImage:
        if not image.index.records:
            raise  # it would never fit
        return False


def is_only_cache(manifest: Manifest) -> bool:
    """Whether an image is nothing but a cache."""
    return manifest.annotations.get(KIND_ANNOTATION) == KIND


def cache_manifest(
    descriptor: Descriptor, data: bytes, platform: Platform, read: Callable[[Descriptor], bytes]
) -> tuple[Descriptor, bytes]:
    """The manifest of the image for a platform that a document (`data`) is or names, and its descriptor.

    `read` gives the bytes of a document that an index names. Raises NotACache if no image is there that could carry a
    cache; InvalidImage for a damaged document, and the errors of `read`.
    """
    for _ in range(_MAX_NESTING):
        kind = descriptor.media_type
        if kind in MANIFESTS:
            manifest = Manifest.from_bytes(data, kind)
            if manifest.config.media_type == BUILDKIT_CONFIG:
                raise NotACache(_BUILDKIT, hint=_BUILDKIT_HINT)
            if manifest.config.media_type not in CONFIGS:
                raise NotACache("it is not an image")
            return descriptor, data
        if kind not in INDEXES:
            raise NotACache("it is not an image")
        index = Index.from_bytes(data, kind)
        kinds = {found.media_type for found in index.manifests}
        if BUILDKIT_CONFIG in kinds or kinds & set(COMPRESSIONS):
            raise NotACache(_BUILDKIT, hint=_BUILDKIT_HINT)
        try:
            descriptor = index.select(platform)
        except NotFound:
            raise NotACache(f"it has no image for {platform}") from None
        if descriptor.size > MANIFEST_BYTES.value:
            raise MANIFEST_BYTES.exceeded(InvalidImage, "its manifest exceeds the limit of {}")
        data = read(descriptor)
    raise InvalidImage(f"indexes nested deeper than the limit of {_MAX_NESTING}")


def carried_index(manifest: Manifest, config: bytes) -> CacheIndex:
    """The index that an image carries. Raises NotACache if it carries none, InvalidImage if it is damaged."""
    read = ImageConfig.from_bytes(config)
    check_image(manifest, read)
    index = read_index(manifest, read)
    if index is None and BUILDKIT_MEMBER in read.extra:
        raise NotACache("it is an image with an inline cache of BuildKit, which has another form")
    if index is None:
        raise NotACache("it is an image without a cache")
    return index
