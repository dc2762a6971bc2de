"""Images and their names.

An image is a manifest with its config. A name is the last row of its log: nothing is ever overwritten, so the store
can tell what a tag meant before and which recipe moved it.
"""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import CONFIG_LIMIT, ImageConfig, check_image
from pybuild.store.formats.oci_manifest import MANIFEST_LIMIT, Manifest
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.condemned import Condemnable, is_condemned, spare, spare_in_transaction
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.database import Metadata

_SHORT = re.compile(r"(sha256:)?[0-9a-f]{6,64}")


@frozen
class StoredImage:
    """An image of the store. `snapshot` is the topmost of its layers; None where it has none."""

    manifest_digest: Digest
    manifest: Manifest
    config: ImageConfig
    snapshot: int | None


@frozen
class Tag:
    """A name, what it names, and when (in seconds since the epoch) it came to do so."""

    name: str
    manifest: Digest
    at: int


class Images:
    """The images of a store."""

    def __init__(self, metadata: Metadata, blobs: Blobs) -> None:
        self._metadata = metadata
        self._blobs = blobs

    def add(self, manifest: bytes, config: bytes, snapshot: int | None, scratch: tuple[str, str]) -> Digest:
        """Store an image whose layers are stored; return the manifest's digest. Idempotent."""
        check_image(Manifest.from_bytes(manifest), ImageConfig.from_bytes(config))
        config_digest = self._blobs.put(config, scratch[0])
        digest = self._blobs.put(manifest, scratch[1])
        with self._metadata.transaction() as db:
            db.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (str(digest), str(config_digest), snapshot))
            spare_in_transaction(db, Condemnable.IMAGE, str(digest))
        return digest

    def get(self, digest: Digest) -> StoredImage:
        """The image with this manifest. Raises NotFound."""
        if is_condemned(self._metadata, Condemnable.IMAGE, str(digest)):
            spare(self._metadata, Condemnable.IMAGE, str(digest))
        row = self._metadata.one("SELECT config, snapshot FROM images WHERE manifest = ?", str(digest))
        if row is None:
            raise NotFound(f"no image {digest} in the store", hint="pybuild images lists what is there")
        manifest = Manifest.from_bytes(self._blobs.read(digest, MANIFEST_LIMIT))
        config = ImageConfig.from_bytes(self._blobs.read(Digest.parse(str(row[0])), CONFIG_LIMIT))
        return StoredImage(digest, manifest, config, None if row[1] is None else int(str(row[1])))

    def find(self, name: str) -> StoredImage:
        """The image that a person means: a name, a digest, or at least six hex digits of one.

        Raises NotFound, and InvalidImage where a short digest fits several.
        """
        if _SHORT.fullmatch(name):
            prefix = name if name.startswith("sha256:") else f"sha256:{name}"
            rows = self._metadata.all(
                "SELECT DISTINCT manifest FROM images WHERE manifest LIKE ?1 || '%' OR config LIKE ?1 || '%' LIMIT 2",
                prefix,
            )
            if len(rows) == 1:
                return self.get(Digest.parse(str(rows[0][0])))
            if rows:
                raise InvalidImage(f"{name} fits several images", hint="give more digits")
        reference = Reference.parse(name)
        digest = self.resolve(reference)
        if digest is None:
            raise NotFound(
                f"no image {reference.with_default_tag().familiar} in the store",
                hint="pybuild images lists what is there",
            )
        return self.get(digest)

    def history(self, reference: Reference) -> list[StoredImage]:
        """The images that a name stands for or stood for since it was last taken away, the newest first: of one name,
        pulled for different platforms, each is there."""
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
        """The manifest that a name stands for in this store; the digest in a name may be that of an index around it."""
        if reference.digest is not None:
            row = self._metadata.one("SELECT manifest FROM images WHERE manifest = ?", str(reference.digest))
            if row:
                return reference.digest
        row = self._metadata.one(
            "SELECT manifest FROM tag_log WHERE name = ? ORDER BY id DESC LIMIT 1", str(reference.with_default_tag())
        )
        return Digest.parse(str(row[0])) if row and row[0] is not None else None

    def tag(self, names: list[Reference], manifest: Digest, now: int, recipe: str = "") -> None:
        """Let names stand for an image, all of them or, when this fails, none."""
        with self._metadata.durable_transaction() as db:
            for name in names:
                if self.resolve(name) != manifest:
                    db.execute(
                        "INSERT INTO tag_log (name, at, manifest, recipe) VALUES (?, ?, ?, ?)",
                        (str(name.with_default_tag()), now, str(manifest), recipe),
                    )

    def untag(self, name: Reference, now: int) -> Digest:
        """Take a name away; return what it stood for. Raises NotFound."""
        digest = self.resolve(name)
        if digest is None:
            raise NotFound(
                f"no image {name.with_default_tag().familiar} in the store", hint="pybuild images lists what is there"
            )
        with self._metadata.durable_transaction() as db:
            db.execute(
                "INSERT INTO tag_log (name, at, manifest, recipe) VALUES (?, ?, NULL, '')",
                (str(name.with_default_tag()), now),
            )
        return digest

    def remove(self, digest: Digest) -> None:
        """Forget an image that no name stands for. Its layers stay while the cache has a use for them."""
        if any(tag.manifest == digest for tag in self.tags()):
            return
        with self._metadata.durable_transaction() as db:
            db.execute("DELETE FROM images WHERE manifest = ?", (str(digest),))

    def tags(self) -> list[Tag]:
        """All names that stand for something, in order."""
        rows = self._metadata.all(
            "SELECT name, manifest, at FROM tag_log WHERE id IN (SELECT max(id) FROM tag_log GROUP BY name)"
            " AND manifest IS NOT NULL ORDER BY name"
        )
        return [Tag(str(name), Digest.parse(str(manifest)), int(str(at))) for name, manifest, at in rows]

    def all(self) -> list[Digest]:
        """Every image, named or not."""
        return [
            Digest.parse(str(row[0])) for row in self._metadata.all("SELECT manifest FROM images ORDER BY manifest")
        ]
