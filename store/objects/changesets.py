"""The tables of changesets and of their three forms: table of contents, tree, tar. snapshots.py stacks them.

A changeset is the difference that one step made. It has a toc from the start. Its tree and its tar are made when a
build needs them, each from the other.

A pulled layer is the exception. Until it is read, it has no toc, and its diff_id is only what the image claims. It then
serves that image alone: if the store trusted the claimed diff_id, a registry could replace the layer of another image.
Such a changeset is called unread. What the image says about it stays in the table `claims`. Its blob can be elsewhere:
places.py.

The rooms layers/ and formats/ make and read the forms; they know no tables and need no store.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import NotFound, StoreError
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.toc import Toc
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
# Of a row of `tars`: whether the store has a blob of it. gc can have removed the last one.
HAS_BLOB = "EXISTS (SELECT 1 FROM layer_blobs WHERE layer_blobs.diff_id = tars.diff_id)"
_NO_CLAMP = -(1 << 62)  # tars.clamp of a tar without a clamp
# Of layers that were read: the claim is true, and a stored blob of its digest is a form of the layer.
_TRUST_CLAIMS = (
    "INSERT OR IGNORE INTO layer_blobs SELECT diff_id, digest, compression FROM claims JOIN blobs USING (digest)"
    " WHERE changeset IN (SELECT id FROM tocs)"
)


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
        self._read_without_row: dict[str, str] = {}  # changeset -> its toc, if nothing can be written to the store

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

    def add_claimed(self, blob: LayerBlob, clamp: int | None = None) -> str:
        """Store a new unread changeset: what its image claims of it. The blob can be elsewhere. Returns its id.

        `clamp` is the newest time of its files; None: not known.
        """
        changeset = os.urandom(8).hex()
        with self._metadata.transaction() as db:
            db.execute("INSERT INTO changesets VALUES (?, ?)", (changeset, self._metadata.boot))
            db.execute(
                "INSERT INTO claims (changeset, diff_id, digest, size, compression, clamp) VALUES (?, ?, ?, ?, ?, ?)",
                (changeset, str(blob.diff_id), str(blob.digest), blob.size, blob.compression.value, clamp),
            )
        return changeset

    def unread(self, changeset: str) -> LayerBlob | None:
        """What is claimed of an unread changeset; None if the changeset has a toc. The blob can be elsewhere."""
        if self._metadata.one("SELECT 1 FROM tocs WHERE id = ?", changeset) or changeset in self._read_without_row:
            return None
        return self._claim(changeset)

    def absent_blob(self, changeset: str) -> LayerBlob | None:
        """The blob that a changeset has elsewhere; None if the store has a blob of it, or never had one."""
        return None if self.any_blob(changeset) is not None else self._claim(changeset)

    def absent_blobs(self) -> list[LayerBlob]:
        """The blobs of all layers that are elsewhere, each once, in a fixed order."""
        rows = self._metadata.all(
            "SELECT diff_id, digest, max(size), compression FROM claims c WHERE digest NOT IN (SELECT digest FROM blobs)"
            " AND NOT EXISTS (SELECT 1 FROM tars WHERE tars.changeset = c.changeset AND " + HAS_BLOB + ")"
            " GROUP BY digest ORDER BY digest"
        )
        return [_layer_blob(*row) for row in rows]

    def claimed(self, changeset: str, clamp: int | None) -> LayerBlob | None:
        """The layer as the image or cache has it that it came from, if no file in it is newer than `clamp`.

        A clamp with one time for all files is below all others, so no claim fits it.
        Its blob can be here or elsewhere. None if the layer was made here, or its times are not known.
        """
        if clamp is not None:
            row = self._metadata.one("SELECT clamp FROM claims WHERE changeset = ?", changeset)
            if row is None or row[0] is None or number(row[0]) > clamp:
                return None
        return self._claim(changeset)

    def claimed_table(self, changeset: str) -> str:
        """The digest of what was said of an unread layer and used, store/layers/claimed_table.py; "" if nothing was."""
        row = self._metadata.one("SELECT claimed_table FROM claims WHERE changeset = ?", changeset)
        return "" if row is None else str(row[0])

    def claim_table(self, changeset: str, digest: str) -> bool:
        """Remember what is said of an unread layer, before files are placed by it.

        False: it was read meanwhile, or something else was said of it before, which still has to be compared with the layer.
        """
        with self._metadata.transaction() as db:
            if self.unread(changeset) is None or self.claimed_table(changeset) not in ("", digest):
                return False
            db.execute("UPDATE claims SET claimed_table = ? WHERE changeset = ?", (digest, changeset))
        return True

    def belie_table(self, changeset: str) -> None:
        """Forget what was said of a layer: it holds something else. Whoever places files by it sees that."""
        with self._metadata.transaction() as db:
            db.execute("UPDATE claims SET claimed_table = '' WHERE changeset = ?", (changeset,))

    def _claim(self, changeset: str) -> LayerBlob | None:
        row = self._metadata.one("SELECT diff_id, digest, size, compression FROM claims WHERE changeset = ?", changeset)
        return None if row is None else _layer_blob(*row)

    def mark_read(self, changeset: str, toc_path: str) -> None:
        """Give an unread changeset its toc, after its blob was read and has the claimed diff_id.

        If another process has done that meanwhile, its toc counts, which can be sealed already. If nothing can be written
        to the store, this process uses the toc where it is.
        """
        if self._metadata.obstacle is not None:
            self._read_without_row[changeset] = toc_path
            return
        with self._metadata.transaction() as db:
            if self._metadata.one("SELECT 1 FROM tocs WHERE id = ?", changeset) is None:
                os.rename(toc_path, self.toc_path(changeset))
            db.execute("INSERT OR IGNORE INTO tocs VALUES (?, ?)", (changeset, self._metadata.boot))
            db.execute(
                "INSERT OR IGNORE INTO tars SELECT changeset, coalesce(clamp, ?), diff_id FROM claims WHERE changeset = ?",
                (_NO_CLAMP, changeset),
            )
            db.execute(_TRUST_CLAIMS + " AND changeset = ?", (changeset,))

    def adopt_blob(self, path: str, blob: LayerBlob) -> None:
        """Turn a file into the blob of claimed layers, as `Blobs.adopt` does.

        Layers that were read before, from a blob of this digest, have it again.
        """
        with self._metadata.transaction() as db:
            self._blobs.adopt(path, blob.digest, blob.size)
            db.execute(_TRUST_CLAIMS + " AND digest = ?", (str(blob.digest),))

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
            f"SELECT diff_id FROM tars WHERE changeset = ? AND clamp = ? AND {HAS_BLOB}",
            changeset,
            _NO_CLAMP if clamp is None else clamp,
        )
        return Digest.parse(str(row[0])) if row else None

    def any_diff_id(self, changeset: str) -> Digest | None:
        """The diff_id of any tar of the changeset, for a question that does not depend on times; None: it has none."""
        row = self._metadata.one("SELECT diff_id FROM tars WHERE changeset = ? ORDER BY clamp", changeset)
        return None if row is None else Digest.parse(str(row[0]))

    def clamp_of(self, changeset: str, diff_id: Digest) -> int | None:
        """The clamp (store/formats/clamp.py) of the changeset's tar with this diff_id. None: it has no clamp."""
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
            db.execute(f"DELETE FROM tars WHERE NOT {HAS_BLOB}")

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
        return [_layer_blob(diff_id, *row) for row in rows]

    def any_blob(self, changeset: str) -> LayerBlob | None:
        """Any stored blob of this changeset, to make its tree from it or to read a file in it; None if it has none."""
        for (diff_id,) in self._metadata.all("SELECT diff_id FROM tars WHERE changeset = ? ORDER BY clamp", changeset):
            for blob in self.blobs_of(Digest.parse(str(diff_id))):
                return blob
        claimed = self._claim(changeset)
        return claimed if claimed is not None and self._blobs.size(claimed.digest) is not None else None

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
        return self._read_without_row.get(changeset) or f"{self._tocs}/{changeset}"


def _layer_blob(diff_id: object, digest: object, size: object, compression: object) -> LayerBlob:
    """The values of a row. Raises StoreError if it is damaged."""
    try:
        kind = Compression(compression)
    except ValueError:
        raise StoreError(
            f"the store's tables are damaged: {str(compression)[:80]!r} is no compression", hint=NEW_TABLES
        ) from None
    return LayerBlob(Digest.parse(str(diff_id)), Digest.parse(str(digest)), number(size), kind)
