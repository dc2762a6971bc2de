"""Private working directories inside the store, for what is on its way to becoming an object.

STORE/ingest/<id>/ belongs to the process that holds a flock on it. When the process ends, however it ends, the
kernel drops the lock, and the next user of the store removes the directory: nothing needs to be remembered.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from pybuild.store.system.directories import remove_tree
from pybuild.store.system.files import try_lock

if TYPE_CHECKING:
    from types import TracebackType

_LEFT = (errno.EPERM, errno.EACCES, errno.ENOTEMPTY)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Ingest:
    """One working directory; removed, with all that is left in it, on close. A context manager."""

    def __init__(self, parent: str) -> None:
        while True:
            name = os.urandom(8).hex()
            path = f"{parent}/{name}"
            os.mkdir(path, 0o700)
            # A sweeper may have seen the directory before we locked it, and removed it.
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
        """A path in this directory that nothing has yet."""
        self._count += 1
        return f"{self.path}/{self._count}"

    def new_directory(self) -> str:
        """An empty directory in this one."""
        path = self.new_path()
        os.mkdir(path, 0o700)
        return path

    def close(self) -> None:
        """Remove the directory. Idempotent."""
        if self.fd < 0:
            return
        parent = os.open(self._parent, _DIRECTORY)
        try:
            remove_tree(parent, self.name)
        except OSError as error:
            # A step with other ids was here when we were stopped, or a worker writes its last file: that is for `sweep`.
            if error.errno not in _LEFT:
                raise
        finally:
            os.close(parent)
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def live_leases(parent: str, without: str) -> list[str]:
    """The names of the working directories, but for one, whose processes live."""
    found = []
    for name in os.listdir(parent):
        try:
            fd = os.open(f"{parent}/{name}", _DIRECTORY)
        except OSError:
            continue
        if name != without and not try_lock(fd, fcntl.LOCK_SH):
            found.append(name)
        os.close(fd)
    return found


def sweep(parent: str) -> list[str]:
    """Remove the working directories of processes that are gone; name those that this process may not remove."""
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
                left.append(name)  # by a step that had other ids
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # a worker outlives its main process for a moment, and still writes
                    raise
            finally:
                os.close(fd)
    finally:
        os.close(parent_fd)
    return left
