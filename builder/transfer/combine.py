"""pybuild index: puts images for several platforms together into one, an index in the store.

The images come from the store, from archives, layouts and registries. Those that are elsewhere are stored first, as a copy
does it; the index gets its name last.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.transfer.places import StorePlace
from pybuild.builder.transfer.source import opened_source
from pybuild.builder.transfer.store_target import StoreTarget, take_in
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.oci_manifest import Index
from pybuild.store.formats.platform import Platform
from pybuild.store.objects.indexes import StoredIndex, images_of
from pybuild.values import frozen
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pybuild.builder.transfer.places import CopyPlace
    from pybuild.builder.transfer.workshop import CopyWorkshop
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store


_DIGITS = pattern(r"(?:sha256:)?[0-9a-f]{6,64}")


@frozen
class GatheredImages:
    """Images for an index, and what their sources say of them. `whole` is the index that they all are, if there is one."""

    images: tuple[StoredImage, ...]
    entries: Mapping[Digest, Mapping[str, str]]  # the annotations of their entries, by the digest of the manifest
    whole: StoredIndex | None
    annotations: Mapping[str, str]  # of the index, if all images are from one

    def entries_of(self, index: Index) -> tuple[Descriptor, ...]:
        """The entries of an index of these images, with their annotations."""
        return tuple(replace(one, annotations=self.entries.get(one.digest, {})) for one in index.manifests)


def gather_images(
    sources: Sequence[CopyPlace],
    platforms: Sequence[Platform],
    environ: Mapping[str, str],
    work: CopyWorkshop,
    *,
    tls_verify: bool,
) -> GatheredImages:
    """The images at all places, in the store from now on; with `platforms` only those for these.

    Annotations of entries are kept, and those of an index if it is the only source. docker's buildx (imagetools create) does
    the same, but drops the latter where an annotation is added. Raises NotFound if a platform is missing everywhere,
    BuildError, StoreError, RemoteError, OSError.
    """
    found: list[StoredImage] = []
    indexes: list[StoredIndex] = []
    access = registry_access(environ, work.ingest, tls_verify=tls_verify)
    for place in sources:
        if isinstance(place, StorePlace):
            stored, images, _ = work.store.indexes.all_images(place.name)
        else:
            with opened_source(place, None, access, work) as source:
                StoreTarget.check_storable(source)
                stored, _ = take_in(source, work)
                images = images_of(stored)
        found += images
        if isinstance(stored, StoredIndex):
            indexes.append(stored)
    entries: dict[Digest, dict[str, str]] = {}
    for index in indexes:
        for entry in index.index.manifests:
            entries.setdefault(entry.digest, {}).update(entry.annotations)
    has = ", ".join(str(image.exact_platform) for image in found)
    for platform in platforms:
        if not any(image.exact_platform.matches(platform) for image in found):
            raise NotFound(f"there is no image for {platform}", hint=f"the sources have images for {has}")
    wanted = [image for image in found if not platforms or any(image.exact_platform.matches(one) for one in platforms)]
    only = indexes[0] if len(sources) == 1 and indexes else None
    whole = only if len(wanted) == len(found) else None
    return GatheredImages(tuple(wanted), entries, whole, {} if only is None else only.index.annotations)


def create(store: Store, name: Reference, gathered: GatheredImages, annotations: Mapping[str, str]) -> StoredIndex:
    """Give a name to an index of these images: a new one, or the only source if nothing in it changes.

    Raises InvalidImage if two are for the same platform.
    """
    stored = gathered.whole
    if stored is None or annotations:
        index = store.indexes.of(gathered.images, {**gathered.annotations, **annotations})
        index = replace(index, manifests=gathered.entries_of(index))
        stored = store.indexes.add(index, store.ingest.new_path())
    store.seal()
    store.indexes.tag([name], stored, int(time.time()), recipe="index create")
    return stored


def add(store: Store, name: Reference, gathered: GatheredImages, annotations: Mapping[str, str]) -> StoredIndex:
    """Add images to what a name stands for. Each takes the place of the one for the same platform.

    Raises NotFound if nothing has the name.
    """

    def with_images(index: Index) -> Index:
        new = {entry.platform: entry for entry in gathered.entries_of(store.indexes.of(gathered.images))}
        kept = [_replaced(entry, new) for entry in index.manifests]
        entries = (*kept, *new.values())
        return replace(index, manifests=entries, annotations={**index.annotations, **annotations})

    return _changed(store, name, with_images, "index add")


def remove(store: Store, name: Reference, which: Sequence[str]) -> StoredIndex:
    """Remove images from an index, each named by its platform, its digest or the first digits of it.

    Raises NotFound if one is not in it, BuildError if none would be left.
    """

    def without(index: Index) -> Index:
        left = list(index.manifests)
        for text in which:
            gone = [entry for entry in left if _is_meant(entry, text)]
            if not gone:
                has = ", ".join(str(entry.platform) for entry in left)
                raise NotFound(f"{name.familiar} has no image {text}", hint=f"it has one for {has}")
            if len(gone) > 1 and _DIGITS.fullmatch(text):
                raise InvalidImage(f"{text} matches {len(gone)} images of {name.familiar}", hint="give more digits")
            left = [entry for entry in left if entry not in gone]
        if not left:
            raise BuildError(f"no image would be left in {name.familiar}", hint="pybuild rmi removes it as a whole")
        return replace(index, manifests=tuple(left))

    return _changed(store, name, without, "index rm")


def _index_of(store: Store, name: Reference) -> Index:
    """The index that a name means, or one of the images that it stands for. Its entries have platforms."""
    found, images, _ = store.indexes.all_images(str(name))
    if isinstance(found, StoredIndex):
        pairs = zip(found.index.manifests, images, strict=True)
        return replace(
            found.index, manifests=tuple(replace(entry, platform=image.exact_platform) for entry, image in pairs)
        )
    return found if isinstance(found, Index) else store.indexes.of(images)


def _replaced(entry: Descriptor, new: dict[Platform | None, Descriptor]) -> Descriptor:
    """The entry, or the one of `new` for the same platform, which is taken out of it."""
    return new.pop(entry.platform, entry)


def _is_meant(entry: Descriptor, text: str) -> bool:
    if _DIGITS.fullmatch(text) and entry.digest.hex.startswith(text.removeprefix("sha256:")):
        return True
    try:
        wanted = Platform.parse(text)
    except InvalidImage:
        return False
    return entry.platform is not None and entry.platform.matches(wanted)


def _changed(store: Store, name: Reference, change: Callable[[Index], Index], recipe: str) -> StoredIndex:
    """Give the name to a changed form of what it means. If another process gives it to something else meanwhile, that is
    changed instead: of two that add images at once neither is lost.
    """
    while True:
        seen = store.images.tags_of(name)
        stored = store.indexes.add(change(_index_of(store, name)), store.ingest.new_path())
        store.seal()
        if store.indexes.tag_unless_changed(name, seen, stored, int(time.time()), recipe):
            return stored
