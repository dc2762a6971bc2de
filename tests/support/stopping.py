"""A command of pybuild that stops at named points, in a process forked from the tests. tests/support/interleaving.py drives it.

The points: before the process takes its lease and gives it up (`lease`, `release`), before BEGIN of a transaction
(`begin`), before and after its COMMIT (`commit`, `committed`), and before a file of the store is renamed or removed
(`rename`, `remove`). With PYBUILD_INTERLEAVE=all, which takes minutes, also before each query outside of transactions
(`read`), before a directory is listed (`list`) and before a lock is tried (`lock`).

At each point the process says on its socket where it is, whether it is inside a transaction, and a digest of everything
that it has read from the store so far. It then waits for one byte. Its clock stands still and its random bytes are a
function of its number, so the digest decides what the process does next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import sqlite3
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pybuild.cli import run
from pybuild.store.objects import database
from pybuild.store.objects.ingest import Ingest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_700_000_000
FINE = os.environ.get("PYBUILD_INTERLEAVE") == "all"
_FILES = {"os.rename": "rename", "os.remove": "remove"}  # audit event -> point


class Stop(NamedTuple):
    """Where a process is."""

    point: str
    in_transaction: bool
    read: str  # digest of what it has read


class _Stopper:
    """What runs in the forked process."""

    def __init__(self, control: socket.socket, root: str) -> None:
        self._control = control
        self._root = root
        self._own = f"{root}/ingest/"
        self._read = hashlib.sha256()
        self._stopped = False  # the audit hook hears of what `stop` itself does
        self.in_transaction = False

    def saw(self, value: object) -> None:
        """The process has read this."""
        self._read.update(repr(value).encode())

    def stop(self, point: str) -> None:
        if self._stopped:
            return
        self._stopped = True
        stop = (point, str(int(self.in_transaction)), self._read.hexdigest())
        self._control.send(" ".join(stop).encode())
        if not self._control.recv(1):
            os._exit(1)  # the driver has seen enough
        self._stopped = False

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if (point := _FILES.get(event)) is not None:
            path = arguments[1] if event == "os.rename" else arguments[0]
            if isinstance(path, str) and path.startswith(f"{self._root}/") and not path.startswith(self._own):
                self.stop(f"{point}:{path.removeprefix(self._root + '/').split('/')[0]}")


def _watch_tables(stopper: _Stopper) -> None:
    class Cursor(sqlite3.Cursor):
        def fetchone(self) -> Any:
            row = super().fetchone()
            stopper.saw(row)
            return row

        def fetchall(self) -> Any:
            rows = super().fetchall()
            stopper.saw(rows)
            return rows

        def __next__(self) -> Any:
            row = super().__next__()
            stopper.saw(row)
            return row

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                stopper.stop("begin")
            elif sql == "COMMIT":
                stopper.stop("commit")
            elif FINE and not self.in_transaction:
                stopper.stop("read")
            cursor = self.cursor(Cursor).execute(sql, *values)
            stopper.saw(cursor.lastrowid)
            stopper.in_transaction = self.in_transaction
            if sql == "COMMIT":
                stopper.stop("committed")
            return cursor

    class Sqlite:
        """The module, with such connections. They never wait: the driver knows who has to."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

        def connect(self, path: str, **options: Any) -> sqlite3.Connection:
            return sqlite3.connect(path, **{**options, "timeout": 0.0}, factory=Connection)

    database.sqlite3 = Sqlite()  # type: ignore[attr-defined, assignment]


def _watch_files(stopper: _Stopper) -> None:
    listdir, lock, create, close = os.listdir, fcntl.flock, Ingest.__init__, Ingest.close

    def watched_listdir(path: Any = ".") -> Any:
        if FINE:
            stopper.stop("list")
        names = sorted(listdir(path))
        stopper.saw(names)
        return names

    def watched_lock(fd: Any, operation: int) -> None:
        if FINE:
            stopper.stop("lock")
        try:
            lock(fd, operation)
        except BlockingIOError:
            stopper.saw("locked")
            raise

    def watched_create(ingest: Ingest, parent: str) -> None:
        stopper.stop("lease")
        create(ingest, parent)

    def watched_close(ingest: Ingest) -> None:
        stopper.stop("release")
        close(ingest)

    def watched(function: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def call(*arguments: Any, **options: Any) -> os.stat_result:
            try:
                status = function(*arguments, **options)
            except OSError as error:
                stopper.saw(error.errno)
                raise
            stopper.saw((status.st_mode, status.st_nlink > 0))
            return status

        return call

    os.listdir = watched_listdir
    fcntl.flock = watched_lock
    os.stat, os.lstat, os.fstat = watched(os.stat), watched(os.lstat), watched(os.fstat)
    Ingest.__init__ = watched_create  # type: ignore[assignment, method-assign]
    Ingest.close = watched_close  # type: ignore[assignment, method-assign]
    sys.addaudithook(stopper.audit)


def _stand_still(number: int) -> None:
    """Fix what differs between two runs of the same command."""
    count = 0

    def urandom(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.sha256(f"{number} {count}".encode()).digest()[:size]

    os.urandom = urandom
    time.time = lambda: float(NOW)
    os.environ.update({"SOURCE_DATE_EPOCH": str(NOW), "LC_ALL": "C.UTF-8"})


def run_here(number: int, root: str, arguments: list[str], output: Path, control: socket.socket | None) -> NoReturn:
    """Run a command in this forked process, and end it. Its output goes to a file. Without `control` it never stops."""
    status = 99
    with suppress(BaseException):
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        try:
            _stand_still(number)
            if control is not None:
                stopper = _Stopper(control, root)
                _watch_tables(stopper)
                _watch_files(stopper)
            status = run(["--root", root, *arguments])
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
