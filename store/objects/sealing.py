"""Sealing: from then on what the tables say survives a power cut.

Where few files are not sealed yet they are written to the disk one by one. The layers of a base are a good example: one blob
of 50 MB, whose tree of thousands of files can be made from it again, and need not be waited for. Where they are many, one
syncfs(2) costs less than a hundred fsync(2), and covers the trees as well.

What is not sealed at the next boot is looked at: a blob whose bytes are those of its digest, or a table of contents with
right checksums, was not lost, and is sealed then. A machine that is merely restarted loses nothing but trees, which cannot be
told to be whole, and has them made again; a power cut takes what it took.
Where there is a tree and no tar, nothing can be made again from anything: a seal waits for such a tree, and one that was not
sealed goes at the next boot, with all that stands on it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.database import SEALABLE
from pybuild.store.system.syscalls import syncfs

if TYPE_CHECKING:
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.changesets import Changesets
    from pybuild.store.objects.database import Metadata

_FEW = 16  # files
_CHUNK = 1 << 20
_KEYS = {"blobs": "digest", **dict.fromkeys(("changesets", "tocs", "trees", "cachemounts"), "id")}
_STALE = "boot IS NOT NULL AND boot != ?"
_AGAIN = "changeset IN (SELECT changeset FROM tars UNION SELECT id FROM unread)"  # of a tree that can be made again


class Sealer:
    """Seals what is in one store."""

    def __init__(self, root: str, metadata: Metadata, blobs: Blobs, changesets: Changesets) -> None:
        self._root = root
        self._metadata = metadata
        self._blobs = blobs
        self._changesets = changesets

    def seal(self) -> None:
        """Seal everything but trees that can be made again, and perhaps those too. Raises OSError when the disk lost something."""
        pending = {table: self._unsealed(table) for table in SEALABLE if table != "trees"}
        only = self._keys("trees", f"boot = ? AND NOT {_AGAIN}", self._metadata.boot)
        if only or pending["cachemounts"] or len(pending["blobs"]) + len(pending["tocs"]) > _FEW:
            self.seal_all()
            return
        blobs = [self._blobs.path(Digest.parse(key)) for key in pending["blobs"]]
        tocs = [self._changesets.toc_path(key) for key in pending["tocs"]]
        for path in (*blobs, *tocs, *sorted({os.path.dirname(path) for path in (*blobs, *tocs)})):
            _fsync(path)
        self._mark(pending)

    def seal_all(self) -> None:
        """Seal everything. Raises OSError when the disk lost something."""
        pending = {table: self._unsealed(table) for table in SEALABLE}
        if any(pending.values()):
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)
            self._mark(pending)

    def recover(self) -> None:
        """After another boot: seal what is there, forget what is not. Raises StoreError where the tables refuse."""
        boot = self._metadata.boot
        stale = {table: self._keys(table, _STALE, boot) for table in SEALABLE}
        if not any(stale.values()):
            return
        whole = {
            "blobs": [key for key in stale["blobs"] if self._is_whole(Digest.parse(key))],
            "tocs": [key for key in stale["tocs"] if self._is_readable(key)],
        }
        with self._metadata.durable_transaction() as db:
            for table, keys in whole.items():
                column = _KEYS[table]
                db.executemany(
                    f"UPDATE {table} SET boot = NULL WHERE {column} = ? AND {_STALE}", [(k, boot) for k in keys]
                )
            for table in ("blobs", "tocs", "trees", "cachemounts"):
                db.execute(f"DELETE FROM {table} WHERE {_STALE}", (boot,))
            db.execute("DELETE FROM tars WHERE diff_id NOT IN (SELECT diff_id FROM layer_blobs)")
            # Without its table of contents a layer can be read again from its blob, if that came with an image. Else it
            # takes that and a tar or a tree, as one cannot be made from the other.
            db.execute(
                "DELETE FROM changesets WHERE (boot IS NULL OR boot != ?) AND id NOT IN (SELECT id FROM unread) AND"
                " (id NOT IN (SELECT id FROM tocs) OR id NOT IN (SELECT changeset FROM tars UNION SELECT changeset FROM trees))",
                (boot,),
            )
            db.execute(f"UPDATE changesets SET boot = NULL WHERE {_STALE}", (boot,))

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

    def _mark(self, sealed: dict[str, list[str]]) -> None:
        if any(sealed.values()):
            with self._metadata.durable_transaction() as db:
                for table, keys in sealed.items():
                    db.executemany(f"UPDATE {table} SET boot = NULL WHERE {_KEYS[table]} = ?", [(key,) for key in keys])

    def _unsealed(self, table: str) -> list[str]:
        # The toc of a changeset that nothing stands on yet may still be replaced, between its fsync and the mark.
        stood_upon = (
            " AND EXISTS (SELECT 1 FROM snapshots WHERE changeset = id)" if table in ("changesets", "tocs") else ""
        )
        return self._keys(table, "boot = ?" + stood_upon, self._metadata.boot)

    def _keys(self, table: str, condition: str, *values: object) -> list[str]:
        return [
            str(row[0]) for row in self._metadata.all(f"SELECT {_KEYS[table]} FROM {table} WHERE {condition}", *values)
        ]


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
