"""The few file operations that Python's library does not offer, or does not offer safely.

Paths that come from an image are only ever opened by `open_in_root`: the kernel resolves them below a directory
descriptor and refuses to leave it (openat2(2), RESOLVE_IN_ROOT). Trees are removed by `remove_tree`, which walks
with descriptors: `shutil.rmtree` and `os.walk` fail, or silently stop, on trees deeper than PATH_MAX.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.errors import NoSpace, StoreError
from pybuild.store.system.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYNC_FILE_RANGE_WRITE = 0x02
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def open_in_root(root_fd: int, path: bytes, flags: int) -> int:
    """Open `path` as if `root_fd` were the root directory; links, also absolute ones, stay inside it.

    Raises OSError as open(2) does.
    """
    return openat2(root_fd, path or b".", flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(directory_fd: int, path: bytes, flags: int) -> int:
    """Open `path` below a directory; a symbolic link anywhere in it is ELOOP, leaving the directory EXDEV."""
    return openat2(directory_fd, path or b".", flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def start_writing(fd: int, offset: int, size: int) -> None:
    """Have the kernel begin to write a part of a file to its device, and don't wait for it: `syncfs` has less to do then.

    Source: sync_file_range(2), SYNC_FILE_RANGE_WRITE. It is a hint: where it is not understood nothing happens.
    """
    _libc().sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


def remove_tree(parent_fd: int, name: str | bytes) -> None:
    """Remove a file or a whole tree. Idempotent: a name that does not exist is no error.

    Depth is bounded by nothing but memory: the way back up is ".." of the directory at hand, so that only a few
    descriptors are open at any depth. Directories without permissions are made removable first.
    """
    if _unlink(parent_fd, name):
        return
    fd = _enter(parent_fd, name)
    try:
        # Of each directory on the way down, the sub-directories that are still there; the last of each is at hand.
        pending = [_clear(fd)]
        while pending:
            if pending[-1]:
                child = _enter(fd, pending[-1][-1])
                os.close(fd)
                fd = child
                pending.append(_clear(fd))
                continue
            pending.pop()
            if pending:
                up = os.open("..", _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = up
                os.rmdir(pending[-1].pop(), dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)


def _unlink(parent_fd: int, name: str | bytes) -> bool:
    """Remove what is no directory; answer whether nothing is left."""
    try:
        os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    return True


def _enter(parent_fd: int, name: str | bytes) -> int:
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        return os.open(".", _DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


def _clear(fd: int) -> list[bytes]:
    """Remove the files and the empty directories of a directory; name the sub-directories that are still there."""
    with os.scandir(fd) as entries:
        names = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    left = []
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
        else:
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError:
                left.append(name)
    return left


def size_of(path: str) -> int:
    """The bytes of a file; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def tree_size(directory_fd: int) -> int:
    """The bytes that a directory and all below it take on the disk. Files with several names count once.

    Walks as `remove_tree` does, and changes nothing. Raises PermissionError at what only others may look into, and
    OSError (ESTALE) where somebody moves directories meanwhile: the way up would lead elsewhere.
    """
    seen: set[tuple[int, int]] = set()
    size, pending = _listed(directory_fd, seen)
    stack = [(os.fstat(directory_fd).st_ino, pending)]
    fd = os.dup(directory_fd)
    try:
        while stack:
            if stack[-1][1]:
                child = os.open(stack[-1][1].pop(), _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = child
                more, pending = _listed(fd, seen)
                size += more
                stack.append((os.fstat(fd).st_ino, pending))
                continue
            stack.pop()
            if stack:
                up = os.open("..", _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = up
                if os.fstat(fd).st_ino != stack[-1][0]:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    finally:
        os.close(fd)
    return size


def _listed(fd: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """The bytes of the files of a directory that were not seen before, with its own; and its sub-directories."""
    size = os.fstat(fd).st_blocks * 512
    directories = []
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # a step is at work here
            if stat.S_ISDIR(status.st_mode):
                directories.append(entry.name)
            elif status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                size += status.st_blocks * 512
    return size, directories


def read_regular(fd: int, limit: int, what: str) -> bytes:
    """All bytes of an open regular file of at most `limit` bytes; raise StoreError for anything else."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{what} is not a regular file")
    chunks = []
    left = limit + 1
    while left > 0 and (chunk := os.read(fd, min(left, 1 << 20))):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise StoreError(f"{what} exceeds {limit} bytes")
    return b"".join(chunks)


def chunks_of(fd: int, size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of an open file, from its present position, in pieces of at most `size`."""
    while chunk := os.read(fd, size):
        yield chunk


def try_lock(fd: int, operation: int) -> bool:
    """flock(2) without waiting; answer whether the lock was taken."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def no_space(error: OSError, where: str) -> OSError | NoSpace:
    """The StoreError for a full disk, quota or inode table; any other error as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{where}: {os.strerror(error.errno)}", hint="free some space, or choose another --root")
    return error


@contextmanager
def named_layer(name: object) -> Iterator[None]:
    """Say in every error of the block which layer it is about."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"layer {name}: {error}", hint=error.hint) from error
    except OSError as error:
        raise no_space(error, f"layer {name}") from error
