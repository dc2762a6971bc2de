"""OCI image layouts, in a tar or in a directory: finding one's way in them, and their index.

Source: OCI image-spec, image-layout.md. The names of images are annotations of index.json: containerd's for the full
name, the spec's for the tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.errors import InvalidImage, NotFound
from store.intake import read_blob
from store.jsonio import Fields, dump, load_object
from store.members import read_member
from store.offers import Offer
from store.reference import Reference
from store.spec import MANIFEST_LIMIT, Descriptor, Index, MediaType, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from store.digest import Digest
    from store.images import Image
    from store.members import Members

NAME_ANNOTATION = "io.containerd.image.name"  # the full name
REF_ANNOTATION = "org.opencontainers.image.ref.name"  # the tag
LAYOUT, INDEX = b"oci-layout", b"index.json"
LAYOUT_JSON = b'{"imageLayoutVersion":"1.0.0"}'
_INDEXES = (MediaType.OCI_INDEX, MediaType.DOCKER_INDEX)
_MAX_NESTING = 8


def blob_name(digest: Digest) -> bytes:
    """The name of a blob in a layout."""
    return b"blobs/%s/%s" % (digest.algorithm.encode(), digest.hex.encode())


class LayoutBlobs:
    """The blobs of a layout."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob. Raises NotFound, InvalidImage where it is no regular file."""
        name = blob_name(descriptor.digest)
        if name not in self._members:
            raise NotFound(f"the archive lacks blob {descriptor.digest}", hint="it is incomplete; fetch it again")
        return self._members.chunks(name)


def layout_offers(members: Members) -> list[Offer[Descriptor]]:
    """The images of a layout. Raises InvalidImage, NotFound."""
    version = Fields(load_object(read_member(members, LAYOUT, 4096), "oci-layout", limit=4096), "oci-layout")
    if version.text("imageLayoutVersion").partition(".")[0] != "1":
        raise version.wrong("imageLayoutVersion", "1.0.0")
    index = Index.from_bytes(read_member(members, INDEX, MANIFEST_LIMIT))
    if not index.manifests:
        raise InvalidImage("index.json lists no image")
    return [_offer(descriptor) for descriptor in index.manifests]


def _offer(descriptor: Descriptor) -> Offer[Descriptor]:
    """The name that the layout gives an image: the full one, or a tag that is a name by itself."""
    bare = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
    tag = descriptor.annotations.get(REF_ANNOTATION, "")
    is_tag = "/" not in tag and ":" not in tag  # as skopeo and umoci write it
    text = descriptor.annotations.get(NAME_ANNOTATION)
    if text is not None or not is_tag:
        name = Reference.parse(tag if text is None else text).with_default_tag()
        # umoci gives an image that it made from a named one another tag, and leaves the name.
        if not (tag and is_tag and tag != name.tag):
            return Offer(bare, (name,), "", descriptor.platform)
    return Offer(bare, (), tag, descriptor.platform)


def manifest_of(blobs: LayoutBlobs, descriptor: Descriptor, platform: Platform) -> Descriptor:
    """Follow nested indexes to the manifest for a platform. Raises NotFound, InvalidImage, DigestMismatch."""
    for _ in range(_MAX_NESTING):
        if descriptor.media_type not in _INDEXES:
            return descriptor
        index = Index.from_bytes(read_blob(blobs, descriptor, MANIFEST_LIMIT), descriptor.media_type)
        descriptor = index.select(platform)
    raise InvalidImage(f"indexes nested more than {_MAX_NESTING} deep")


def index_entries(image: Image, size: int, names: Iterable[Reference]) -> list[Descriptor]:
    """What index.json says about an image whose manifest has `size` bytes: one entry for each of its names."""
    config = image.config
    platform = Platform(config.os, config.architecture, config.variant)
    full = [name.with_default_tag() for name in names]
    annotations = [{NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag or ""} for name in full]
    return [
        Descriptor(image.manifest.media_type, image.manifest_digest, size, given, platform)
        for given in annotations or [{}]
    ]


def index_json(entries: Iterable[Descriptor], annotations: dict[str, str] | None = None) -> bytes:
    """The bytes of index.json."""
    data = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_INDEX,
        "manifests": [entry.to_json() for entry in entries],
    }
    return dump({**data, **({"annotations": annotations} if annotations else {})})
