"""The parse cache: parsed recipes in the store, for the next build."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import CannotWrite
from pybuild.values import frozen
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from pybuild.store.store import Store


@frozen
class StoredParses:
    """A `parser.ParseCache` in the store. It does not store a recipe that has a password in a URL."""

    store: Store

    def get(self, key: str) -> bytes | None:
        """The value of a key; None if it is unknown."""
        row = self.store.metadata.one("SELECT value FROM parses WHERE key = ?", key)
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def put(self, key: str, value: bytes) -> None:
        """Store a value, unless nothing can be written."""
        if redact(text := value.decode("utf-8", "replace")) != text:
            return
        with suppress(CannotWrite), self.store.metadata.transaction() as db:
            db.execute("INSERT OR REPLACE INTO parses VALUES (?, ?)", (key, value))
