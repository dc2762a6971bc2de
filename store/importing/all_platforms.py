"""Importing images for all platforms: an index of an archive becomes an index of the store.

An archive has the images of several platforms in an index, or as images of one name that differ in their platform only, as
umoci and skopeo write them. What is not the image of a root filesystem, such as an attestation, is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.media_types import INDEXES, MANIFESTS
from pybuild.store.formats.oci_manifest import Index
from pybuild.store.importing.choice import choose_groups
from pybuild.store.importing.intake import import_image, read_blob
from pybuild.store.objects.indexes import digest_of
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.reference import Reference
    from pybuild.store.importing.choice import ArchivedImage
    from pybuild.store.importing.oci_layout import LayoutBlobs
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

_MAX_NESTING = 8


def import_all_platforms(
    store: Store, blobs: LayoutBlobs, images: Sequence[ArchivedImage[Descriptor]], name: Reference | None
) -> list[tuple[Stored, list[Reference]]]:
    """Import what an OCI layout lists, whole, with the names that it gets. Raises StoreError."""
    groups = choose_groups(images, name)
    # Indexes first, so that an error in them is reported before the work on the layers.
    planned = [([(item, list(_manifests(blobs, item, 0))) for item in items], names) for items, names in groups]
    return by_digest((_import_group(store, blobs, items), names) for items, names in planned)


def by_digest(images: Iterable[tuple[Stored, Iterable[Reference]]]) -> list[tuple[Stored, list[Reference]]]:
    """Each image once, with all its names, each once."""
    found: dict[Digest, tuple[Stored, dict[Reference, None]]] = {}
    for image, new_names in images:
        _, names = found.setdefault(digest_of(image), (image, {}))
        names.update(dict.fromkeys(new_names))
    return [(image, list(names)) for image, names in found.values()]


def _import_group(store: Store, blobs: LayoutBlobs, items: Sequence[tuple[Descriptor, Sequence[Descriptor]]]) -> Stored:
    """Import the images of one name."""
    wanted = {manifest.digest: manifest for _, manifests in items for manifest in manifests}
    if not wanted:
        raise InvalidImage("the index has no image of a root filesystem")
    imported = [import_image(store, blobs, manifest) for manifest in wanted.values()]
    first = items[0][0]
    if len(items) == 1 and first.media_type in INDEXES:
        return store.indexes.adopt(read_blob(blobs, first, MANIFEST_BYTES), imported, store.ingest.new_path())
    if len(imported) == 1:
        return imported[0]
    return store.indexes.add(store.indexes.of(imported), store.ingest.new_path())


def _manifests(blobs: LayoutBlobs, descriptor: Descriptor, depth: int) -> Iterator[Descriptor]:
    """The images that a descriptor stands for, found through nested indexes."""
    if descriptor.media_type not in INDEXES:
        if descriptor.media_type in MANIFESTS and not _is_attestation(descriptor):
            yield descriptor
        return
    if depth >= _MAX_NESTING:
        raise InvalidImage(f"indexes nested deeper than the limit of {_MAX_NESTING}")
    for entry in Index.from_bytes(read_blob(blobs, descriptor, MANIFEST_BYTES), descriptor.media_type).manifests:
        yield from _manifests(blobs, entry, depth + 1)


def _is_attestation(descriptor: Descriptor) -> bool:
    """Whether an entry is an attestation of BuildKit's: its platform is unknown/unknown."""
    return descriptor.platform is not None and descriptor.platform.architecture == "unknown"
