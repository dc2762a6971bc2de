"""The store's tables: one SQLite file. A connection belongs to one process and is never shared across a fork.

A file or directory without a row is garbage. The column `boot` of a new row is the id of the running boot; it becomes
NULL (the row is sealed) once the bytes of the object are known to be on the disk. A power cut can lose the bytes of
rows that are not sealed; sealing.py checks them after the next boot.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.errors import NoSpace, StoreBusy, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 7
_WAIT_SECONDS = 60.0
# os_unix.c of SQLite: MAX_PATHNAME is 512, and the names of its other files are up to 8 bytes longer.
_LONGEST_PATH = 504

_SCHEMA = """
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, compression TEXT NOT NULL,
    PRIMARY KEY (diff_id, digest)) WITHOUT ROWID;
CREATE TABLE changesets (id TEXT PRIMARY KEY, boot TEXT) WITHOUT ROWID;
CREATE TABLE tocs (id TEXT PRIMARY KEY REFERENCES changesets ON DELETE CASCADE, boot TEXT) WITHOUT ROWID;
CREATE TABLE unread (
    id TEXT PRIMARY KEY REFERENCES changesets ON DELETE CASCADE, diff_id TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, compression TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tars (
    changeset TEXT NOT NULL REFERENCES changesets ON DELETE CASCADE, clamp INTEGER NOT NULL, diff_id TEXT NOT NULL,
    PRIMARY KEY (changeset, clamp)) WITHOUT ROWID;
CREATE TABLE trees (
    id TEXT PRIMARY KEY, changeset TEXT NOT NULL REFERENCES changesets ON DELETE CASCADE, id_map TEXT NOT NULL, boot TEXT,
    UNIQUE (changeset, id_map)) WITHOUT ROWID;
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES snapshots ON DELETE CASCADE,
    changeset TEXT NOT NULL REFERENCES changesets ON DELETE CASCADE);
CREATE TABLE chains (
    chain_id TEXT PRIMARY KEY, snapshot INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, snapshot INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE,
    canonical TEXT NOT NULL, inputs TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER NOT NULL);
CREATE TABLE record_keys (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, record INTEGER NOT NULL REFERENCES records ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE images (
    manifest TEXT PRIMARY KEY REFERENCES blobs ON DELETE CASCADE, config TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
    snapshot INTEGER REFERENCES snapshots ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE tag_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, at INTEGER NOT NULL, manifest TEXT, recipe TEXT NOT NULL);
CREATE TABLE parses (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX snapshots_of_changeset ON snapshots (changeset);
CREATE INDEX snapshots_of_parent ON snapshots (parent);
CREATE INDEX records_of_snapshot ON records (snapshot);
CREATE INDEX keys_of_record ON record_keys (record);
CREATE INDEX tags ON tag_log (name, id);
CREATE INDEX tars_of_diff_id ON tars (diff_id);
"""
_FIRST = 2  # the version of _SCHEMA; opening a store of this version or a later one migrates it to VERSION
_MIGRATIONS = {
    3: """
CREATE TABLE tree_sizes (
    id TEXT PRIMARY KEY REFERENCES trees ON DELETE CASCADE, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cachemounts (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER NOT NULL,
    size INTEGER, boot TEXT) WITHOUT ROWID;
CREATE INDEX cachemounts_of_key ON cachemounts (key);
CREATE TABLE condemned (
    kind TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE waits (
    generation INTEGER NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (generation, lease)) WITHOUT ROWID;
""",
    4: """
CREATE TABLE downloads (
    url TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, etag TEXT NOT NULL,
    last_modified TEXT NOT NULL) WITHOUT ROWID;
""",
    5: """
CREATE TABLE builds (
    id TEXT PRIMARY KEY, recipe TEXT NOT NULL, target TEXT NOT NULL, manifest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE build_steps (
    build TEXT NOT NULL REFERENCES builds ON DELETE CASCADE, node INTEGER NOT NULL, parent INTEGER, sources TEXT NOT NULL,
    stage TEXT NOT NULL, number INTEGER NOT NULL, line INTEGER NOT NULL, instruction TEXT NOT NULL, outcome TEXT NOT NULL,
    fresh INTEGER NOT NULL, key TEXT NOT NULL, snapshot INTEGER, args TEXT NOT NULL,
    PRIMARY KEY (build, node)) WITHOUT ROWID;
CREATE TABLE step_inputs (key TEXT PRIMARY KEY, inputs TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX build_steps_of_key ON build_steps (key);
""",
    6: """
ALTER TABLE build_steps ADD COLUMN mounted TEXT NOT NULL DEFAULT '[]';
""",
    7: """
ALTER TABLE trees ADD COLUMN identity TEXT NOT NULL DEFAULT '';
ALTER TABLE cachemounts ADD COLUMN identity TEXT NOT NULL DEFAULT '';
""",
}


class Metadata:
    """A connection to the tables. Each verb of the store runs in one `transaction`."""

    def __init__(self, path: str, boot: str) -> None:
        """Open or create the file; `boot` is the id of this boot. Raises StoreError if it is damaged or too new."""
        self.boot = boot
        self._directory = os.path.dirname(path)
        try:
            self._db = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        except sqlite3.OperationalError as error:
            length = len(os.fsencode(os.path.realpath(self._directory)))
            most = _LONGEST_PATH - len(os.fsencode(path)) + len(os.fsencode(self._directory))
            if length <= most:
                raise _translate(error, self._directory, f"{path}: ") from error
            raise StoreError(
                f"the path of the store, links resolved, has {length} bytes; because of SQLite it can have at most {most}",
                hint="choose a shorter one with --root",
            ) from error
        try:
            self._db.execute("PRAGMA foreign_keys = ON")
            if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StoreError(
                    f"{path}: this filesystem cannot hold the store (no shared memory for SQLite)",
                    hint="choose another --root",
                )
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._prepare(path)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise _translate(error, self._directory, f"{path}: ") from error
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction; other writers wait. Raises NoSpace, StoreBusy, StoreError.

        A transaction inside a transaction is a part of it: callers combine several changes that are one fact.
        """
        if self._db.in_transaction:
            yield self._db
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # After a full disk or an I/O error SQLite has already ended the transaction.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise _translate(error, self._directory) from error

    @contextmanager
    def durable_transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block has ended. It cannot be a part of another one."""
        assert not self._db.in_transaction
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            with self.transaction() as db:
                yield db
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    def one(self, query: str, *values: object) -> tuple[object, ...] | None:
        """The first row of a query, or None."""
        rows = self.all(query, *values)
        return rows[0] if rows else None

    def all(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """All rows of a query."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _translate(error, self._directory) from error

    def check(self) -> list[str]:
        """The errors that SQLite itself finds in the file, and the references to rows that do not exist."""
        errors = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        return errors + [
            f"table {row[0]}: row {row[1]} refers to nothing in {row[2]}"
            for row in self._db.execute("PRAGMA foreign_key_check")
        ]

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = self._version()  # again, inside the transaction: another process might have migrated the file
        if version == 0:
            for statement in _statements(_SCHEMA):
                db.execute(statement)
            version = _FIRST
        for later in range(version + 1, VERSION + 1):
            for statement in _statements(_MIGRATIONS[later]):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")

    def _prepare(self, path: str) -> None:
        version = self._version()
        if version == 0 or _FIRST <= version < VERSION:
            with self.transaction() as db:
                self._migrate(db)
        elif version != VERSION:
            raise StoreError(
                f"{path}: the store has version {version}, this pybuild supports {VERSION}",
                hint="use the pybuild that created it, or another --root",
            )


def _statements(text: str) -> list[str]:
    return [statement for statement in text.split(";\n") if statement.strip()]


def _translate(error: sqlite3.DatabaseError, directory: str, where: str = "the store's tables: ") -> StoreError:
    """The StoreError for an SQLite error about a file in `directory`."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:  # SQLite could not enlarge metadata.db-shm
        code = sqlite3.SQLITE_FULL
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN and _out_of_inodes(directory):  # it could not create -wal or -shm
        code = sqlite3.SQLITE_FULL
    match code & 0xFF:  # the primary result code
        case sqlite3.SQLITE_FULL:
            return NoSpace(f"{where}no space left", hint="free some space, or choose another --root")
        case sqlite3.SQLITE_BUSY:
            return StoreBusy(f"{where}in use by another process for more than {_WAIT_SECONDS:.0f} seconds")
        case _:
            return StoreError(f"{where}{error}", hint="pybuild fsck lists what is damaged")


def _out_of_inodes(directory: str) -> bool:
    """Whether the filesystem has no free inode. Without an inode limit it reports f_files = 0, statvfs(3)."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return False
    return status.f_files > 0 and not status.f_favail
