"""The logs of the last builds: STORE/logs/<build>/, one directory per build. The names sort by time.

    events      one line per event, in the format of the caller
    <step>.log  the output of a step, unchanged, up to the limit log-bytes

The process that writes a log holds a flock on its directory. Logs are not part of any object and are never sealed: a
power cut can lose the end of them. A log that cannot be written must not fail the build: after the first error the
writer drops everything, and `failure` says why.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from pybuild.store.system.directories import remove_tree
from pybuild.store.system.files import try_lock
from pybuild.values import frozen
from pybuild.values.errors import reason_of
from pybuild.values.limits import LOG_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_BUILDS = 100
KEPT_BYTES = 1 << 30
KEPT_SECONDS = 30 * 86400
_PRUNE_BYTES = 1 << 20  # a build whose log exceeds this prunes the logs
_PRUNE_SLACK = 10  # a build also prunes them if there are more than this many beyond KEPT_BUILDS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EVENTS = "events"


class BuildLog:
    """Writes the log of a running build. Only the constructor raises OSError."""

    def __init__(self, logs: str, build: str, limit: int | None = None) -> None:
        """Start the log of `build` in the directory `logs`. Each step can write `limit` bytes, by default the limit LOG_BYTES."""
        self.failure = ""
        self._logs = logs
        self._limit = LOG_BYTES.value if limit is None else limit
        self._files: dict[int, IO[bytes]] = {}
        self._sizes: dict[int, int] = {}
        os.mkdir(f"{logs}/{build}", 0o700)
        self._fd = os.open(f"{logs}/{build}", _DIRECTORY)
        try_lock(self._fd, fcntl.LOCK_EX)
        self._events = self._open(_EVENTS)

    def event(self, line: bytes) -> None:
        """Add an event. `line` contains no newline."""
        self._attempt(lambda: self._events.write(line + b"\n"))

    def output(self, step: int, data: bytes) -> None:
        """Add output of a step. Beyond the limit it is dropped, and a note in the log says so."""
        self._attempt(lambda: self._output(step, data))

    def end(self, step: int) -> None:
        """Close the log of a step that has ended."""
        if file := self._files.pop(step, None):
            self._attempt(file.close)

    def close(self) -> None:
        """Close the log, and remove old logs if there are too many. Idempotent."""
        if self._fd < 0:
            return
        for step in list(self._files):
            self.end(step)
        self._attempt(self._events.close)
        os.close(self._fd)
        self._fd = -1
        self._attempt(self._prune)

    def _open(self, name: str) -> IO[bytes]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(name, flags, 0o600, dir_fd=self._fd), "wb", buffering=0)

    def _output(self, step: int, data: bytes) -> None:
        if step not in self._files:
            self._files[step] = self._open(f"{step}.log")
            self._sizes[step] = 0
        room = self._limit - self._sizes[step]
        if room < 0:
            return
        self._sizes[step] += len(data)
        self._files[step].write(data[:room])
        if len(data) > room:
            self._files[step].write(b"\n[the log of a step ends at %d bytes]\n" % self._limit)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.failure:
            return
        try:
            action()
        except OSError as error:
            self.failure = reason_of(error)

    def _prune(self) -> None:
        if sum(self._sizes.values()) > _PRUNE_BYTES or len(os.listdir(self._logs)) > KEPT_BUILDS + _PRUNE_SLACK:
            prune(self._logs)


@frozen
class StoredLog:
    """A log in the store, to be read."""

    build: str
    path: str

    @property
    def running(self) -> bool:
        """Whether the build is still running."""
        fd = os.open(self.path, _DIRECTORY)
        try:
            return not try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def events(self) -> list[bytes]:
        """The complete lines of the event log. Raises OSError."""
        with open(f"{self.path}/{_EVENTS}", "rb") as file:
            return [line for line in file if line.endswith(b"\n")]

    def total(self) -> int:
        """The size of the whole log in bytes; 0 if it was removed meanwhile."""
        try:
            fd = os.open(self.path, _DIRECTORY)
        except FileNotFoundError:
            return 0
        try:
            return _bytes_in(fd)
        finally:
            os.close(fd)

    def size(self, step: int) -> int:
        """The size of the stored output of a step in bytes."""
        try:
            return os.stat(f"{self.path}/{step}.log").st_size
        except FileNotFoundError:
            return 0

    def open(self, step: int) -> IO[bytes]:
        """The stored output of a step. Raises FileNotFoundError if it wrote nothing."""
        return open(f"{self.path}/{step}.log", "rb")


def build_logs(logs: str) -> list[StoredLog]:
    """All logs, the newest first."""
    names = sorted(os.listdir(logs), reverse=True) if os.path.isdir(logs) else []
    return [StoredLog(name, f"{logs}/{name}") for name in names]


def prune(
    logs: str,
    *,
    builds: int = KEPT_BUILDS,
    size: int = KEPT_BYTES,
    seconds: float = KEPT_SECONDS,
    since: str = "",
    dry_run: bool = False,
) -> tuple[int, int]:
    """Remove the logs beyond the newest `builds`, beyond a total of `size` bytes, and older than `seconds`.

    Also remove the logs of builds before the build `since`. Logs of running builds stay.
    Returns the number of removed logs and their size in bytes. Raises OSError.
    """
    count = freed = total = 0
    oldest = time.time() - seconds
    parent = os.open(logs, _DIRECTORY)
    try:
        for position, name in enumerate(sorted(os.listdir(parent), reverse=True)):
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                continue  # another process has removed it
            try:
                log_size = _bytes_in(fd)
                total += log_size
                new = name >= since and os.fstat(fd).st_mtime >= oldest
                if not (new and position < builds and total <= size) and try_lock(fd, fcntl.LOCK_EX):
                    if not dry_run:
                        remove_tree(parent, name)
                    count += 1
                    freed += log_size
            finally:
                os.close(fd)
    finally:
        os.close(parent)
    return count, freed


def _bytes_in(directory: int) -> int:
    total = 0
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):  # another process has removed it
            total += os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    return total
