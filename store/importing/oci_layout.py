"""Reading OCI image layouts that other tools have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.store.formats.media_types import INDEXES
from pybuild.store.formats.oci_layout import INDEX, LAYOUT, NAME_ANNOTATION, REF_ANNOTATION, blob_name
from pybuild.store.formats.oci_manifest import Descriptor, Index
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.choice import ArchivedImage
from pybuild.store.importing.intake import read_blob
from pybuild.store.importing.members import read_member
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.platform import Platform
    from pybuild.store.importing.members import Members

_MAX_NESTING = 8


class LayoutBlobs:
    """The blobs of a layout; a BlobSource."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob in chunks, not verified. Raises NotFound, or InvalidImage if it is not a regular file."""
        name = blob_name(descriptor.digest)
        if name not in self._members:
            raise NotFound(f"the archive has no blob {descriptor.digest}", hint="it is incomplete; fetch it again")
        return self._members.chunks(name)


def layout_images(members: Members) -> list[ArchivedImage[Descriptor]]:
    """The images that index.json lists. Raises InvalidImage, NotFound."""
    version = Fields(
        load_object(read_member(members, LAYOUT, MANIFEST_BYTES), "oci-layout", limit=MANIFEST_BYTES), "oci-layout"
    )
    if version.text("imageLayoutVersion").partition(".")[0] != "1":
        raise version.wrong("imageLayoutVersion", "1.0.0")
    index = Index.from_bytes(read_member(members, INDEX, MANIFEST_BYTES))
    if not index.manifests:
        raise InvalidImage("index.json lists no image")
    return [_archived_image(descriptor) for descriptor in index.manifests]


def _archived_image(descriptor: Descriptor) -> ArchivedImage[Descriptor]:
    """An image with the name that the layout gives it: a full name, or a tag alone."""
    bare = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
    tag = descriptor.annotations.get(REF_ANNOTATION, "")
    is_tag = "/" not in tag and ":" not in tag  # as skopeo and umoci write it
    text = descriptor.annotations.get(NAME_ANNOTATION)
    if text is not None or not is_tag:
        name = Reference.parse(tag if text is None else text).with_default_tag()
        # If umoci makes an image from a named one, it sets another tag and leaves the old name.
        if not (tag and is_tag and tag != name.tag):
            return ArchivedImage(bare, (name,), "", descriptor.platform)
    return ArchivedImage(bare, (), tag, descriptor.platform)


def manifest_of(blobs: LayoutBlobs, descriptor: Descriptor, platform: Platform) -> Descriptor:
    """The manifest for a platform, found through nested indexes. Raises NotFound, InvalidImage, DigestMismatch."""
    for _ in range(_MAX_NESTING):
        if descriptor.media_type not in INDEXES:
            return descriptor
        index = Index.from_bytes(read_blob(blobs, descriptor, MANIFEST_BYTES), descriptor.media_type)
        descriptor = index.select(platform)
    raise InvalidImage(f"indexes nested deeper than the limit of {_MAX_NESTING}")
