"""Image indexes: one image for several platforms. An index stands for images that are all in the store.

The bytes of an index are a blob. The table `indexes` has a row for each of its images, so the blob stays as long as one of
them, and an index that has lost an image is not found any more. What is not the image of a root filesystem, such as an
attestation, is in no index of the store: whoever takes in a foreign index leaves it out, and the index gets another digest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor, Index
from pybuild.store.formats.platform import Platform
from pybuild.store.objects.condemned import Condemnable, spare_in_transaction
from pybuild.store.objects.images import StoredImage, keep_image
from pybuild.store.objects.names import Names, Tag
from pybuild.values import frozen
from pybuild.values.limits import MANIFEST_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.database import Metadata
    from pybuild.store.objects.images import Images

_DIGEST_PREFIX = pattern(r"(sha256:)?[0-9a-f]{6,64}")


@frozen
class StoredIndex:
    """An index in the store, with its images in its order."""

    digest: Digest
    index: Index
    images: tuple[StoredImage, ...]

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of the images, as their configs have them."""
        return tuple(image.exact_platform for image in self.images)

    @property
    def preferred(self) -> StoredImage:
        """The image that the index means where nobody asks for a platform: that of this machine, else the first one."""
        host = Platform.host()
        return next((image for image in self.images if image.platform.matches(host)), self.images[0])

    def image(self, platform: Platform, shown: str) -> StoredImage:
        """The image for a platform. Raises NotFound; `shown` is the name of the index."""
        for image in self.images:
            if image.exact_platform.matches(platform):
                return image
        has = ", ".join(map(str, self.platforms))
        raise NotFound(f"{shown} has no image for {platform}", hint=f"it has one for {has}")


Stored: TypeAlias = StoredImage | StoredIndex


def digest_of(stored: Stored) -> Digest:
    """The digest of an image's manifest, or of an index."""
    return stored.digest if isinstance(stored, StoredIndex) else stored.manifest_digest


def images_of(stored: Stored) -> tuple[StoredImage, ...]:
    """The images that something of the store stands for."""
    return stored.images if isinstance(stored, StoredIndex) else (stored,)


def index_entry(image: StoredImage, size: int, annotations: Mapping[str, str] | None = None) -> Descriptor:
    """The entry of an image in an index; `size` is that of its manifest."""
    return Descriptor(
        image.manifest.media_type, image.manifest_digest, size, annotations or {}, platform=image.exact_platform
    )


class Indexes:
    """The indexes of a store, and the names that stand for them."""

    def __init__(self, metadata: Metadata, blobs: Blobs, images: Images) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._images = images
        self._names = Names(metadata)

    def of(
        self, images: Iterable[StoredImage], annotations: Mapping[str, str] | None = None, *, docker_types: bool = False
    ) -> Index:
        """An index of these images, in their order, each once. It is not stored.

        Raises InvalidImage if two of them are for the same platform.
        """
        entries: dict[Platform, Descriptor] = {}
        for image in {image.manifest_digest: image for image in images}.values():
            platform = image.exact_platform
            if platform in entries:
                raise InvalidImage(f"two different images are for {platform}: an index has one of each platform")
            entries[platform] = index_entry(image, self._blobs.size(image.manifest_digest) or 0)
        kind = MediaType.DOCKER_INDEX if docker_types else MediaType.OCI_INDEX
        return Index(tuple(entries.values()), kind, annotations or {})

    def add(self, index: Index, scratch: str, data: bytes | None = None) -> StoredIndex:
        """Store an index of images that are in the store. Idempotent. `scratch` is an unused path in an ingest directory.

        `data` are its bytes if another program wrote them. Raises NotFound if one of its images is not in the store.
        """
        data = index.to_bytes() if data is None else data
        if len(data) > MANIFEST_BYTES.value:
            raise MANIFEST_BYTES.exceeded(InvalidImage, "the index exceeds the limit of {}")
        found = StoredIndex(Digest.of(data), index, tuple(self._images.get(one.digest) for one in index.manifests))
        if not found.images:
            raise InvalidImage("the index has no image")
        if self._metadata.obstacle is not None and self._rows(found.digest) == len(_digests(found.images)):
            return found
        with self._metadata.transaction():
            self._blobs.put(data, scratch)
            self._keep(found)
        return found

    def adopt(self, data: bytes, images: Sequence[StoredImage], scratch: str) -> StoredIndex:
        """Store an index that another program wrote, with those of its images that are in the store.

        If it names anything else, or a platform twice, it becomes another index without that: each image keeps its
        annotations. Raises InvalidImage.
        """
        index = Index.from_bytes(data)
        held = {image.manifest_digest: image for image in images}
        first: dict[Platform, StoredImage] = {}
        for image in images:
            first.setdefault(image.exact_platform, image)
        if {entry.digest for entry in index.manifests} == held.keys() and len(first) == len(index.manifests):
            return self.add(index, scratch, data)
        known = {entry.digest: entry for entry in index.manifests}
        entries = self.of(first.values()).manifests
        kept = (
            replace(one, annotations=known[one.digest].annotations) if one.digest in known else one for one in entries
        )
        return self.add(replace(index, manifests=tuple(kept)), scratch)

    def get(self, digest: Digest) -> StoredIndex:
        """The index with this digest. Raises NotFound if it, or one of its images, is not in the store."""
        missing = NotFound(f"no index {digest} in the store", hint="pybuild images lists the images")
        count = self._rows(digest)
        if not count:
            raise missing
        index = Index.from_bytes(self._blobs.read(digest, MANIFEST_BYTES))
        images = tuple(self._images.get(one.digest) for one in index.manifests)
        if count < len(_digests(images)):
            raise missing
        return StoredIndex(digest, index, images)

    def of_name(self, reference: Reference) -> StoredIndex | None:
        """The index that a name means; None if it means one image, or nothing."""
        tags = self._names.of(reference)
        index = tags[0].part_of if tags else None
        if index is None:
            return None
        try:
            return self.get(index)
        except NotFound:
            return None  # `fsck --repair` has dropped one of its images

    def find(self, name: str, platform: Platform | None = None) -> tuple[Stored, Reference | None]:
        """What the user means by a name, a digest or the first digits of one: an index or an image.

        With a platform it is the image for that.

        The second value is the name in full, None if it was a digest. Raises NotFound, InvalidImage.
        """
        if _DIGEST_PREFIX.fullmatch(name):
            prefix = name if name.startswith("sha256:") else f"sha256:{name}"
            rows = self._metadata.all("SELECT DISTINCT digest FROM indexes WHERE digest LIKE ? LIMIT 2", f"{prefix}%")
            if len(rows) > 1:
                raise InvalidImage(f"{name} matches several indexes", hint="give more digits")
            if rows:
                found = self.get(Digest.parse(str(rows[0][0])))
                return found if platform is None else found.image(platform, name), None
        image, reference = self._images.find_named(name, platform)
        if platform is None and reference is not None and (index := self.of_name(reference)) is not None:
            return index, reference
        return image, reference

    def find_image(self, name: str, platform: Platform | None = None) -> tuple[StoredImage, Reference | None]:
        """The image that the user means, as `find` finds it: of an index without a platform that for this machine."""
        found, reference = self.find(name, platform)
        return found.preferred if isinstance(found, StoredIndex) else found, reference

    def all_images(self, name: str) -> tuple[Index | Stored, tuple[StoredImage, ...], Reference | None]:
        """Everything that a name stands for, as one index: the one that it was given, else one of the images that it has.

        The latter is not stored. Of a name with one image, and of a digest, it is what `find` gives. Raises NotFound.
        """
        found, reference = self.find(name)
        if isinstance(found, StoredIndex) or reference is None:
            return found, images_of(found), reference
        images = tuple(self._images.get(tag.manifest) for tag in reversed(self._names.of(reference)))
        if len(images) < 2:
            return found, (found,), reference
        return self.of(images), images, reference

    def whole(self, name: str, scratch: str) -> Stored:
        """What `all_images` gives, stored. `scratch` is an unused path in an ingest directory. Raises NotFound."""
        found = self.all_images(name)[0]
        return self.add(found, scratch) if isinstance(found, Index) else found

    def tag(self, names: Sequence[Reference], index: StoredIndex, now: int, recipe: str = "") -> None:
        """Give an index these names, in one transaction that is on the disk when this returns.

        The names are taken from all other images, whatever their platforms are.
        """
        if self._metadata.obstacle is not None and all(self._means(name, index) for name in names):
            return
        with self._metadata.durable_transaction() as db:
            self._give(db, names, index, now, recipe)

    def tag_unless_changed(
        self, name: Reference, seen: Sequence[Tag], index: StoredIndex, now: int, recipe: str = ""
    ) -> bool:
        """As `tag`, but only if the name still means what it meant when its tags were `seen`; return whether it does."""
        with self._metadata.durable_transaction() as db:
            if self._names.of(name) != list(seen):
                return False
            self._give(db, [name], index, now, recipe)
            return True

    def _give(
        self, db: sqlite3.Connection, names: Sequence[Reference], index: StoredIndex, now: int, recipe: str
    ) -> None:
        self._keep(index)
        for name in names:
            if self._means(name, index):
                continue
            if self._names.of(name):
                self._names.remove(db, name, now)
            # The last row is what the name means where nobody asks for a platform.
            preferred = index.preferred.manifest_digest
            for image in sorted(index.images, key=lambda image: image.manifest_digest == preferred):
                full, platform = str(name.with_default_tag()), str(image.exact_platform)
                self._names.add(db, Tag(full, image.manifest_digest, now, platform, recipe, index.digest))

    def give_names(self, names: Sequence[Reference], stored: Stored, now: int, recipe: str = "") -> None:
        """Give an index or an image these names, as `tag` and `Images.tag` do."""
        if isinstance(stored, StoredIndex):
            self.tag(names, stored, now, recipe)
        else:
            self._images.tag(list(names), stored, now, recipe)

    def _means(self, name: Reference, index: StoredIndex) -> bool:
        tags = self._names.of(name)
        return {(tag.manifest, tag.part_of) for tag in tags} == {
            (digest, index.digest) for digest in _digests(index.images)
        }

    def _keep(self, index: StoredIndex) -> None:
        """Write the rows of an index, unless they exist, and spare its images with everything that they reach."""
        with self._metadata.transaction() as db:
            for image in index.images:
                keep_image(db, image)
            spare_in_transaction(db, Condemnable.BLOB, str(index.digest))
            db.executemany(
                "INSERT OR IGNORE INTO indexes VALUES (?, ?)",
                [(str(index.digest), str(image.manifest_digest)) for image in index.images],
            )

    def _rows(self, digest: Digest) -> int:
        row = self._metadata.one("SELECT count(*) FROM indexes WHERE digest = ?", str(digest))
        return int(str(row[0])) if row else 0


def with_images(
    stored: StoredIndex, images: Sequence[StoredImage], blobs: Blobs, *, docker_types: bool = False
) -> Index:
    """The index with other forms of its images, such as other compressions. Annotations and platforms stay."""
    entries = []
    for entry, image in zip(stored.index.manifests, images, strict=True):
        size = blobs.size(image.manifest_digest) or 0
        entries.append(replace(entry, media_type=image.manifest.media_type, digest=image.manifest_digest, size=size))
    kind = MediaType.DOCKER_INDEX if docker_types else stored.index.media_type
    return replace(stored.index, manifests=tuple(entries), media_type=kind)


def _digests(images: Iterable[StoredImage]) -> set[Digest]:
    return {image.manifest_digest for image in images}
