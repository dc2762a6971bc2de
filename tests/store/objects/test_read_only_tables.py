"""Reading the tables while nothing can be written: with and without a writer elsewhere, after a kill, during a write."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.store.errors import StoreBusy, StoreError
from pybuild.store.objects import read_only_tables
from pybuild.store.objects.database import Metadata
from pybuild.store.objects.read_only_tables import open_tables

KILLED = """
import os, sys
from pybuild.store.objects.database import Metadata
tables = Metadata(sys.argv[1], "boot")
with tables.transaction() as db:
    db.execute("INSERT INTO parses VALUES ('key', 'killed')")
os._exit(0)
"""
# Fails if no other process has a lock on the database: SQLite's bytes for it, https://sqlite.org/c3ref/file.html
LOCKED = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
except OSError:
    sys.exit(0)
sys.exit("not locked")
"""


def python(code: str, path: Path) -> None:
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def put(tables: Metadata, value: str) -> None:
    with tables.transaction() as db:
        db.execute("INSERT OR REPLACE INTO parses VALUES ('key', ?)", (value,))


def value(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT value FROM parses WHERE key = 'key'").fetchone()[0])


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database in a directory of its own; temporary files go to the directory `tmp` beside it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "store").mkdir()
    return tmp_path / "store/metadata.db"


def test_a_closed_database_is_read_without_a_trace(path: Path) -> None:
    tables = Metadata(str(path), "boot")
    put(tables, "closed")
    tables.close()
    before = files(path.parent)
    db = open_tables(str(path), 1, in_use=False)
    assert value(db) == "closed"
    assert files(path.parent) == before
    assert list(before) == ["metadata.db"]


def test_what_a_process_writes_meanwhile_is_seen(path: Path) -> None:
    tables = Metadata(str(path), "boot")
    put(tables, "first")
    db = open_tables(str(path), 1, in_use=True)
    assert value(db) == "first"
    put(tables, "second")
    assert value(db) == "second"
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM parses")
    tables.close()


def test_the_log_of_a_killed_process_is_read(path: Path) -> None:
    python(KILLED, path)
    before = files(path.parent)
    assert before["metadata.db-wal"]
    db = open_tables(str(path), 1, in_use=False)
    assert value(db) == "killed"
    assert files(path.parent) == before
    assert os.listdir(path.parent.parent / "tmp") == []


def test_the_log_is_read_without_its_index(path: Path) -> None:
    python(KILLED, path)
    os.unlink(f"{path}-shm")
    assert value(open_tables(str(path), 1, in_use=False)) == "killed"


def test_another_connection_of_this_process_keeps_its_locks(path: Path) -> None:
    tables = Metadata(str(path), "boot")
    put(tables, "mine")
    python(LOCKED, path)
    assert value(open_tables(str(path), 1, in_use=False)) == "mine"
    python(LOCKED, path)
    tables.close()


def test_a_copy_that_was_taken_during_a_write_is_taken_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Metadata(str(path), "boot")
    put(tables, "old")
    tables.close()
    whole, copies = read_only_tables._bytes, []

    def interrupted(name: str) -> bytes:
        copies.append(whole(name))
        if len(copies) == 1:
            writer = Metadata(str(path), "boot")
            put(writer, "new")
            writer.close()
        return copies[-1]

    monkeypatch.setattr(read_only_tables, "_bytes", interrupted)
    assert value(open_tables(str(path), 1, in_use=False)) == "new"
    assert len(copies) == 2


def test_a_database_that_never_rests_is_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Metadata(str(path), "boot").close()
    times = iter(range(1000))
    monkeypatch.setattr(read_only_tables, "_settled_state", lambda _: next(times))
    with pytest.raises(StoreBusy, match="keep writing"):
        open_tables(str(path), 1, in_use=False)


def test_a_missing_database_is_empty(path: Path) -> None:
    assert open_tables(str(path), 1, in_use=False).execute("SELECT * FROM sqlite_master").fetchall() == []


def test_a_table_that_sqlite_cannot_write_is_no_lack_of_permission(path: Path) -> None:
    """SQLite opens a file read-only if it cannot open it for writing, whatever the reason was."""
    tables = Metadata(str(path), "boot")
    with pytest.raises(StoreError, match=r"SQLITE_READONLY") as caught, tables.transaction() as db:
        db.execute("PRAGMA query_only = 1")
        db.execute("DELETE FROM parses")
    assert "Permission" not in str(caught.value)
    tables.close()
