"""The records of the build cache: the result of a step, found by its keys.

A record serves only on the parent snapshot it was made on, so the layers of an image are always one chain. A changeset
that does not depend on its parent (COPY --link) can be put on other snapshots, and has a record for each.

The first writer of a key wins. A build that comes second continues with the winner's snapshot.
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
    """

    DEFINITION = "definition"
    CONTENT = "content"
    TEXT = "text"


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

    def find(self, key: str, parent: int | None) -> Record | None:
        """The record with this key, if its snapshot stands on the snapshot `parent`."""
        row = self._metadata.one(
            "SELECT r.id, r.snapshot, r.canonical, r.created FROM record_keys k JOIN records r ON r.id = k.record"
            " JOIN snapshots s ON s.id = r.snapshot WHERE k.key = ? AND k.kind != ? AND s.parent IS ?",
            key,
            KeyKind.TEXT.value,
            parent,
        )
        return _record(row) if row else None

    def find_anywhere(self, key: str) -> Record | None:
        """The record with this key, whatever its parent is."""
        row = self._metadata.one(
            "SELECT r.id, r.snapshot, r.canonical, r.created FROM record_keys k JOIN records r ON r.id = k.record"
            " WHERE k.key = ? AND k.kind != ?",
            key,
            KeyKind.TEXT.value,
        )
        return _record(row) if row else None

    def inputs(self, record: Record) -> str:
        """The fields that the keys of a record were made from, as JSON."""
        row = self._metadata.one("SELECT inputs FROM records WHERE id = ?", record.id)
        return "{}" if row is None else str(row[0])

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
    ) -> Record:
        """Record the result of a step under all its keys; return the record that counts.

        If one of the keys has a record on the same parent already, and `serves` accepts it, that record wins and gets
        the other keys too. With `replace` (the build was told not to use the cache) the new record takes the keys.
        `inputs` are the fields that the keys were made from, as JSON.
        """
        with self._metadata.transaction() as db:
            for key in () if replace else keys:
                winner = self.find(key, parent)
                if winner is not None and serves(winner):
                    self._add_keys(db, keys, winner.id)
                    return winner
            cursor = db.execute(
                "INSERT INTO records (snapshot, canonical, inputs, created, last_used) VALUES (?, ?, ?, ?, ?)",
                (snapshot, canonical, inputs, now, now),
            )
            assert cursor.lastrowid is not None
            spare_stack(db, snapshot)
            self._add_keys(db, keys, cursor.lastrowid)
            return Record(cursor.lastrowid, snapshot, canonical, now)

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
            "INSERT OR REPLACE INTO record_keys VALUES (?, ?, ?)",
            [(key, kind.value, record) for key, kind in keys.items()],
        )


def _record(row: tuple[object, ...]) -> Record:
    identity, snapshot, canonical, created = row
    return Record(number(identity), number(snapshot), str(canonical), number(created))
