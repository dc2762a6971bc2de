"""Images: a manifest with its config, found by name or digest. names.py has the names."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.condemned import Condemnable, is_condemned, spare, spare_in_transaction, spare_stack
from pybuild.store.objects.database import number
from pybuild.store.objects.names import Names, Tag
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    import sqlite3

    from pybuild.store.formats.platform import Platform
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.database import Metadata

_DIGEST_PREFIX = pattern(r"(sha256:)?[0-9a-f]{6,64}")


@frozen
class StoredImage:
    """An image in the store. `snapshot` is that of its topmost layer; None if it has no layers."""

    manifest_digest: Digest
    manifest: Manifest
    config: ImageConfig
    snapshot: int | None
    config_digest: Digest

    @property
    def platform(self) -> Platform:
        """What the config says, in the normal form, without the version of a Windows: a name has one image of each."""
        return self.config.platform.without_version

    @property
    def exact_platform(self) -> Platform:
        """The same, with the version and the features of a Windows: an index has one image of each."""
        return self.config.platform


class Images:
    """The images of a store."""

    def __init__(self, metadata: Metadata, blobs: Blobs) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._names = Names(metadata)

    def add(self, manifest: bytes, config: bytes, snapshot: int | None, scratch: tuple[str, str]) -> StoredImage:
        """Store an image whose layers are stored. Idempotent. `scratch` are two unused paths in an ingest directory."""
        parsed, parsed_config = Manifest.from_bytes(manifest), ImageConfig.from_bytes(config)
        check_image(parsed, parsed_config)
        if self._metadata.obstacle is not None and (known := Digest.of(manifest)) in self.all():
            return self.get(known)
        with self._metadata.transaction() as db:
            config_digest = self._blobs.put(config, scratch[0])
            digest = self._blobs.put(manifest, scratch[1])
            image = StoredImage(digest, parsed, parsed_config, snapshot, config_digest)
            keep_image(db, image)
        return image

    def get(self, digest: Digest) -> StoredImage:
        """The image with this manifest. Raises NotFound."""
        if is_condemned(self._metadata, Condemnable.IMAGE, str(digest)):
            spare(self._metadata, Condemnable.IMAGE, str(digest))
        row = self._metadata.one("SELECT config, snapshot FROM images WHERE manifest = ?", str(digest))
        if row is None:
            raise NotFound(f"no image {digest} in the store", hint="pybuild images lists the images")
        manifest = Manifest.from_bytes(self._blobs.read(digest, MANIFEST_BYTES))
        config_digest = Digest.parse(str(row[0]))
        config = ImageConfig.from_bytes(self._blobs.read(config_digest, CONFIG_BYTES))
        return StoredImage(digest, manifest, config, None if row[1] is None else number(row[1]), config_digest)

    def find(self, name: str, platform: Platform | None = None) -> StoredImage:
        """The image that the user means by a name, a digest, or the first hex digits (at least six) of a digest.

        Of a name with images for several platforms: the one for `platform`, without one the newest. Raises NotFound,
        and InvalidImage if the digits match several images.
        """
        return self.find_named(name, platform)[0]

    def find_named(self, name: str, platform: Platform | None = None) -> tuple[StoredImage, Reference | None]:
        """Like `find`, with the name in full; None if it was a digest."""
        if _DIGEST_PREFIX.fullmatch(name):
            prefix = name if name.startswith("sha256:") else f"sha256:{name}"
            rows = self._metadata.all(
                "SELECT DISTINCT manifest FROM images WHERE manifest LIKE ? OR config LIKE ? LIMIT 2",
                f"{prefix}%",
                f"{prefix}%",
            )
            if len(rows) == 1:
                return _require(self.get(Digest.parse(str(rows[0][0]))), name, platform), None
            if rows:
                raise InvalidImage(f"{name} matches several images", hint="give more digits")
            if len(name) == 64:  # a whole digest, which cannot be a name
                raise NotFound(f"no image {prefix} in the store", hint="pybuild images lists the images")
        reference = Reference.parse(name)
        digest = self.resolve(reference)
        if digest is not None and reference.digest is None and platform is not None:
            images = [self.get(tag.manifest) for tag in self._names.of(reference)]
            found = next((image for image in images if image.exact_platform.matches(platform)), None)
            if found is None:
                has = ", ".join(str(image.exact_platform) for image in images)
                raise NotFound(f"{reference.familiar} has no image for {platform}", hint=f"it has one for {has}")
            digest = found.manifest_digest
        if digest is None:
            raise NotFound(
                f"no image {reference.with_default_tag().familiar} in the store", hint="pybuild images lists the images"
            )
        return _require(self.get(digest), name, platform), None if reference.digest else reference.with_default_tag()

    def tags_of(self, reference: Reference) -> list[Tag]:
        """The tags of a name, one for each platform, the newest first."""
        return self._names.of(reference)

    def history(self, reference: Reference) -> list[StoredImage]:
        """The images that a name has referred to since it was last removed, the newest first.

        A name that was pulled for several platforms has one for each.
        """
        rows = self._metadata.all(
            "SELECT manifest FROM tag_log WHERE name = ? ORDER BY id DESC LIMIT 100", str(reference.with_default_tag())
        )
        names = itertools.takewhile(lambda text: text is not None, (row[0] for row in rows))
        found = []
        for digest in dict.fromkeys(Digest.parse(str(text)) for text in names):
            with suppress(NotFound):
                found.append(self.get(digest))
        return found

    def resolve(self, reference: Reference) -> Digest | None:
        """The manifest that a name refers to, or None. A digest in the name can be that of an index that contains it."""
        if reference.digest is not None:
            row = self._metadata.one("SELECT manifest FROM images WHERE manifest = ?", str(reference.digest))
            if row:
                return reference.digest
        row = self._metadata.one(
            "SELECT manifest FROM tag_log WHERE name = ? ORDER BY id DESC LIMIT 1", str(reference.with_default_tag())
        )
        return Digest.parse(str(row[0])) if row and row[0] is not None else None

    def tag(self, names: list[Reference], image: StoredImage, now: int, recipe: str = "") -> None:
        """Give an image these names, in one transaction that is on the disk when this returns.

        Images of other platforms keep the names; one of the same platform loses them.

        `rmi` can have removed the image since this process found or made it. It then becomes an image again: the lease
        of this process keeps its blobs and its snapshot.
        """
        if self._metadata.obstacle is not None and all(self._is_meant(name, image) for name in names):
            return
        with self._metadata.durable_transaction() as db:
            keep_image(db, image)
            for name in names:
                if not self._is_meant(name, image):
                    full, platform = str(name.with_default_tag()), str(image.platform)
                    self._names.add(db, Tag(full, image.manifest_digest, now, platform, recipe))

    def untag(self, names: list[Reference], manifest: Digest, now: int, *, all_platforms: bool = False) -> list[Digest]:
        """Take names from an image, and remove the image if it has no other name; return the images that were removed.

        With `all_platforms` the names are taken from the images of other platforms too. All of it is one transaction
        that is on the disk when this returns. A name that refers to another image by now is left alone. The layers of
        an image stay as long as records of the build cache reach them.
        """
        with self._metadata.durable_transaction() as db:
            losing = {manifest: None}
            for name in names:
                tags = self._names.of(name)
                if all(tag.manifest != manifest for tag in tags):
                    continue
                others = [tag for tag in tags if tag.manifest != manifest]
                self._names.remove(db, name, now, () if all_platforms else others)
                if all_platforms:
                    losing.update((tag.manifest, None) for tag in others)
            named = {tag.manifest for tag in self.tags()}
            gone = [digest for digest in losing if digest not in named]
            db.executemany("DELETE FROM images WHERE manifest = ?", [(str(digest),) for digest in gone])
            return gone

    def _is_meant(self, name: Reference, image: StoredImage) -> bool:
        """Whether a name means this image, and not an index that has it."""
        tags = self._names.of(name)
        return bool(tags) and tags[0].manifest == image.manifest_digest and tags[0].part_of is None

    def tags(self) -> list[Tag]:
        """All current names, sorted; a name once for each platform, the newest image first."""
        return self._names.all()

    def all(self) -> list[Digest]:
        """The manifests of all images, with and without names."""
        return [
            Digest.parse(str(row[0])) for row in self._metadata.all("SELECT manifest FROM images ORDER BY manifest")
        ]


def keep_image(db: sqlite3.Connection, image: StoredImage) -> None:
    """Write the row of an image, unless it exists, and spare the image with everything that it reaches."""
    digest, config = str(image.manifest_digest), str(image.config_digest)
    db.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (digest, config, image.snapshot))
    spare_in_transaction(db, Condemnable.IMAGE, digest)
    for blob in (digest, config, *(str(layer.digest) for layer in image.manifest.layers)):
        spare_in_transaction(db, Condemnable.BLOB, blob)
    for (index,) in db.execute("SELECT digest FROM indexes WHERE manifest = ?", (digest,)):
        spare_in_transaction(db, Condemnable.BLOB, str(index))
    (snapshot,) = db.execute("SELECT snapshot FROM images WHERE manifest = ?", (digest,)).fetchone()
    spare_stack(db, snapshot)


def _require(image: StoredImage, name: str, platform: Platform | None) -> StoredImage:
    """The image, if it is for the platform. Raises NotFound."""
    if platform is not None and not image.exact_platform.matches(platform):
        raise NotFound(f"{name} is an image for {image.exact_platform}, not for {platform}")
    return image
