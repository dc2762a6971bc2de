"""What builds said, kept for a while: STORE/logs/<build>/, a directory a build, named so that the newest sorts last.

    events      a line for each thing that happened, in the words of whoever writes it
    <step>.log  what a step wrote, as it came, up to STEP_LIMIT

A directory belongs to the process that holds a flock on it; without one nobody writes to it any more. Logs are no part
of any object and are never sealed: a power cut may lose the last of them. What cannot be written is not worth a build,
so a writer that fails once is silent from there on and says why in `trouble`.
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

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_LIMIT = 100 << 20  # bytes
KEPT_BUILDS = 100
KEPT_BYTES = 1 << 30
KEPT_SECONDS = 30 * 86400
_WORTH_A_LOOK = 1 << 20  # bytes that one build has added, after which the sum of all is looked at
_SLACK = 10  # builds too many, before somebody looks
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EVENTS = "events"


class BuildLog:
    """The log of a build that goes on. Nothing here raises OSError but the constructor."""

    def __init__(self, logs: str, build: str, limit: int = STEP_LIMIT) -> None:
        """Begin the log of `build` in the directory `logs`. `limit` is in bytes, for each step."""
        self.failure = ""
        self._logs = logs
        self._limit = limit
        self._files: dict[int, IO[bytes]] = {}
        self._sizes: dict[int, int] = {}
        os.mkdir(f"{logs}/{build}", 0o700)
        self._fd = os.open(f"{logs}/{build}", _DIRECTORY)
        try_lock(self._fd, fcntl.LOCK_EX)
        self._events = self._open(_EVENTS)

    def event(self, line: bytes) -> None:
        """Add a line; it holds no newline."""
        self._attempt(lambda: self._events.write(line + b"\n"))

    def output(self, step: int, data: bytes) -> None:
        """Add what a step wrote. Beyond the limit nothing is kept but a note that says so."""
        self._attempt(lambda: self._output(step, data))

    def end(self, step: int) -> None:
        """A step writes no more."""
        if file := self._files.pop(step, None):
            self._attempt(file.close)

    def close(self) -> None:
        """End the log, and remove old ones where they have become too many. Idempotent."""
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
            self.failure = error.strerror or str(error)

    def _prune(self) -> None:
        if sum(self._sizes.values()) > _WORTH_A_LOOK or len(os.listdir(self._logs)) > KEPT_BUILDS + _SLACK:
            prune(self._logs)


@frozen
class StoredLog:
    """A log as it can be read."""

    build: str
    path: str

    @property
    def running(self) -> bool:
        """Whether somebody still writes to it."""
        fd = os.open(self.path, _DIRECTORY)
        try:
            return not try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def events(self) -> list[bytes]:
        """The lines that are whole. Raises OSError."""
        with open(f"{self.path}/{_EVENTS}", "rb") as file:
            return [line for line in file if line.endswith(b"\n")]

    def total(self) -> int:
        """Bytes of all of it; 0 where it has just been removed."""
        try:
            fd = os.open(self.path, _DIRECTORY)
        except FileNotFoundError:
            return 0
        try:
            return _bytes_in(fd)
        finally:
            os.close(fd)

    def size(self, step: int) -> int:
        """Bytes that are kept of what a step wrote."""
        try:
            return os.stat(f"{self.path}/{step}.log").st_size
        except FileNotFoundError:
            return 0

    def open(self, step: int) -> IO[bytes]:
        """What a step wrote. Raises FileNotFoundError where that was nothing."""
        return open(f"{self.path}/{step}.log", "rb")


def build_logs(logs: str) -> list[StoredLog]:
    """The logs that are there, the newest first."""
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
    """Remove the oldest logs, until no more than `builds` are left, of `size` bytes, none older than `seconds`, and none
    of a build before the one that is called `since`.

    What is being written stays. Returns how many went, and their bytes. Raises OSError.
    """
    count = freed = total = 0
    oldest = time.time() - seconds
    parent = os.open(logs, _DIRECTORY)
    try:
        for position, name in enumerate(sorted(os.listdir(parent), reverse=True)):
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                continue  # another process removes them too
            try:
                here = _bytes_in(fd)
                total += here
                new = name >= since and os.fstat(fd).st_mtime >= oldest
                if not (new and position < builds and total <= size) and try_lock(fd, fcntl.LOCK_EX):
                    if not dry_run:
                        remove_tree(parent, name)
                    count += 1
                    freed += here
            finally:
                os.close(fd)
    finally:
        os.close(parent)
    return count, freed


def _bytes_in(directory: int) -> int:
    found = 0
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):  # another process removes it
            found += os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    return found
