"""An image of an archive or a layout as it is, with all its indexes and manifests, for a copy."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from pybuild.store.formats.image_graph import for_platform, read_graph
from pybuild.store.formats.oci_layout import INDEX, LAYOUT, blob_name
from pybuild.store.formats.platform import Platform
from pybuild.store.importing.archived import ArchiveKind, open_members
from pybuild.store.importing.choice import choose_one
from pybuild.store.importing.chunk_reader import ChunkReader
from pybuild.store.importing.intake import read_blob
from pybuild.store.importing.oci_layout import LayoutBlobs, layout_images
from pybuild.store.objects.blobs import VerifyingReader
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.image_graph import ImageGraph
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.reference import Reference
    from pybuild.store.importing.archived import ArchivePlace
    from pybuild.store.importing.members import MemberPlace, PlacedMembers


@frozen
class ArchivedGraph:
    """An image, its names in the archive, and the way to its blobs as long as the archive is open."""

    graph: ImageGraph
    names: tuple[Reference, ...]
    tag: str  # a name that is a tag alone
    members: PlacedMembers

    def open(self, digest: Digest) -> VerifyingReader:
        """A reader of a document or a blob. Raises NotFound, InvalidImage; reading raises DigestMismatch."""
        name = blob_name(digest)
        reader = ChunkReader(self.members.chunks(name))
        return VerifyingReader(cast("BinaryIO", reader), digest, self.members.size(name))

    def place(self, digest: Digest) -> MemberPlace:
        """Where another process finds a blob. Raises NotFound."""
        return self.members.place(blob_name(digest))


@contextmanager
def open_archived_graph(
    place: ArchivePlace, scratch: Callable[[], str], platform: Platform | None
) -> Iterator[ArchivedGraph | None]:
    """The image at a place, or its part for one platform; None if it is a docker archive without OCI manifests.

    `scratch` gives an unused path in an ingest directory. Raises StoreError, OSError.
    """
    with open_members(place, scratch) as members:
        if place.kind is ArchiveKind.DOCKER_ARCHIVE and not (LAYOUT in members and INDEX in members):
            yield None
            return
        blobs = LayoutBlobs(members)

        def read(descriptor: Descriptor) -> bytes:
            return read_blob(blobs, descriptor, MANIFEST_BYTES)

        def read_config(descriptor: Descriptor) -> bytes:
            return read_blob(blobs, descriptor, CONFIG_BYTES)

        image = choose_one(layout_images(members), place.name, platform or Platform.host(), str(place))
        root = image.item
        if platform is not None:
            root = for_platform(root, platform, str(place), read, read_config)
        yield ArchivedGraph(read_graph(root, read), image.names, image.tag, members)
