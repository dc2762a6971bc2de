"""What URLs had when they were last asked: so that they are asked for anything newer only.

A URL is known by its digest, because a password may be in it. The content is a blob, which no image needs: gc removes it,
and with it the row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pybuild.store.formats.digest import Digest
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.database import Metadata


@frozen
class Downloaded:
    """The content of a URL, and the headers by which its server knows the version; "" where there was none."""

    digest: Digest
    etag: str
    last_modified: str


class Downloads:
    """The downloads of a store."""

    def __init__(self, metadata: Metadata, blobs: Blobs) -> None:
        self._metadata = metadata
        self._blobs = blobs

    def find(self, url: str) -> Downloaded | None:
        """What the URL had, if all of it is here."""
        row = self._metadata.one("SELECT digest, etag, last_modified FROM downloads WHERE url = ?", _key(url))
        if row is None:
            return None
        found = Downloaded(Digest.parse(str(row[0])), str(row[1]), str(row[2]))
        return found if self._blobs.has(found.digest) else None

    def put(self, url: str, found: Downloaded) -> None:
        """Keep what a URL has now; its blob is there."""
        with self._metadata.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?)",
                (_key(url), str(found.digest), found.etag, found.last_modified),
            )


def _key(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
