"""Reading the tables of a store in which nothing can be written: on a full disk, or a read-only one.

SQLite needs two files to read a database in WAL mode, the log and its index, and creates them. There are three cases
without room for that:

* The log has content, and another process has the store open. SQLite then reads with the files that are there
  (mode=ro), and sees what other processes write meanwhile.
* The log is missing or empty. Everything is in the database's own file, which is copied into memory. If another process
  writes to it meanwhile, it has to create the log first, so a copy is whole if there is no log before and after it, and
  the file has not changed.
* The log has content, but no process has the store open. That is the usual state (`Metadata.close`). SQLite would make
  the index anew, and a process that touches an index without blocks on the disk is killed by SIGBUS. So the two are joined
  in memory (table_log.py).

The database's bytes are read through SQLite (immutable=1, which ignores the log), never by open(2): closing a file drops
all POSIX locks that this process holds on it, and another connection of this process needs its own.
"""

from __future__ import annotations

import os
import sqlite3
import time
from urllib.parse import quote

from pybuild.store.errors import StoreBusy
from pybuild.store.objects.table_log import joined
from pybuild.store.system.files import file_size

_ATTEMPTS = 20
_TICK = 0.02  # seconds: two writes within one step of the clock leave the same times
_FORMAT_VERSIONS = slice(
    18, 20
)  # of the header: 2 means WAL, 1 a rollback journal, https://sqlite.org/fileformat2.html


def open_tables(path: str, timeout: float, *, in_use: bool) -> sqlite3.Connection:
    """A connection that can read the database at `path`; no statement can change the file.

    `in_use`: another process has the store open. Raises sqlite3.DatabaseError, OSError, StoreBusy if other processes keep
    writing.
    """
    log = f"{path}-wal"
    problem: sqlite3.DatabaseError | None = None
    for _ in range(_ATTEMPTS):
        try:
            if in_use and file_size(log):
                return _connect(path, "mode=ro", timeout)
            state = _settled_state(path)
            data = _joined(path) if file_size(log) else _bytes(path)
            if _settled_state(path) == state:
                return _in_memory(data)
        except sqlite3.DatabaseError as error:
            problem = error  # the log went away, or the copy was taken while another process wrote
    raise problem or StoreBusy(f"{path}: other processes keep writing to it")


def _connect(path: str, option: str, timeout: float) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{quote(path)}?{option}", uri=True, timeout=timeout, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _settled_state(path: str) -> list[tuple[int, int]]:
    """What changes whenever a process writes to the database or its log: size and time of both."""
    found = []
    for name in (path, f"{path}-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            found.append((0, 0))
            continue
        if 0 <= time.time() - status.st_mtime < _TICK:
            time.sleep(_TICK)
        found.append((status.st_size, status.st_mtime_ns if status.st_size else 0))
    return found


def _bytes(path: str) -> bytes:
    """The bytes of a database file, without its log."""
    if not file_size(path):
        return b""
    db = _connect(path, "immutable=1", 0)
    try:
        return db.serialize()
    finally:
        db.close()


def _joined(path: str) -> bytes:
    """The database with the content of its log."""
    with open(f"{path}-wal", "rb") as file:
        log = file.read()
    return joined(_bytes(path), log)


def _in_memory(data: bytes) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    if data:
        whole = bytearray(data)
        whole[_FORMAT_VERSIONS] = b"\1\1"  # a database in memory has no log
        db.deserialize(bytes(whole))
    return db
