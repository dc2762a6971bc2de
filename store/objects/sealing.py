"""Sealing: a sealed row describes bytes that survive a power cut.

If few files are unsealed, each is written to the disk with fsync(2). A base image is the typical case: one blob of 50
MB is synced, and the thousands of files of its tree are not, because the tree can be made from the blob again. If many
files are unsealed, one syncfs(2) costs less than a hundred fsync(2), and covers the trees as well.

The first process after another boot checks what is not sealed. A blob that matches its digest and a table of contents
with correct checksums were not lost, and are sealed then. An unsealed tree cannot be checked and is dropped. After a
mere restart only trees have to be made again; after a power cut also the files that the disk lost.

A tree without a tar cannot be made again. A seal therefore waits for such a tree. If one is unsealed at the next boot,
it is dropped with everything that stands on it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.parts import BLOBS, CACHE_MOUNTS, CHANGESETS, SEALED, TOCS, TREES
from pybuild.store.objects.places import OBTAINABLE
from pybuild.store.system.syscalls import syncfs

if TYPE_CHECKING:
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.changesets import Changesets
    from pybuild.store.objects.database import Metadata
    from pybuild.store.objects.parts import Part

_FSYNC_LIMIT = 16  # files; for more than these one syncfs is faster
_CHUNK = 1 << 20
_STALE = "boot IS NOT NULL AND boot != ?"  # of an unsealed row from an earlier boot
_HAS_TAR = (
    "changeset IN (SELECT changeset FROM tars UNION SELECT changeset FROM claims)"  # of a tree that can be made again
)


class Sealer:
    """Seals the rows of one store."""

    def __init__(self, root: str, metadata: Metadata, blobs: Blobs, changesets: Changesets) -> None:
        self._root = root
        self._metadata = metadata
        self._blobs = blobs
        self._changesets = changesets

    def seal(self) -> None:
        """Seal everything except trees that can be made again; those might be sealed too.

        Raises OSError if the disk lost something.
        """
        pending = {part: self._unsealed(part) for part in SEALED if part is not TREES}
        irreplaceable = self._keys(TREES, f"boot = ? AND NOT {_HAS_TAR}", self._metadata.boot)
        if irreplaceable or pending[CACHE_MOUNTS] or len(pending[BLOBS]) + len(pending[TOCS]) > _FSYNC_LIMIT:
            self.seal_all()
            return
        blobs = [self._blobs.path(Digest.parse(key)) for key in pending[BLOBS]]
        tocs = [self._changesets.toc_path(key) for key in pending[TOCS]]
        for path in (*blobs, *tocs, *sorted({os.path.dirname(path) for path in (*blobs, *tocs)})):
            _fsync(path)
        self._mark(pending)

    def seal_all(self) -> None:
        """Seal everything. Raises OSError if the disk lost something."""
        pending = {part: self._unsealed(part) for part in SEALED}
        if any(pending.values()):
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)
            self._mark(pending)

    def recover(self) -> None:
        """After another boot, seal the unsealed objects that are whole and drop the others. Raises StoreError."""
        boot = self._metadata.boot
        stale = {part: self._keys(part, _STALE, boot) for part in SEALED}
        if not any(stale.values()):
            return
        whole = {
            BLOBS: [key for key in stale[BLOBS] if self._is_whole(Digest.parse(key))],
            TOCS: [key for key in stale[TOCS] if self._is_readable(key)],
        }
        with self._metadata.durable_transaction() as db:
            for part, keys in whole.items():
                db.executemany(
                    f"UPDATE {part.table} SET boot = NULL WHERE {part.key} = ? AND {_STALE}",
                    [(key, boot) for key in keys],
                )
            for part in SEALED:
                if part.directory:
                    db.execute(f"DELETE FROM {part.table} WHERE {_STALE}", (boot,))
            db.execute("DELETE FROM tars WHERE diff_id NOT IN (SELECT diff_id FROM layer_blobs)")
            db.execute(f"DELETE FROM claims WHERE NOT {OBTAINABLE}")
            # A claimed layer can be read again from its blob, which can be fetched again. Any other changeset needs its table of
            # contents, and a tar or a tree, because neither of these can be made from the table of contents.
            db.execute(
                "DELETE FROM changesets WHERE (boot IS NULL OR boot != ?) AND id NOT IN (SELECT changeset FROM claims) AND"
                " (id NOT IN (SELECT id FROM tocs) OR id NOT IN (SELECT changeset FROM tars UNION SELECT changeset FROM trees))",
                (boot,),
            )
            db.execute(f"UPDATE {CHANGESETS.table} SET boot = NULL WHERE {_STALE}", (boot,))

    def _is_whole(self, digest: Digest) -> bool:
        try:
            with self._blobs.open(digest) as reader:
                while reader.read(_CHUNK):
                    pass
        except (OSError, StoreError):
            return False
        return True

    def _is_readable(self, changeset: str) -> bool:
        try:
            for _ in self._changesets.toc(changeset):
                pass
        except (OSError, StoreError):
            return False
        return True

    def _mark(self, written: dict[Part, list[str]]) -> None:
        if any(written.values()):
            with self._metadata.durable_transaction() as db:
                for part, keys in written.items():
                    db.executemany(
                        f"UPDATE {part.table} SET boot = NULL WHERE {part.key} = ?", [(key,) for key in keys]
                    )

    def _unsealed(self, part: Part) -> list[str]:
        # Before a snapshot stands on a changeset, its toc can be replaced, even between the fsync and the mark.
        has_snapshot = (
            f" AND EXISTS (SELECT 1 FROM snapshots WHERE snapshots.changeset = {part.table}.id)"
            if part in (CHANGESETS, TOCS)
            else ""
        )
        return self._keys(part, "boot = ?" + has_snapshot, self._metadata.boot)

    def _keys(self, part: Part, condition: str, *values: object) -> list[str]:
        query = f"SELECT {part.key} FROM {part.table} WHERE {condition}"
        return [str(row[0]) for row in self._metadata.all(query, *values)]


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
