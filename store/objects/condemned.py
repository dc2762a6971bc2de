"""Condemned objects: what gc is about to remove, and how a build that needs one of them spares it.

Builds do not write down which objects they use. Instead gc removes an object in two steps. It first *condemns* every
object that nothing reaches. It removes a condemned object once every process that had the store open at that moment has
closed it: such a process might have found the object before it was condemned.

A process that opens the store later and asks for a condemned object, by digest or chain ID, spares it. gc then has to
condemn it again, and waits for that process too. All other objects that a process uses are reached from one that it
asked for, or were made by the process itself.

What a name or a record reaches is never condemned: the transaction that makes objects reachable spares them all. If they
lose the name or the record later, gc condemns them anew, and waits for the processes of that moment. Without this it
would wait only for those of the first condemnation.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from pybuild.store.objects.database import Metadata


class Condemnable(Enum):
    """The kinds of objects that can be condemned. A changeset includes its table of contents and its trees."""

    IMAGE = "image"
    SNAPSHOT = "snapshot"
    CHANGESET = "changeset"
    BLOB = "blob"


def is_condemned(metadata: Metadata, kind: Condemnable, key: str) -> bool:
    """Whether gc has condemned this object."""
    return metadata.one("SELECT 1 FROM condemned WHERE kind = ? AND key = ?", kind.value, key) is not None


def spare(metadata: Metadata, kind: Condemnable, key: str) -> None:
    """Undo the condemnation of an object. gc might have removed it by now: look it up again afterwards.

    Nothing happens in a store in which nothing can be written.
    """
    if metadata.obstacle is not None:
        return
    with metadata.transaction() as db:
        spare_in_transaction(db, kind, key)


def spare_in_transaction(db: sqlite3.Connection, kind: Condemnable, key: str) -> None:
    """Undo the condemnation of an object as part of a running transaction."""
    db.execute("DELETE FROM condemned WHERE kind = ? AND key = ?", (kind.value, key))


def spare_stack(db: sqlite3.Connection, snapshot: int | None) -> None:
    """Spare a snapshot and everything that it reaches, as part of a running transaction."""
    if db.execute("SELECT 1 FROM condemned LIMIT 1").fetchone() is None:
        return  # as nearly always
    db.execute(
        "WITH RECURSIVE stack (id, parent, changeset) AS ("
        " SELECT id, parent, changeset FROM snapshots WHERE id = ?"
        " UNION ALL SELECT s.id, s.parent, s.changeset FROM snapshots s JOIN stack ON s.id = stack.parent)"
        " DELETE FROM condemned WHERE (kind, key) IN ("
        " SELECT 'snapshot', CAST(id AS TEXT) FROM stack UNION ALL SELECT 'changeset', changeset FROM stack"
        " UNION ALL SELECT 'blob', digest FROM stack JOIN claims USING (changeset)"
        " UNION ALL SELECT 'blob', digest FROM stack JOIN tars USING (changeset) JOIN layer_blobs USING (diff_id))",
        (snapshot,),
    )
