"""The build cache: what a step made before, found by key.

A record serves only on the very snapshot it was made on, so that an image's layers are always one chain; a changeset
that depends on nothing below is put on another snapshot, and has a record for each. The first
writer of a key wins; a build that comes second takes the winner's snapshot and goes on from there.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from pybuild.store.objects.database import Metadata


class KeyKind(Enum):
    """What a key was made of: the step's definition, or the content that it copied.

    The definition of a step that reads a context is but a TEXT: the same words may mean other files tomorrow. Such a key
    serves nothing; without it, though, no record can exist, and nothing needs to be read to know that.
    """

    DEFINITION = "definition"
    CONTENT = "content"
    TEXT = "text"


@frozen
class Record:
    """What a step made: `canonical` is the key that the steps after it build theirs from."""

    id: int
    snapshot: int
    canonical: str
    created: int  # seconds since the epoch


class Records:
    """The records of a store."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def find(self, key: str, parent: int | None) -> Record | None:
        """The record of a key, if what it made stands on the snapshot `parent`."""
        row = self._metadata.one(
            "SELECT r.id, r.snapshot, r.canonical, r.created FROM record_keys k JOIN records r ON r.id = k.record"
            " JOIN snapshots s ON s.id = r.snapshot WHERE k.key = ? AND k.kind != ? AND s.parent IS ?",
            key,
            KeyKind.TEXT.value,
            parent,
        )
        return _record(row) if row else None

    def find_anywhere(self, key: str) -> Record | None:
        """The record of a key, on whatever snapshot."""
        row = self._metadata.one(
            "SELECT r.id, r.snapshot, r.canonical, r.created FROM record_keys k JOIN records r ON r.id = k.record"
            " WHERE k.key = ? AND k.kind != ?",
            key,
            KeyKind.TEXT.value,
        )
        return _record(row) if row else None

    def inputs(self, record: Record) -> str:
        """What the keys of a record were made of."""
        row = self._metadata.one("SELECT inputs FROM records WHERE id = ?", record.id)
        return "{}" if row is None else str(row[0])

    def inputs_of(self, key: str) -> str | None:
        """What a key was made of, if a record has it."""
        row = self._metadata.one(
            "SELECT r.inputs FROM record_keys k JOIN records r ON r.id = k.record WHERE k.key = ?", key
        )
        return None if row is None else str(row[0])

    def has_key(self, key: str) -> bool:
        """Whether any record has this key, on whatever snapshot."""
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
        """Record what a step made, under all its keys; return the record that counts.

        Where one of the keys already names a record on the same parent, that one wins and gets the other keys too; one
        that does not `serve` loses. With `replace` (a build that was told not to use the cache) the new one takes its place.
        `inputs` is a JSON text of the fields that the keys were made of.
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
            self._add_keys(db, keys, cursor.lastrowid)
            return Record(cursor.lastrowid, snapshot, canonical, now)

    def add_key(self, key: str, kind: KeyKind, record: Record) -> None:
        """One more key for a record: the next build finds it without reading any source. One that is gone gets none."""
        with self._metadata.transaction() as db:
            if self._metadata.one("SELECT 1 FROM records WHERE id = ?", record.id):
                self._add_keys(db, {key: kind}, record.id)

    def mark_used(self, records: list[Record], now: int) -> None:
        """Note that records were of use, for whoever has to choose what to evict."""
        if records:
            with self._metadata.transaction() as db:
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
    return Record(int(str(identity)), int(str(snapshot)), str(canonical), int(str(created)))
