"""Working directories inside the store, for files on their way to becoming objects.

STORE/ingest/<id>/ belongs to the process that holds a flock on it: this lock is the process's lease. When the process
ends, in whatever way, the kernel drops the lock, and the next process that opens the store removes the directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.system.directories import opened_directory, remove_tree
from pybuild.store.system.files import try_lock

if TYPE_CHECKING:
    from types import TracebackType

READERS = "readers"
_LEAVE_TO_SWEEP = (errno.EPERM, errno.EACCES, errno.ENOTEMPTY, errno.EMFILE, errno.ENFILE)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Ingest:
    """One working directory; `close` removes it with everything in it. A context manager."""

    def __init__(self, parent: str) -> None:
        while True:
            name = os.urandom(8).hex()
            path = f"{parent}/{name}"
            os.mkdir(path, 0o700)
            # `sweep` in another process can remove the directory before it is locked here.
            try:
                self.fd = os.open(path, _DIRECTORY)
            except FileNotFoundError:
                continue
            if try_lock(self.fd, fcntl.LOCK_EX) and os.fstat(self.fd).st_nlink:
                break
            os.close(self.fd)
        self._parent = parent
        self.name = name
        self._count = 0
        self.path = path

    def new_path(self) -> str:
        """An unused path in this directory."""
        self._count += 1
        return f"{self.path}/{self._count}"

    def path_of(self, name: str) -> str:
        """The path of the file with this name in this directory; `new_path` never returns it. The name is not a number."""
        return f"{self.path}/{name}"

    def new_directory(self) -> str:
        """A new empty directory in this directory."""
        path = self.new_path()
        os.mkdir(path, 0o700)
        return path

    def close(self) -> None:
        """Remove the directory. Idempotent."""
        if self.fd < 0:
            return
        try:
            parent = os.open(self._parent, _DIRECTORY)
            try:
                remove_tree(parent, self.name)
            finally:
                os.close(parent)
        except OSError as error:
            # EPERM, EACCES: files of a stopped step belong to other ids. ENOTEMPTY: a worker is writing its last file.
            # EMFILE, ENFILE: that is what the build has failed for.
            if error.errno not in _LEAVE_TO_SWEEP:
                raise
        finally:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class IngestElsewhere(Ingest):
    """The working directory of a process that cannot write to the store: a temporary directory, made when it is used."""

    def __init__(self) -> None:
        self.fd = -1
        self.name = self.path = self._parent = ""
        self._count = 0

    def new_path(self) -> str:
        """An unused path in this directory. Raises NoSpace if no directory for temporary files can take it."""
        self._make()
        return super().new_path()

    def path_of(self, name: str) -> str:
        """The path of the file with this name in this directory. Raises NoSpace as `new_path`."""
        self._make()
        return super().path_of(name)

    def _make(self) -> None:
        if self.fd < 0:
            from pybuild.store.system.scratch import scratch_directory

            super().__init__(scratch_directory("work"))

    def close(self) -> None:
        """Remove the directory, if there is one. Idempotent."""
        super().close()
        if self._parent:
            with suppress(OSError):
                os.rmdir(self._parent)
            self._parent = ""


def live_leases(parent: str, without: str) -> list[str]:
    """The names of the working directories, except one, whose processes are running.

    READERS stands for the processes that read the store without being able to write: they have `parent` locked.
    """
    leases = []
    with opened_directory(parent) as fd:
        if not try_lock(fd, fcntl.LOCK_EX):
            leases.append(READERS)
    for name in os.listdir(parent):
        try:
            fd = os.open(f"{parent}/{name}", _DIRECTORY)
        except OSError:
            continue
        if name != without and not try_lock(fd, fcntl.LOCK_SH):
            leases.append(name)
        os.close(fd)
    return leases


def sweep(parent: str) -> list[str]:
    """Remove the working directories of ended processes; return the names of those it has no permission to remove."""
    left = []
    parent_fd = os.open(parent, _DIRECTORY)
    try:
        for name in os.listdir(parent_fd):
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
            except OSError:
                continue
            try:
                if try_lock(fd, fcntl.LOCK_EX):
                    remove_tree(parent_fd, name)
            except PermissionError:
                left.append(name)  # files of a step that had other ids
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # a worker outlives its main process briefly, and is still writing
                    raise
            finally:
                os.close(fd)
    finally:
        os.close(parent_fd)
    return left
