"""File operations that Python's library lacks, or does not offer safely.

Paths that come from an image are opened only by `open_in_root`: the kernel resolves them below a directory descriptor
and refuses to leave it (openat2(2), RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.system.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    exchange,
    openat2,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.values.limits import Limit


def open_in_root(root_fd: int, path: bytes, flags: int) -> int:
    """Open `path` as if `root_fd` were the root directory: symbolic links, even absolute ones, stay inside it.

    Raises OSError as open(2) does.
    """
    return _open(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(directory_fd: int, path: bytes, flags: int) -> int:
    """Open `path` below a directory. Raises OSError: ELOOP for a symbolic link, EXDEV for a path that leaves it."""
    return _open(directory_fd, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def _open(directory_fd: int, path: bytes, flags: int, resolve: int) -> int:
    try:
        return openat2(directory_fd, path or b".", flags, resolve)
    except OSError as error:
        assert error.errno is not None
        # Without the name of the system call: callers put the message into those that users read.
        raise OSError(error.errno, os.strerror(error.errno), path) from None


def file_size(path: str) -> int:
    """The size of a file in bytes; 0 if it does not exist."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def replace_file(path: bytes, target: bytes, directory: int | None = None) -> None:
    """Rename a file to `target`, which it replaces in one step; relative paths start at `directory`.

    rename(2) does that too. But where it replaces a file, ext4 then starts to write the new one to the disk and makes the
    caller wait, 28 to 160 ms for 67 MB. So the two files exchange their names and the old one is removed. A process that
    is killed between the two leaves the old file as `path`. Whoever needs the new file to survive a power cut syncs it,
    here as with rename(2). Raises OSError as rename(2) does: EISDIR if `target` is a directory.
    """
    if _is_regular(target, directory) and _exchanged(path, target, directory):
        try:
            os.unlink(path, dir_fd=directory)
        except IsADirectoryError:  # another process has put a directory there just before
            exchange(path, target, directory)
        else:
            return
    os.rename(path, target, src_dir_fd=directory, dst_dir_fd=directory)


def _is_regular(path: bytes, directory: int | None) -> bool:
    try:
        return stat.S_ISREG(os.stat(path, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _exchanged(path: bytes, target: bytes, directory: int | None) -> bool:
    """Exchange two names. False if that is not possible here: rename(2) then works, or says why not."""
    try:
        exchange(path, target, directory)
    except OSError:
        return False
    return True


def read_regular(fd: int, limit: Limit, name: str) -> bytes:
    """All bytes of an open regular file of at most `limit` bytes. Raises StoreError, with `name`, for any other file."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{name} is not a regular file")
    chunks = []
    left = limit.value + 1
    while left > 0 and (chunk := os.read(fd, min(left, 1 << 20))):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise limit.exceeded(StoreError, f"{name} exceeds the limit of {{}}")
    return b"".join(chunks)


def chunks_of(fd: int, size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of an open file from its current position, in chunks of at most `size`."""
    while chunk := os.read(fd, size):
        yield chunk


def try_lock(fd: int, operation: int) -> bool:
    """Take a flock(2) without waiting; return whether it was taken."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
