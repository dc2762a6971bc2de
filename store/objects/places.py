"""Where blobs of layers can be had: the repositories of registries that had them, and directories with a cache.

A layer of a pulled image can be *elsewhere*: the store knows its digest, size and diff_id from the image (the table
`claims`), and fetches the blob when a step or an output needs its bytes. A place is a hint and proves nothing: whoever
fetches a blob checks its digest, and another image can have removed it from the registry meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.database import Metadata

_DIRECTORY = "oci:"  # before the path of an OCI layout, in the column of the repository

# SQL: of a row with a digest, whether the store can have the blob.
OBTAINABLE = "(digest IN (SELECT digest FROM blobs) OR digest IN (SELECT digest FROM places))"


class Places:
    """The places of blobs, by digest."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._seen: dict[str, set[Digest]] = {}  # repository -> what `add` was told

    def add(self, digests: Iterable[Digest], name: Reference, now: int) -> None:
        """Remember that the repository of an image's name had these blobs at `now` (seconds since the epoch).

        The tag, if the name has one, is only for messages. Nothing happens in a store in which nothing can be written.
        """
        digests = list(digests)
        self._seen.setdefault(f"{name.domain}/{name.path}", set()).update(digests)
        if self._metadata.obstacle is not None:
            return
        with self._metadata.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)",
                [(str(digest), f"{name.domain}/{name.path}", name.tag or "", now) for digest in digests],
            )

    def seen_in(self, name: Reference) -> AbstractSet[Digest]:
        """The blobs that the repository of this name had since this process has opened the store."""
        return self._seen.get(f"{name.domain}/{name.path}", set())

    def add_directory(self, digests: Iterable[Digest], path: str, now: int) -> None:
        """Remember that the OCI layout in a directory had these blobs at `now`. `path` is absolute."""
        if self._metadata.obstacle is not None:
            return
        with self._metadata.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)",
                [(str(digest), _DIRECTORY + path, "", now) for digest in digests],
            )

    def directories(self, digest: Digest) -> tuple[str, ...]:
        """The directories whose OCI layouts had a blob, the one seen last first."""
        rows = self._metadata.all(
            "SELECT repository FROM places WHERE digest = ? AND repository LIKE 'oci:%' ORDER BY seen DESC, repository",
            str(digest),
        )
        return tuple(str(row[0]).removeprefix(_DIRECTORY) for row in rows)

    def only_in_directories(self, digests: Iterable[Digest]) -> set[str]:
        """Those of the blobs that no repository of a registry is known to have, but a directory."""
        return {str(digest) for digest in digests if not self.of(digest) and self.directories(digest)}

    def of(self, digest: Digest) -> tuple[Reference, ...]:
        """The repositories that had a blob, as names: of images that were pulled first, and of these the one seen last."""
        rows = self._metadata.all(
            "SELECT repository, tag FROM places WHERE digest = ? AND repository NOT LIKE 'oci:%'"
            " ORDER BY tag = '', seen DESC, repository",
            str(digest),
        )
        return tuple(replace(Reference.parse(str(repository)), tag=str(tag) or None) for repository, tag in rows)
