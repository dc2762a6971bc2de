"""Downloads: the content that a URL had when it was last requested, so that pybuild only asks for a newer version.

The table has the sha256 of each URL, because a URL can contain a password. The content is a blob that no image reaches:
gc removes it, and the row with it.
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
    """The content of a URL, and the headers that identify its version; a header is "" if the server sent none."""

    digest: Digest
    etag: str
    last_modified: str


class Downloads:
    """The downloads of a store."""

    def __init__(self, metadata: Metadata, blobs: Blobs) -> None:
        self._metadata = metadata
        self._blobs = blobs

    def find(self, url: str) -> Downloaded | None:
        """The last download of a URL, if the store still has its blob."""
        row = self._metadata.one("SELECT digest, etag, last_modified FROM downloads WHERE url = ?", _key(url))
        if row is None:
            return None
        downloaded = Downloaded(Digest.parse(str(row[0])), str(row[1]), str(row[2]))
        return downloaded if self._blobs.has(downloaded.digest) else None

    def put(self, url: str, downloaded: Downloaded) -> None:
        """Record the content of a URL. Its blob has to be in the store already."""
        with self._metadata.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?)",
                (_key(url), str(downloaded.digest), downloaded.etag, downloaded.last_modified),
            )


def _key(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
