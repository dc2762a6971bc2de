"""The reserve: some room that a store keeps, so that gc and rmi work when the disk is full.

Removing things takes room before it gives any: SQLite writes each changed page to its log first, the log and its index
are files, and so is the lease of the process. None of them can be left out without a state in which a kill damages the
store. So the store keeps STORE/reserve/ with a file of the size that the largest of such transactions takes, and some
empty ones for their inodes. A process that frees space removes the files when it needs to. Whoever next opens the store
for writing makes them again, as long as the disk has much more room than they take.
"""

from __future__ import annotations

import os
from contextlib import suppress

from pybuild.store.objects.parts import RESERVE
from pybuild.store.system.files import file_size

_ROOM = "room"
_INODES = ("inode-1", "inode-2", "inode-3", "inode-4")  # the log, its index, the lease, and one to spare
_SLACK = 256 << 10  # bytes: the index of the log, directories, and rows that gc adds
_STEP = 256 << 10  # bytes: the size is a multiple, so that it seldom changes
_SHARE = 8  # a process that adds to the store makes the reserve if it takes less than this part of what is free


def keep_reserve(root: str, tables: int, *, at_once: bool = False) -> None:
    """Make the reserve of the store at `root` if it is missing or too small, and the disk has room for it.

    `tables` is the size of the tables in bytes, including what is still in SQLite's log. `at_once`: also if it takes all that is free, because a process has just freed it.
    """
    # A transaction writes each page to the log at most once; moving the log into the database can then enlarge that, too.
    wanted = -(-(2 * tables + _SLACK) // _STEP) * _STEP
    if reserve_size(root) >= wanted:
        return
    with suppress(OSError):  # a disk without room, or a file system that reserves nothing
        free = os.statvfs(root)
        bytes_allow = wanted * _SHARE <= free.f_bavail * free.f_frsize
        inodes_allow = not free.f_files or (len(_INODES) + 1) * _SHARE <= free.f_favail
        if at_once or (bytes_allow and inodes_allow):
            _make(RESERVE.path(root), wanted)


def _make(directory: str, size: int) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        for name in _INODES:
            os.close(_create(f"{directory}/{name}"))
        fd = _create(f"{directory}/{_ROOM}")
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError:
        _remove(directory)
        raise


def release_reserve(root: str) -> bool:
    """Remove the reserve; return whether there was one. Raises OSError."""
    return _remove(RESERVE.path(root))


def reserve_size(root: str) -> int:
    """The size of the reserve in bytes; 0 if there is none."""
    return file_size(f"{RESERVE.path(root)}/{_ROOM}")


def _remove(directory: str) -> bool:
    found = False
    for name in (_ROOM, *_INODES):
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
            found = True
    return found


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
