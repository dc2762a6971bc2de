"""The store's tables: one SQLite file. A connection belongs to one process and is never shared across a fork.

A file or directory without a row is garbage. The column `boot` of a new row is the id of the running boot; it becomes
NULL (the row is sealed) once the bytes of the object are known to be on the disk. A power cut can lose the bytes of
rows that are not sealed; sealing.py checks them after the next boot.

Transactions are in the log (metadata.db-wal) first, also while no process has the store open: a copy of the store needs
it. What has to be on the disk is synced by `durable_transaction`, and not by the end of a process.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreBusy, StoreError
from pybuild.store.objects import schema
from pybuild.store.system.directories import names_in, opened_directory
from pybuild.store.system.disk_full import cannot_write, obstacle_to_writing
from pybuild.store.system.files import file_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.errors import CannotWrite

UNKNOWN_BOOT = "unknown"  # without /proc: every row counts as of this boot
RESETTING = "resetting"  # the tables of a store that is being reset: the objects are garbage then
_WAIT_SECONDS = 60.0
_OBJECTS = ("blobs/sha256", "blobs/sha512", "tocs", "trees")  # directories; a new store has nothing in them
NEW_TABLES = "pybuild fsck --repair makes new tables and keeps the images; pybuild reset removes the store"
_LONGEST_PATH = 504  # os_unix.c of SQLite: MAX_PATHNAME is 512; the names of its other files are up to 8 bytes longer
_INDEX_PAGE = 4096  # bytes
LOG_LIMIT = 1 << 20  # bytes of the log; SQLite itself begins to move it into the database at 4 MiB
_LEFT: list[sqlite3.Connection] = []  # closed by the end of the process
# Damaged text in the schema is part of SQLite's message, and the module sqlite3 fails to decode it.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
_FSCK_HINT = "pybuild fsck lists what is damaged"
_IO_HINT = "the disk, its filesystem or the memory failed: dmesg can say more; pybuild fsck lists what is damaged"
# Input and output errors that have nothing to do with a lack of space.
_NOT_WRITING = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_FSYNC)


class Metadata:
    """A connection to the tables. Each verb of the store runs in one `transaction`.

    `obstacle` is the reason why nothing can be written; each transaction raises it. None: everything can be written.
    """

    def __init__(
        self,
        path: str,
        boot: str,
        obstacle: CannotWrite | None = None,
        *,
        in_use: bool = False,
        replace_lost: bool = False,
    ) -> None:
        """Open or create the file; `boot` is the id of this boot.

        With an obstacle the file is only read; `in_use` then says whether another process has the store open.
        If the file is new or empty and the store is not, the tables were lost: they are made anew only with
        `replace_lost`. Raises StoreError if the file is lost, damaged or too new, CannotWrite if it has to be written
        and cannot.
        """
        self.boot = boot
        self.obstacle = obstacle
        self._replace_lost = replace_lost
        self._path = path
        self._directory = os.path.dirname(path)
        try:
            if obstacle is None:
                self._db = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
            else:
                # A local import: a build seldom needs it.
                from pybuild.store.objects.read_only_tables import open_tables

                self._db = open_tables(path, _WAIT_SECONDS, in_use=in_use)
        except sqlite3.DatabaseError as error:
            _require_short_path(path)
            raise _translate(error, self._directory, path) from error
        try:
            if obstacle is None:
                self._set_up(path)
            self._prepare(path)
        except UNREADABLE as error:
            self._db.close()
            raise _translate(error, self._directory, path) from error
        except BaseException:
            self._db.close()
            raise

    @staticmethod
    def in_memory() -> sqlite3.Connection:
        """New tables that are not in a file."""
        db = sqlite3.connect(":memory:", isolation_level=None)
        for text in (schema.FIRST_TABLES, *schema.MIGRATIONS.values()):
            for statement in schema.statements(text):
                db.execute(statement)
        return db

    def close(self, *, keep_log: bool = False) -> None:
        """Close the connection. The last one of all processes moves the log into the database, and syncs both.

        On ext4 that waits for whatever was written before. `keep_log` leaves a log of up to LOG_LIMIT as it is, and the
        connection to the end of the process. Who opens the tables next reads the log, as after a kill: 1 ms for 1 MiB.
        """
        if keep_log and self.obstacle is None and file_size(f"{self._path}-wal") <= LOG_LIMIT:
            _LEFT.append(self._db)
        else:
            self._db.close()

    def size(self) -> int:
        """The size of the tables in bytes, wherever they are: in the database or still in the log."""
        pages, size = (number((self.one(f"PRAGMA {name}") or (0,))[0]) for name in ("page_count", "page_size"))
        return pages * size

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction; other writers wait. Raises CannotWrite, StoreBusy, StoreError.

        A transaction inside a transaction is a part of it: callers combine several changes that are one fact.
        """
        if self._db.in_transaction:
            yield self._db
            return
        if self.obstacle is not None:
            raise self.obstacle
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
        except sqlite3.ProgrammingError:
            raise  # a bug
        except sqlite3.DatabaseError as error:
            raise _translate(error, self._directory) from error

    @contextmanager
    def durable_transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block has ended. It cannot be a part of another one.

        Raises OSError if the disk fails.
        """
        assert not self._db.in_transaction
        # SQLite syncs the directory too after it has made its log there, but ignores an error.
        with opened_directory(self._directory) as fd:
            os.fsync(fd)
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            with self.transaction() as db:
                yield db
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    def shadow(self, table: str, rows: list[tuple[object, ...]]) -> None:
        """Let this process see more rows in a table in which nothing can be written. At most once for each table."""
        self._db.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM main.{table}")
        marks = ", ".join("?" for _ in rows[0])
        self._db.executemany(f"INSERT INTO temp.{table} VALUES ({marks})", rows)

    def one(self, query: str, *values: object) -> tuple[object, ...] | None:
        """The first row of a query, or None."""
        rows = self.all(query, *values)
        return rows[0] if rows else None

    def all(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """All rows of a query."""
        try:
            return self._db.execute(query, values).fetchall()
        except UNREADABLE as error:
            raise _translate(error, self._directory) from error

    def check(self) -> list[str]:
        """The errors that SQLite itself finds in the file, and the references to rows that do not exist."""
        try:
            errors = [f"tables: {row[0]}" for row in self.all("PRAGMA integrity_check") if row[0] != "ok"]
            return errors + [
                f"table {row[0]}: row {row[1]} refers to nothing in {row[2]}"
                for row in self.all("PRAGMA foreign_key_check")
            ]
        except StoreError as error:
            return [str(error)]

    def checkpoint_each_transaction(self) -> None:
        """From now on move the log into the database after each transaction, so that the log does not grow."""
        self._db.execute("PRAGMA wal_autocheckpoint = 1")

    def _set_up(self, path: str) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreError(
                f"{path}: this filesystem cannot hold the store (no shared memory for SQLite)",
                hint="choose another --root",
            )
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA temp_store = MEMORY")  # the disk of /var/tmp can be full, too
        if os.statvfs(self._directory).f_frsize < _INDEX_PAGE:
            # SQLite maps the index of its log, and allocates only one block of each page. If the disk is full when it
            # first writes to the others, SIGBUS kills the process. The first commit writes to all of them.
            with self.transaction() as db:
                db.execute(f"PRAGMA user_version = {self._version()}")

    def _is_copy(self) -> bool:
        """Whether this is a private copy of the tables, in memory."""
        return not self._db.execute("PRAGMA database_list").fetchone()[2]

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = self._version()  # again, inside the transaction: another process might have migrated the file
        if version == 0:
            resetting = os.path.exists(f"{self._directory}/{RESETTING}")
            if not self._replace_lost and not resetting and _has_objects(self._directory):
                raise StoreError(
                    f"{self._directory}: the store's tables are lost: its {os.path.basename(self._path)} is new or empty",
                    hint=NEW_TABLES,
                )
            for statement in schema.statements(schema.FIRST_TABLES):
                db.execute(statement)
            version = schema.FIRST
        for later in range(version + 1, schema.VERSION + 1):
            for statement in schema.statements(schema.MIGRATIONS[later]):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {schema.VERSION}")

    def _prepare(self, path: str) -> None:
        version = self._version()
        if version == 0 or schema.FIRST <= version < schema.VERSION:
            if self.obstacle is not None and self._is_copy():
                self._migrate(self._db)
                return
            with self.durable_transaction() as db:  # before the first object: without tables a store counts as lost
                self._migrate(db)
            with suppress(FileNotFoundError):
                os.unlink(f"{self._directory}/{RESETTING}")
        elif version != schema.VERSION:
            raise StoreError(
                f"{path}: the store has version {version}, this pybuild supports {schema.VERSION}",
                hint="use the pybuild that created it, or another --root",
            )


def _require_short_path(path: str) -> None:
    """Raise StoreError if SQLite cannot open a file because its path is too long."""
    directory = os.path.dirname(path)
    length = len(os.fsencode(os.path.realpath(directory)))
    most = _LONGEST_PATH - len(os.fsencode(path)) + len(os.fsencode(directory))
    if length > most:
        raise StoreError(
            f"the path of the store, links resolved, has {length} bytes; because of SQLite it can have at most {most}",
            hint="choose a shorter one with --root",
        )


def _translate(
    error: sqlite3.DatabaseError | UnicodeDecodeError, directory: str, where: str = "the store's tables"
) -> StoreError:
    """The StoreError for an SQLite error about a file in `directory`."""
    if isinstance(error, UnicodeDecodeError):
        return StoreError(f"{where}: damaged text", hint=NEW_TABLES)
    code = getattr(error, "sqlite_errorcode", 0)
    obstacle = None
    match code & 0xFF:  # the primary result code
        case sqlite3.SQLITE_BUSY:
            return StoreBusy(f"{where}: in use by another process for more than {_WAIT_SECONDS:.0f} seconds")
        case sqlite3.SQLITE_FULL:
            obstacle = OSError(errno.ENOSPC, "")
        case sqlite3.SQLITE_READONLY:
            obstacle = obstacle_to_writing(directory) or _forbidden(directory)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR if code not in _NOT_WRITING:
            obstacle = obstacle_to_writing(directory)  # SQLite could not make or enlarge a file, and does not say why
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:  # the last: a table is missing
            return StoreError(f"{where}: {error}", hint=NEW_TABLES)
        case _:
            pass
    found = None if obstacle is None else cannot_write(obstacle, where, path=directory)
    if isinstance(found, StoreError):
        return found
    # SQLite does not pass on the error of the system call; the name of its code at least tells which call it was.
    name = getattr(error, "sqlite_errorname", "")
    failed = code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    return StoreError(f"{where}: {error}" + (f" ({name})" if name else ""), hint=_IO_HINT if failed else _FSCK_HINT)


def _forbidden(directory: str) -> OSError | None:
    """EACCES if this user must not write to one of the files. If it may, SQLite failed to open one in another way."""
    with opened_directory(directory) as fd:
        for name in names_in(fd):
            if name.startswith(b"metadata.db") and not os.access(name, os.W_OK, dir_fd=fd, effective_ids=True):
                return OSError(errno.EACCES, os.strerror(errno.EACCES))
    return None


def number(value: object) -> int:
    """The integer in a column of a row. Raises StoreError if the row is damaged."""
    if isinstance(value, int):
        return value
    raise StoreError(f"the store's tables are damaged: {str(value)[:80]!r} is not a number", hint=NEW_TABLES)


def _has_objects(directory: str) -> bool:
    for name in _OBJECTS:
        try:
            with os.scandir(f"{directory}/{name}") as entries:
                if next(entries, None) is not None:
                    return True
        except FileNotFoundError:
            continue
    return False
