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
