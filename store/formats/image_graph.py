"""All that belongs to an image: its indexes and manifests, and the blobs that these name.

A copy passes on each document byte for byte, so little has to be understood: which descriptors stand for documents, and
which for blobs. Media types of artifacts, configs and layers that pybuild does not know are passed on as well. Source:
OCI image-spec 1.1; an index can also name blobs, as BuildKit's caches do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.store.formats.media_types import COMPRESSIONS, CONFIGS, INDEXES, MANIFESTS
from pybuild.store.formats.oci_config import ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Index, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen
from pybuild.values.limits import COPIED_MANIFEST_BYTES, COPIED_OBJECTS, MANIFEST_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.store.formats.digest import Digest

_MAX_NESTING = 8  # an index in an index
_MEDIA_TYPE = pattern(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")  # RFC 6838
_OTHER_MANIFEST = pattern(r"application/.*manifest.*\+json")  # those of artifacts


@frozen
class ImageDocument:
    """An index or a manifest: its descriptor, its bytes, and the blobs that it names itself."""

    descriptor: Descriptor
    data: bytes
    blobs: tuple[Descriptor, ...]

    @property
    def is_index(self) -> bool:
        return self.descriptor.media_type in INDEXES


@frozen
class ImageGraph:
    """An image: its documents, each after those that it names, so the last one is the root; and what is left out.

    Non-distributable layers are left out: their bytes are for those who may have them, at the URLs in the manifest.
    """

    documents: tuple[ImageDocument, ...]
    left_out: tuple[Descriptor, ...] = ()

    @property
    def root(self) -> ImageDocument:
        return self.documents[-1]

    @property
    def blobs(self) -> Mapping[Digest, Descriptor]:
        """All blobs, each once."""
        return {blob.digest: blob for document in self.documents for blob in document.blobs}

    @property
    def size(self) -> int:
        """The bytes of all blobs."""
        return sum(blob.size for blob in self.blobs.values())

    @property
    def images(self) -> list[ImageDocument]:
        """The manifests that are images of root filesystems, not attestations or artifacts. Raises InvalidImage."""
        found = []
        for document in self.documents:
            if document.descriptor.media_type in MANIFESTS:
                manifest = Manifest.from_bytes(document.data, document.descriptor.media_type)
                kinds = {layer.media_type for layer in manifest.layers}
                if manifest.config.media_type in CONFIGS and kinds <= COMPRESSIONS.keys():
                    found.append(document)
        return found

    def read(self, descriptor: Descriptor) -> bytes:
        """The bytes of a document of this image, for `read_graph` and `for_platform`."""
        return next(one.data for one in self.documents if one.descriptor.digest == descriptor.digest)


def read_graph(root: Descriptor, read: Callable[[Descriptor], bytes]) -> ImageGraph:
    """The image whose root has this descriptor. `read` gives the bytes of a document and has checked them.

    Raises InvalidImage for a document that is malformed, or if there are more of them than the limits allow.
    """
    walk = _Walk(read)
    walk.document(root, 0)
    return ImageGraph(tuple(walk.documents.values()), tuple(walk.left_out.values()))


def for_platform(
    root: Descriptor,
    platform: Platform,
    shown: str,
    read: Callable[[Descriptor], bytes],
    read_config: Callable[[Descriptor], bytes],
) -> Descriptor:
    """The manifest for a platform: one that the indexes name, or the root itself if that is for this platform.

    Raises NotFound if there is none, InvalidImage.
    """
    found = root
    for _ in range(_MAX_NESTING):
        if found.media_type not in INDEXES:
            break
        try:
            found = Index.from_bytes(read(found), found.media_type).select(platform)
        except NotFound as error:
            raise NotFound(f"{shown}: {error}", hint=error.hint) from None
    else:
        raise InvalidImage(f"{shown}: indexes nested deeper than the limit of {_MAX_NESTING}")
    if found is root:
        fields = Fields(load_object(read(root), "manifest", limit=MANIFEST_BYTES), "manifest")
        config = Descriptor.read(fields.object("config")) if fields.data.get("config") is not None else None
        if config is None or config.media_type not in CONFIGS:
            raise NotFound(f"{shown} has no platform: it is not the image of a root filesystem")
        image = ImageConfig.from_bytes(read_config(config))
        own = image.platform
        if not own.matches(platform):
            raise NotFound(f"{shown} is an image for {own}, not for {platform}")
    return found


class _Walk:
    def __init__(self, read: Callable[[Descriptor], bytes]) -> None:
        self._read = read
        self.documents: dict[Digest, ImageDocument] = {}
        self.left_out: dict[Digest, Descriptor] = {}
        self._sizes: dict[Digest, int] = {}
        self._bytes = 0

    def document(self, descriptor: Descriptor, depth: int) -> None:
        if depth > _MAX_NESTING:
            raise InvalidImage(f"indexes nested deeper than the limit of {_MAX_NESTING}")
        if not self._is_new(descriptor):
            return
        self._bytes += descriptor.size
        if self._bytes > COPIED_MANIFEST_BYTES.value:
            raise COPIED_MANIFEST_BYTES.exceeded(InvalidImage, "the manifests of the image exceed the limit of {}")
        data = self._read(descriptor)
        children, blobs = _links(data, descriptor)
        for child in children:
            self.document(child, depth + 1)
        kept = []
        for blob in blobs:
            if _is_distributable(blob):
                self._is_new(blob)
                kept.append(blob)
            else:
                self.left_out[blob.digest] = blob
        self.documents[descriptor.digest] = ImageDocument(descriptor, data, tuple(kept))

    def _is_new(self, descriptor: Descriptor) -> bool:
        """Count an object. Raises InvalidImage if it has another size elsewhere in the image, or if there are too many."""
        known = self._sizes.setdefault(descriptor.digest, descriptor.size)
        if known != descriptor.size:
            raise InvalidImage(f"{descriptor.digest} has two sizes: {known} and {descriptor.size} bytes")
        if len(self._sizes) > COPIED_OBJECTS.value:
            raise COPIED_OBJECTS.exceeded(InvalidImage, "the image has more than the limit of {} manifests and blobs")
        return descriptor.digest not in self.documents


def _links(data: bytes, descriptor: Descriptor) -> tuple[list[Descriptor], list[Descriptor]]:
    """The documents and the blobs that a document names."""
    name = f"manifest {descriptor.digest.short}"
    fields = Fields(load_object(data, name, limit=MANIFEST_BYTES), name)
    own, given = fields.optional_text("mediaType"), descriptor.media_type
    if own is not None and own != given:
        raise InvalidImage(f"{name}: its media type is {own[:200]!r}, its descriptor says {given[:200]!r}")
    if not _MEDIA_TYPE.fullmatch(given):
        raise InvalidImage(f"{name}: {given[:200]!r} is not a media type")
    index, manifest = "manifests" in fields.data, not {"config", "layers", "blobs"}.isdisjoint(fields.data)
    if fields.data.get("schemaVersion") == 1 or "fsLayers" in fields.data:
        raise InvalidImage(f"{name}: schema 1 is not supported", hint="push the image again with a current tool")
    if (index and manifest) or (index and given in MANIFESTS) or (manifest and given in INDEXES):
        raise InvalidImage(
            f"{name}: it can be read as an index and as a manifest", hint="the image is damaged or hostile"
        )
    found = [Descriptor.read(one) for key in ("manifests", "layers", "blobs") for one in fields.objects(key)]
    if fields.data.get("config") is not None:
        found.append(Descriptor.read(fields.object("config")))
    documents = [one for one in found if index and _is_document(one.media_type)]
    return documents, [one for one in found if not (index and _is_document(one.media_type))]


def _is_document(media_type: str) -> bool:
    """Whether an entry of an index is a document, not a blob. An entry without a type is taken for one and refused."""
    return not media_type or media_type in INDEXES + MANIFESTS or bool(_OTHER_MANIFEST.fullmatch(media_type))


def _is_distributable(blob: Descriptor) -> bool:
    return "nondistributable" not in blob.media_type and ".foreign." not in blob.media_type
