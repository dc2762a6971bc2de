"""A log joined with its database in memory: SQLite is the reference, also for logs that end in the middle."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.objects.table_log import joined

if TYPE_CHECKING:
    from pathlib import Path

# Writes, deletes and rolls back, with a checkpoint in the middle that starts the log again, and ends without a close.
KILLED = """
import os, random, sqlite3, sys
path, page, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
db = sqlite3.connect(path, isolation_level=None)
db.execute(f"PRAGMA page_size = {page}")
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA cache_size = 3")  # uncommitted pages reach the log
db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
for step in range(30):
    if step == 12:
        db.execute("PRAGMA wal_checkpoint(RESTART)")
    db.execute("BEGIN")
    for _ in range(chance.randrange(1, 9)):
        db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (chance.randrange(40), chance.randbytes(chance.randrange(2000))))
    db.execute("DELETE FROM t WHERE a % 7 = ?", (chance.randrange(7),))
    db.execute(chance.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
db.execute("BEGIN")
for number in range(100, 140):
    db.execute("INSERT INTO t VALUES (?, randomblob(500))", (number,))
os._exit(0)
"""


def killed(directory: Path, page: int, seed: int) -> tuple[bytes, bytes]:
    """A database and its log."""
    path = directory / f"{page}-{seed}.db"
    subprocess.run([sys.executable, "-c", KILLED, str(path), str(page), str(seed)], check=True)
    return path.read_bytes(), path.with_name(f"{path.name}-wal").read_bytes()


def rows_by_sqlite(directory: Path, database: bytes, log: bytes) -> list[object]:
    path = directory / "reference.db"
    path.write_bytes(database)
    path.with_name("reference.db-wal").write_bytes(log)
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT * FROM t ORDER BY a").fetchall()
    for name in ("reference.db", "reference.db-wal", "reference.db-shm"):
        (directory / name).unlink(missing_ok=True)
    return rows


def rows_in(whole: bytes) -> list[object]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(whole[:18] + b"\1\1" + whole[20:])
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT * FROM t ORDER BY a").fetchall()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    directory = tmp_path_factory.mktemp("log")
    return directory, *killed(directory, 1024, 1)


@pytest.mark.parametrize("page", [512, 4096, 65536])
def test_the_last_transaction_counts(tmp_path: Path, page: int) -> None:
    database, log = killed(tmp_path, page, 2)
    expected = rows_by_sqlite(tmp_path, database, log)
    assert expected
    assert rows_in(joined(database, log)) == expected


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_log_that_ends_anywhere_or_is_damaged(left: tuple[Path, bytes, bytes], data: st.DataObject) -> None:
    directory, database, log = left
    broken = bytearray(log[: data.draw(st.integers(0, len(log)))])
    if broken and data.draw(st.booleans()):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert rows_in(joined(database, bytes(broken))) == rows_by_sqlite(directory, database, bytes(broken))


def test_what_is_not_a_log_is_ignored(left: tuple[Path, bytes, bytes]) -> None:
    _, database, log = left
    chance = random.Random(0)
    for text in (b"", b"\0" * 5000, chance.randbytes(5000), log[:31], os.urandom(32) + log[32:]):
        assert joined(database, text) == database
