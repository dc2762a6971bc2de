"""The tables of changesets, of their three forms (table of contents, tree, tar), and of the snapshots that stack them.

A changeset is the difference that one step made. It has a toc from the start. Its tree and its tar are made when a
build needs them, each from the other.

A pulled layer is the exception. Until a build reads it, it has no toc, and its diff_id is only what the image claims.
It then serves that image alone: if the store trusted the claimed diff_id, a registry could replace the layer of another
image. Such a changeset is called unread.

The rooms layers/ and formats/ make and read the forms; they know no tables and need no store.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import NotFound, StoreError
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.view import View
from pybuild.store.objects.condemned import Condemnable, spare
from pybuild.store.objects.database import NEW_TABLES, number
from pybuild.store.objects.identity import identity_of
from pybuild.store.objects.parts import TOCS, TREES
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pybuild.store.formats.toc import Entry
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.database import Metadata

# A tree is this subdirectory of its directory: root of an image can own the tree, and only the owner of a directory
# can rename it.
TREE = "fs"
_BY_CHAIN = (
    "SELECT snapshot, EXISTS (SELECT 1 FROM condemned WHERE kind = 'snapshot' AND key = CAST(snapshot AS TEXT))"
    " FROM chains WHERE chain_id = ?"
)
# Of a row of `tars`: whether the store has a blob of it. gc can have removed the last one.
_HAS_BLOB = "EXISTS (SELECT 1 FROM layer_blobs WHERE layer_blobs.diff_id = tars.diff_id)"
_NO_CLAMP = -(1 << 62)  # tars.clamp of a tar without a clamp


@frozen
class LayerBlob:
    """One blob of a layer. A layer can have several, with different compressions."""

    diff_id: Digest
    digest: Digest
    size: int  # bytes, as stored
    compression: Compression


class Changesets:
    """The changesets of a store, by id (16 hex digits, never used twice)."""

    def __init__(self, root: str, metadata: Metadata, blobs: Blobs) -> None:
        self._tocs = TOCS.path(root)
        self.trees_directory = TREES.path(root)
        self._metadata = metadata
        self._blobs = blobs
        self._read_elsewhere: dict[str, str] = {}  # changeset -> its toc, if nothing can be written to the store

    def add(self, entries: Iterable[Entry], scratch: str) -> str:
        """Store a new changeset with these sorted entries; return its id. `scratch` is an unused path in an ingest."""
        return self.adopt(Toc.write(scratch, entries))

    def adopt(self, toc_path: str) -> str:
        """Store a new changeset with this toc file, which is moved; return its id."""
        changeset = os.urandom(8).hex()
        with self._metadata.transaction() as db:
            os.rename(toc_path, self.toc_path(changeset))
            db.execute("INSERT INTO changesets VALUES (?, ?)", (changeset, self._metadata.boot))
            db.execute("INSERT INTO tocs VALUES (?, ?)", (changeset, self._metadata.boot))
        return changeset

    def adopt_with_tree(self, toc_path: str, id_map: str, directory: str) -> str:
        """`adopt` and `adopt_tree` in one transaction, because a changeset needs a tar or a tree.

        The toc can lack the digests of files. In that case no snapshot may stand on the changeset before `replace_toc`.
        """
        changeset, name = os.urandom(8).hex(), os.urandom(8).hex()
        boot = self._metadata.boot
        with self._metadata.transaction() as db:
            os.rename(toc_path, self.toc_path(changeset))
            os.rename(directory, f"{self.trees_directory}/{name}")
            db.execute("INSERT INTO changesets VALUES (?, ?)", (changeset, boot))
            db.execute("INSERT INTO tocs VALUES (?, ?)", (changeset, boot))
            self._insert_tree(db, name, changeset, id_map)
        return changeset

    def replace_toc(self, changeset: str, toc_path: str) -> None:
        """Replace the toc by one with the digests of all files. No snapshot may stand on the changeset yet."""
        with self._metadata.transaction() as db:
            os.rename(toc_path, self.toc_path(changeset))
            for table in ("changesets", "tocs"):  # another process might have sealed the old file
                db.execute(f"UPDATE {table} SET boot = ? WHERE id = ?", (self._metadata.boot, changeset))

    def add_unread(self, blob: LayerBlob) -> str:
        """Store a new unread changeset: a blob and the diff_id that its image claims; return its id."""
        changeset = os.urandom(8).hex()
        with self._metadata.transaction() as db:
            db.execute("INSERT INTO changesets VALUES (?, ?)", (changeset, self._metadata.boot))
            db.execute(
                "INSERT INTO unread VALUES (?, ?, ?, ?)",
                (changeset, str(blob.diff_id), str(blob.digest), blob.compression.value),
            )
        return changeset

    def unread_blob(self, changeset: str) -> LayerBlob | None:
        """The blob of an unread changeset; None if the changeset has a toc."""
        row = self._metadata.one(
            "SELECT diff_id, digest, size, compression FROM unread JOIN blobs USING (digest)"
            " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM tocs WHERE tocs.id = unread.id)",
            changeset,
        )
        if row is None or changeset in self._read_elsewhere:
            return None
        diff_id, digest, size, compression = row
        return LayerBlob(Digest.parse(str(diff_id)), Digest.parse(str(digest)), number(size), _compression(compression))

    def mark_read(self, changeset: str, toc_path: str) -> None:
        """Give an unread changeset its toc, after its blob was read and has the claimed diff_id.

        If another process has done that meanwhile, its toc counts, which can be sealed already. If nothing can be written
        to the store, this process uses the toc where it is.
        """
        if self._metadata.obstacle is not None:
            self._read_elsewhere[changeset] = toc_path
            return
        with self._metadata.transaction() as db:
            if self._metadata.one("SELECT 1 FROM tocs WHERE id = ?", changeset) is None:
                os.rename(toc_path, self.toc_path(changeset))
            db.execute("INSERT OR IGNORE INTO tocs VALUES (?, ?)", (changeset, self._metadata.boot))
            db.execute(
                "INSERT OR IGNORE INTO tars SELECT id, ?, diff_id FROM unread WHERE id = ?", (_NO_CLAMP, changeset)
            )
            db.execute(
                "INSERT OR IGNORE INTO layer_blobs SELECT diff_id, digest, compression FROM unread WHERE id = ?",
                (changeset,),
            )

    def toc(self, changeset: str) -> Toc:
        """The table of contents. Raises NotFound, or InvalidImage if its file is damaged."""
        try:
            return Toc.open(self.toc_path(changeset))
        except FileNotFoundError:
            raise NotFound(
                f"table of contents {changeset} is missing", hint="pybuild fsck lists what else is damaged"
            ) from None

    def tree_name(self, changeset: str, id_map: str) -> str | None:
        """The name in `trees_directory` of the tree that was made under this id map; None if there is none.

        A suspect tree does not count.
        """
        name, is_suspect = self._find_tree(changeset, id_map)
        return None if is_suspect else name

    def suspect_tree(self, changeset: str, id_map: str) -> str | None:
        """The name of a tree that must not be used before it is compared: its directory is a copy, or missing."""
        name, is_suspect = self._find_tree(changeset, id_map)
        return name if is_suspect else None

    def trust_tree(self, name: str) -> None:
        """Use a suspect tree: it was compared with the table of contents."""
        with self._metadata.transaction() as db:
            db.execute("UPDATE trees SET identity = ? WHERE id = ?", (identity_of(self.tree_path(name)), name))

    def drop_tree(self, name: str) -> None:
        """Forget a tree. gc removes its files."""
        with self._metadata.transaction() as db:
            db.execute("DELETE FROM trees WHERE id = ?", (name,))

    def adopt_tree(self, changeset: str, id_map: str, path: str) -> str:
        """Store a directory whose subdirectory TREE is a finished tree; return its name in `trees_directory`.

        If another process has stored one meanwhile, that one counts, and the directory stays in the ingest directory.
        Raises NotFound if the changeset was removed.
        """
        name = os.urandom(8).hex()
        with self._metadata.transaction() as db:
            winner = self.tree_name(changeset, id_map)
            if winner is not None:
                return winner
            if self._metadata.one("SELECT 1 FROM changesets WHERE id = ?", changeset) is None:
                raise NotFound(f"changeset {changeset} was removed")
            os.rename(path, f"{self.trees_directory}/{name}")
            db.execute("DELETE FROM trees WHERE changeset = ? AND id_map = ?", (changeset, id_map))  # a suspect one
            self._insert_tree(db, name, changeset, id_map)
        return name

    def _find_tree(self, changeset: str, id_map: str) -> tuple[str | None, bool]:
        row = self._metadata.one("SELECT id, identity FROM trees WHERE changeset = ? AND id_map = ?", changeset, id_map)
        if row is None:
            return None, False
        return str(row[0]), identity_of(self.tree_path(str(row[0]))) != row[1] or not row[1]

    def _insert_tree(self, db: sqlite3.Connection, name: str, changeset: str, id_map: str) -> None:
        values = (name, changeset, id_map, self._metadata.boot, identity_of(self.tree_path(name)))
        db.execute("INSERT INTO trees (id, changeset, id_map, boot, identity) VALUES (?, ?, ?, ?, ?)", values)

    def diff_id(self, changeset: str, clamp: int | None) -> Digest | None:
        """The diff_id of the changeset's tar with this clamp; None if the store has no blob of it."""
        row = self._metadata.one(
            f"SELECT diff_id FROM tars WHERE changeset = ? AND clamp = ? AND {_HAS_BLOB}",
            changeset,
            _NO_CLAMP if clamp is None else clamp,
        )
        return Digest.parse(str(row[0])) if row else None

    def clamp_of(self, changeset: str, diff_id: Digest) -> int | None:
        """The clamp of the changeset's tar with this diff_id: the newest time of its files. None: it has no clamp."""
        row = self._metadata.one(
            "SELECT clamp FROM tars WHERE changeset = ? AND diff_id = ? ORDER BY clamp", changeset, str(diff_id)
        )
        return None if row is None or row[0] == _NO_CLAMP else number(row[0])

    def add_tar(self, changeset: str, clamp: int | None, blob: LayerBlob) -> None:
        """Record that a stored blob is a form of this changeset's tar. Idempotent."""
        with self._metadata.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO tars VALUES (?, ?, ?)",
                (changeset, _NO_CLAMP if clamp is None else clamp, str(blob.diff_id)),
            )
            self.add_blob(blob)

    def drop_empty_tars(self) -> None:
        """Forget tars without a blob. Nothing else refers to them; the next build makes them again."""
        with self._metadata.transaction() as db:
            db.execute(f"DELETE FROM tars WHERE NOT {_HAS_BLOB}")

    def add_blob(self, blob: LayerBlob) -> None:
        """Record one more blob of a layer. Idempotent."""
        with self._metadata.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO layer_blobs VALUES (?, ?, ?)",
                (str(blob.diff_id), str(blob.digest), blob.compression.value),
            )

    def blobs_of(self, diff_id: Digest) -> list[LayerBlob]:
        """All stored blobs of a layer, in a fixed order."""
        rows = self._metadata.all(
            "SELECT digest, size, compression FROM layer_blobs JOIN blobs USING (digest) WHERE diff_id = ? ORDER BY digest",
            str(diff_id),
        )
        return [LayerBlob(diff_id, Digest.parse(str(d)), number(size), _compression(c)) for d, size, c in rows]

    def any_blob(self, changeset: str) -> LayerBlob | None:
        """Any stored blob of this changeset, to make its tree from it or to read a file in it; None if it has none."""
        for (diff_id,) in self._metadata.all("SELECT diff_id FROM tars WHERE changeset = ? ORDER BY clamp", changeset):
            for blob in self.blobs_of(Digest.parse(str(diff_id))):
                return blob
        return None

    def tars(self, changeset: str) -> list[tuple[LayerBlob, int | None]]:
        """All stored blobs of this changeset, each with the clamp of its tar."""
        rows = self._metadata.all("SELECT clamp, diff_id FROM tars WHERE changeset = ? ORDER BY clamp", changeset)
        return [
            (blob, self.clamp_value(clamp))
            for clamp, diff_id in rows
            for blob in self.blobs_of(Digest.parse(str(diff_id)))
        ]

    @staticmethod
    def clamp_value(column: object) -> int | None:
        """The clamp in a row of `tars`; None: the tar has none."""
        return None if column == _NO_CLAMP else number(column)

    def tree_path(self, name: str) -> str:
        """The root directory of the tree with this name."""
        return f"{self.trees_directory}/{name}/{TREE}"

    def toc_path(self, changeset: str) -> str:
        """The file with the table of contents."""
        return self._read_elsewhere.get(changeset) or f"{self._tocs}/{changeset}"


class Snapshots:
    """The snapshots of a store: each is a changeset on a parent snapshot. A snapshot never changes."""

    def __init__(self, metadata: Metadata, changesets: Changesets) -> None:
        self._metadata = metadata
        self._changesets = changesets

    def add(self, parent: int | None, changeset: str) -> int:
        """Store a new snapshot; return its id."""
        with self._metadata.transaction() as db:
            cursor = db.execute("INSERT INTO snapshots (parent, changeset) VALUES (?, ?)", (parent, changeset))
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def parent(self, snapshot: int) -> int | None:
        """The snapshot below; None for the lowest one. Raises NotFound."""
        row = self._metadata.one("SELECT parent FROM snapshots WHERE id = ?", snapshot)
        if row is None:
            raise NotFound(f"snapshot {snapshot} was removed")
        return None if row[0] is None else number(row[0])

    def changesets(self, snapshot: int | None) -> list[str]:
        """The changesets of a snapshot and of all snapshots below it, the topmost first."""
        rows = self._metadata.all(
            "WITH RECURSIVE chain (id, parent, changeset, depth) AS ("
            " SELECT id, parent, changeset, 0 FROM snapshots WHERE id = ?"
            " UNION ALL SELECT s.id, s.parent, s.changeset, depth + 1 FROM snapshots s JOIN chain ON s.id = chain.parent"
            ") SELECT changeset FROM chain ORDER BY depth",
            snapshot,
        )
        return [str(row[0]) for row in rows]

    def required_id_maps(self, snapshot: int) -> frozenset[str] | None:
        """The id maps under which the files of a snapshot's own changeset can be read; None: any, because it has a tar.

        A changeset without a tar has trees only, and the files of a tree belong to the ids of the map it was made
        under.
        """
        rows = self._metadata.all(
            "SELECT id_map FROM snapshots s LEFT JOIN trees t USING (changeset) WHERE s.id = ?"
            " AND NOT EXISTS (SELECT 1 FROM tars WHERE tars.changeset = s.changeset AND " + _HAS_BLOB + ")"
            " AND NOT EXISTS (SELECT 1 FROM unread WHERE unread.id = s.changeset)",
            snapshot,
        )
        return frozenset(str(row[0]) for row in rows if row[0] is not None) if rows else None

    def top_toc(self, snapshot: int) -> Toc:
        """The table of contents of a snapshot's own changeset. Raises NotFound."""
        row = self._metadata.one("SELECT changeset FROM snapshots WHERE id = ?", snapshot)
        if row is None:
            raise NotFound(f"snapshot {snapshot} was removed")
        return self._changesets.toc(str(row[0]))

    def view(self, snapshot: int | None) -> View:
        """The root filesystem of a snapshot, merged from tables of contents."""
        return View([self._changesets.toc(changeset) for changeset in self.changesets(snapshot)])

    def by_chain(self, chain_id: Digest | str) -> int | None:
        """The snapshot of the layers with this chain ID, or this name if they are unread. Spares a condemned one."""
        row = self._metadata.one(_BY_CHAIN, str(chain_id))
        if row and row[1]:
            spare(self._metadata, Condemnable.SNAPSHOT, str(row[0]))
            row = self._metadata.one(_BY_CHAIN, str(chain_id))
        return number(row[0]) if row else None

    def set_chain(self, chain_id: Digest | str, snapshot: int) -> int:
        """Record the chain ID of a snapshot; return the snapshot that counts: the first one that got this chain ID."""
        with self._metadata.transaction() as db:
            db.execute("INSERT OR IGNORE INTO chains VALUES (?, ?)", (str(chain_id), snapshot))
        known = self.by_chain(chain_id)
        assert known is not None
        return known


def _compression(value: object) -> Compression:
    try:
        return Compression(value)
    except ValueError:
        raise StoreError(
            f"the store's tables are damaged: {str(value)[:80]!r} is no compression", hint=NEW_TABLES
        ) from None
