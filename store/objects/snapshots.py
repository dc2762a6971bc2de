"""The tables of snapshots: each is a changeset on a parent snapshot. Chain IDs name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import NotFound
from pybuild.store.layers.view import View
from pybuild.store.objects.changesets import HAS_BLOB
from pybuild.store.objects.condemned import Condemnable, spare
from pybuild.store.objects.database import number

if TYPE_CHECKING:
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.toc import Toc
    from pybuild.store.objects.changesets import Changesets
    from pybuild.store.objects.database import Metadata

_BY_CHAIN = (
    "SELECT snapshot, EXISTS (SELECT 1 FROM condemned WHERE kind = 'snapshot' AND key = CAST(snapshot AS TEXT))"
    " FROM chains WHERE chain_id = ?"
)


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
            " AND NOT EXISTS (SELECT 1 FROM tars WHERE tars.changeset = s.changeset AND " + HAS_BLOB + ")"
            " AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.changeset = s.changeset)",
            snapshot,
        )
        return frozenset(str(row[0]) for row in rows if row[0] is not None) if rows else None

    def with_layer(self, parent: int | None, diff_id: Digest, digest: Digest) -> int | None:
        """The snapshot on `parent` whose layer has this diff_id, or is claimed to have it and this blob."""
        row = self._metadata.one(
            "SELECT s.id FROM snapshots s LEFT JOIN tars t USING (changeset) LEFT JOIN claims c USING (changeset)"
            " WHERE s.parent IS ? AND (t.diff_id = ? OR (c.diff_id = ? AND c.digest = ?)) ORDER BY s.id",
            parent,
            str(diff_id),
            str(diff_id),
            str(digest),
        )
        return None if row is None else number(row[0])

    def diff_id(self, snapshot: int, clamp: int | None) -> Digest | None:
        """The diff_id of a snapshot's own layer, whose tar has this clamp; None if it has no such tar. Raises NotFound.

        A tar that no clamp has changed will do, and so will what another machine claims of the layer.
        """
        row = self._metadata.one("SELECT changeset FROM snapshots WHERE id = ?", snapshot)
        if row is None:
            raise NotFound(f"snapshot {snapshot} was removed")
        changeset = str(row[0])
        claimed = self._changesets.claimed(changeset, clamp) or self._changesets.claimed(changeset, None)
        own = self._changesets.diff_id(changeset, clamp) if claimed is None else claimed.diff_id
        return self._changesets.diff_id(changeset, None) if own is None else own

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
