"""Full and read-only disks: the errors that name the file system, and how much of it is free."""

from __future__ import annotations

import errno
import os

from pybuild.store.errors import CannotWrite, NoSpace, ReadOnly
from pybuild.values import frozen
from pybuild.values.sizes import human_size

FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_PROBE_SIZE = 64 << 10  # bytes: more than the index of SQLite's log
STORE_HINT = "pybuild gc --all frees space in the store; --root chooses another place for it"
OUTPUT_HINT = "choose another destination, or free space there"
SCRATCH_HINT = "set TMPDIR to a directory with more space"


@frozen
class Room:
    """What is free on the file system of a path, for this user."""

    mount_point: str
    size: int  # bytes
    inodes: int | None  # None: the file system has no limit

    def __str__(self) -> str:
        inodes = "" if self.inodes is None else f" and {self.inodes} inodes"
        return f"{human_size(self.size)}{inodes} free on {self.mount_point}"


def room_for(path: str) -> Room:
    """The room on the file system of a path. The path need not exist; its nearest existing parent counts.

    Raises OSError.
    """
    place = os.path.realpath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    device = os.stat(place).st_dev
    while place != "/" and os.stat(os.path.dirname(place)).st_dev == device:
        place = os.path.dirname(place)
    # Without an inode limit the file system reports f_files = 0, statvfs(3).
    return Room(place, status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def free_size(path: str) -> int:
    """The bytes that this user can still write to the file system of an existing path. Raises OSError."""
    status = os.statvfs(path)
    blocks = status.f_bavail
    if os.geteuid() == 0:
        # Root may use the blocks that ext4 keeps for root, but not those that it keeps for its own tables: 2 % of all
        # blocks, of which f_blocks counts only some, and at most 4096.
        blocks = max(blocks, status.f_bfree - min(status.f_blocks // 25, 4096))
    return blocks * status.f_frsize


def require_room(path: str, size: int) -> None:
    """Raise NoSpace if the file system of an existing path has less than `size` bytes free. Raises OSError."""
    if free_size(path) < size:
        raise NoSpace(full_message(path, path), hint=STORE_HINT)


def require_space(path: str, size: int, purpose: str) -> None:
    """Raise NoSpace, which says that `purpose` takes `size` bytes, if less is free. Raises OSError."""
    if free_size(path) < size:
        raise NoSpace(f"{purpose}: {human_size(size)} is more than what is left: {room_for(path)}", hint=STORE_HINT)


def full_message(what: str, path: str, number: int = errno.ENOSPC) -> str:
    """The message about a full disk: what could not be written, and the room on the file system of `path`."""
    try:
        room = f" ({room_for(path)})"
    except OSError:
        room = ""
    return f"{what}: {os.strerror(number)}{room}"


def no_space(error: OSError, where: str, *, path: str = "", hint: str = STORE_HINT) -> OSError | NoSpace:
    """NoSpace if the disk, the quota or the inode table is full; any other error unchanged.

    `where` is what could not be written: a path, or something else that lies at `path`.
    """
    if error.errno in FULL:
        return NoSpace(full_message(where, path or where, error.errno), hint=hint)
    return error


def cannot_write(error: OSError, where: str, *, path: str = "") -> OSError | CannotWrite:
    """NoSpace for a full disk, ReadOnly for a place where this user writes nothing; any other error unchanged."""
    if error.errno in _FORBIDDEN:
        return ReadOnly(f"{where}: {os.strerror(error.errno)}", hint="choose another place with --root")
    return no_space(error, where, path=path)


def obstacle_to_writing(directory: str) -> OSError | None:
    """Why a file in this directory cannot grow now, found by trying; None: it can."""
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _PROBE_SIZE)
        finally:
            os.close(fd)
    except OSError as error:
        return error if error.errno in (*FULL, *_FORBIDDEN) else None
    return None
