"""What gc is about to remove, and how a build that needs it takes it back.

No build writes down what it uses. Instead a removal has two parts: what nothing reaches is first *condemned*, and goes
only when every process that had the store open at that moment has left it. Such a process may have found the thing
before it was condemned, and says nothing about it. One that comes later and asks for a condemned thing, by its digest
or its chain ID, takes it back with that (`spare`): the count begins anew, and then waits for that process too.
Everything else is reached from one of those, or is no older than whoever made it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from pybuild.store.objects.database import Metadata


class Condemnable(Enum):
    """What can be condemned; a changeset stands for its table of contents and its trees."""

    IMAGE = "image"
    SNAPSHOT = "snapshot"
    CHANGESET = "changeset"
    BLOB = "blob"


def condemned(metadata: Metadata, kind: Condemnable, key: str) -> bool:
    """Whether this is condemned."""
    return metadata.one("SELECT 1 FROM condemned WHERE kind = ? AND key = ?", kind.value, key) is not None


def spare(metadata: Metadata, kind: Condemnable, key: str) -> None:
    """Take something back. It may be gone by now: look again afterwards."""
    with metadata.transaction() as db:
        pardon(db, kind, key)


def pardon(db: sqlite3.Connection, kind: Condemnable, key: str) -> None:
    """As `spare`, in a transaction."""
    db.execute("DELETE FROM condemned WHERE kind = ? AND key = ?", (kind.value, key))
