"""The records of the build cache: the result of a step, found by its keys.

A record serves only on the parent snapshot it was made on, so the layers of an image are always one chain. A changeset
that does not depend on its parent (COPY --link) can be put on other snapshots, and has a record for each.

On one parent the first writer of a key wins. A build that comes second continues with the winner's snapshot. But a
record that comes from another machine keeps its own snapshot, because others can stand on it: then a key has several
records on one parent.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.errors import CannotWrite
from pybuild.store.objects.condemned import spare_stack
from pybuild.store.objects.database import number
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from pybuild.store.objects.database import Metadata


class KeyKind(Enum):
    """What a key was made from: the definition of the step, or the content that it copied.

    The definition of a step that reads a context gives only a TEXT key, because the files can change. A TEXT key serves
    nothing. But if no record has it, no record of the step exists, and its files need not be read to find one.

    A CLAIMED key was made from a canonical key that only a cache of another machine tells. What is true of it here is not
    known: it could be that of another step. So it finds nothing but for a step whose key is claimed too.
    """

    DEFINITION = "definition"
    CONTENT = "content"
    TEXT = "text"
    CLAIMED = "claimed"


@frozen
class Record:
    """The result of a step. The keys of the steps that use it are made from its `canonical` key."""

    id: int
    snapshot: int
    canonical: str
    created: int  # seconds since the epoch


class Records:
    """The records of a store."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def are_empty(self) -> bool:
        """Whether the store has no record."""
        return self._metadata.one("SELECT 1 FROM records LIMIT 1") is None

    def find_all(self, key: str, parent: int | None, *, claimed: bool = False) -> list[Record]:
        """The records with this key whose snapshots stand on the snapshot `parent`, the oldest first.

        With `claimed` those that have it as a CLAIMED key, else those that have it as another one.
        """
        rows = self._metadata.all(
            "SELECT r.id, r.snapshot, r.canonical, r.created FROM record_keys k JOIN records r ON r.id = k.record"
            f" JOIN snapshots s ON s.id = r.snapshot WHERE k.key = ? AND {_serving(claimed)} AND s.parent IS ? ORDER BY r.id",
            key,
            parent,
        )
        return [_record(row) for row in rows]

    def find(self, key: str, parent: int | None) -> Record | None:
        """The oldest of `find_all`."""
        return next(iter(self.find_all(key, parent)), None)

    def find_anywhere(self, key: str, *, claimed: bool = False) -> Record | None:
        """The newest record with this key, whatever its parent is. `claimed` as for `find_all`."""
        row = self._metadata.one(
            "SELECT r.id, r.snapshot, r.canonical, r.created FROM record_keys k JOIN records r ON r.id = k.record"
            f" WHERE k.key = ? AND {_serving(claimed)} ORDER BY r.id DESC",
            key,
        )
        return _record(row) if row else None

    def keys(self, record: Record) -> dict[str, KeyKind]:
        """All keys of a record."""
        rows = self._metadata.all("SELECT key, kind FROM record_keys WHERE record = ? ORDER BY key", record.id)
        return {str(key): KeyKind(kind) for key, kind in rows}

    def is_claimed(self, record: Record) -> bool:
        """Whether the canonical key of a record is only what a cache of another machine says, or was made from such a key."""
        row = self._metadata.one(
            f"SELECT 1 FROM record_keys k WHERE record = ? AND key = ? AND {_serving(False)}",
            record.id,
            record.canonical,
        )
        return row is None

    def of_snapshot(self, snapshot: int) -> Record | None:
        """The newest record of a snapshot."""
        row = self._metadata.one(
            "SELECT id, snapshot, canonical, created FROM records WHERE snapshot = ? ORDER BY id DESC", snapshot
        )
        return _record(row) if row else None

    def inputs(self, record: Record) -> str:
        """The fields that the keys of a record were made from, as JSON."""
        row = self._metadata.one("SELECT inputs FROM records WHERE id = ?", record.id)
        return "{}" if row is None else str(row[0])

    def id_map(self, record: Record) -> str:
        """The kind of the id map under which the command of a record ran; "" if it had none."""
        row = self._metadata.one("SELECT id_map FROM records WHERE id = ?", record.id)
        return "" if row is None else str(row[0])

    def inputs_of(self, key: str) -> str | None:
        """The fields that a key was made from, as JSON; None if no record has the key."""
        row = self._metadata.one(
            "SELECT r.inputs FROM record_keys k JOIN records r ON r.id = k.record WHERE k.key = ?", key
        )
        return None if row is None else str(row[0])

    def has_key(self, key: str) -> bool:
        """Whether any record has this key, whatever its parent is."""
        return self._metadata.one("SELECT 1 FROM record_keys WHERE key = ?", key) is not None

    def add(
        self,
        keys: Mapping[str, KeyKind],
        snapshot: int,
        parent: int | None,
        canonical: str,
        inputs: str,
        now: int,
        *,
        replace: bool = False,
        serves: Callable[[Record], bool] = lambda _: True,
        id_map: str = "",
    ) -> Record:
        """Record the result of a step under all its keys; return the record that counts.

        If one of the keys has a record on the same parent already, and `serves` accepts it, that record wins and gets
        the other keys too. With `replace` (the build was told not to use the cache) the new record takes the keys.
        `adopt` is the way in for a record that was made elsewhere. `id_map` is the kind of the id map under which a command ran.
        `inputs` are the fields that the keys were made from, as JSON.
        """
        with self._metadata.transaction() as db:
            found = (self.find_all(key, parent, claimed=kind is KeyKind.CLAIMED) for key, kind in keys.items())
            for winner in (record for records in found for record in records):
                if replace:
                    db.executemany(
                        "DELETE FROM record_keys WHERE record = ? AND key = ?", [(winner.id, k) for k in keys]
                    )
                elif serves(winner):
                    self._add_keys(db, keys, winner.id)
                    return winner
            cursor = db.execute(
                "INSERT INTO records (snapshot, canonical, inputs, created, last_used, id_map) VALUES (?, ?, ?, ?, ?, ?)",
                (snapshot, canonical, inputs, now, now, id_map),
            )
            assert cursor.lastrowid is not None
            spare_stack(db, snapshot)
            self._add_keys(db, keys, cursor.lastrowid)
            return Record(cursor.lastrowid, snapshot, canonical, now)

    def adopt(
        self, keys: Mapping[str, KeyKind], snapshot: int, canonical: str, inputs: str, created: int, now: int
    ) -> Record:
        """Record what another machine made, beside other records of the same keys. Idempotent for a snapshot.

        `created` is when the step ran there.
        """
        with self._metadata.transaction() as db:
            row = self._metadata.one(
                "SELECT id, snapshot, canonical, created FROM records WHERE snapshot = ? AND canonical = ?",
                snapshot,
                canonical,
            )
            if row is None:
                cursor = db.execute(
                    "INSERT INTO records (snapshot, canonical, inputs, created, last_used) VALUES (?, ?, ?, ?, ?)",
                    (snapshot, canonical, inputs, created, now),
                )
                row = (cursor.lastrowid, snapshot, canonical, created)
            record = _record(row)
            spare_stack(db, snapshot)
            self._add_keys(db, keys, record.id)
            return record

    def strike(self, digest: str) -> int:
        """Remove the records of steps whose layer is claimed to be this blob, and those that stand on them.

        Returns how many there were.
        """
        with self._metadata.transaction() as db:
            return db.execute(
                # Python counts no rows of a statement that begins with WITH.
                "DELETE FROM records WHERE snapshot IN (WITH RECURSIVE gone (id) AS ("
                " SELECT s.id FROM snapshots s JOIN claims c USING (changeset) JOIN records r ON r.snapshot = s.id"
                " WHERE c.digest = ? UNION SELECT s.id FROM snapshots s JOIN gone ON s.parent = gone.id"
                ") SELECT id FROM gone)",
                (digest,),
            ).rowcount

    def strike_above(self, changeset: str) -> None:
        """Remove the records of steps that stand on a layer: what was said of it when they were made is wrong."""
        with self._metadata.transaction() as db:
            db.execute(
                "WITH RECURSIVE gone (id) AS ("
                " SELECT s.id FROM snapshots s JOIN snapshots below ON s.parent = below.id WHERE below.changeset = ?"
                " UNION SELECT s.id FROM snapshots s JOIN gone ON s.parent = gone.id"
                ") DELETE FROM records WHERE snapshot IN (SELECT id FROM gone)",
                (changeset,),
            )

    def came_from_elsewhere(self) -> bool:
        """Whether any record was made by another machine."""
        row = self._metadata.one(
            "SELECT 1 FROM records JOIN snapshots ON snapshots.id = records.snapshot JOIN claims USING (changeset) LIMIT 1"
        )
        return row is not None

    def claims(self, digest: str) -> bool:
        """Whether a record of a step is claimed to have this blob as its layer: another machine made the step."""
        row = self._metadata.one(
            "SELECT 1 FROM claims JOIN snapshots USING (changeset) JOIN records ON records.snapshot = snapshots.id"
            " WHERE digest = ?",
            digest,
        )
        return row is not None

    def add_key(self, key: str, kind: KeyKind, record: Record) -> None:
        """Give a record another key: the next build finds it without reading files. A removed record gets none.

        Nor does one on a full disk: the build does not need it.
        """
        with suppress(CannotWrite), self._metadata.transaction() as db:
            if self._metadata.one("SELECT 1 FROM records WHERE id = ?", record.id):
                self._add_keys(db, {key: kind}, record.id)

    def mark_used(self, records: list[Record], now: int) -> None:
        """Set the time of last use, unless nothing can be written.

        gc evicts the records that have not been used for the longest time.
        """
        if records:
            with suppress(CannotWrite), self._metadata.transaction() as db:
                db.executemany(
                    "UPDATE records SET last_used = ? WHERE id = ?", [(now, record.id) for record in records]
                )

    @staticmethod
    def _add_keys(db: sqlite3.Connection, keys: Mapping[str, KeyKind], record: int) -> None:
        db.executemany(
            "INSERT INTO record_keys VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET kind = excluded.kind WHERE excluded.kind != 'claimed'",
            [(key, record, kind.value) for key, kind in keys.items()],
        )


def _serving(claimed: bool) -> str:
    """SQL: of a key `k` of a record, whether it serves steps whose keys are claimed, or the others."""
    return "k.kind = 'claimed'" if claimed else "k.kind NOT IN ('text', 'claimed')"


def _record(row: tuple[object, ...]) -> Record:
    identity, snapshot, canonical, created = row
    return Record(number(identity), number(snapshot), str(canonical), number(created))
