"""The hint for a RUN that might have failed because the disk of the store is full."""

from __future__ import annotations

from pybuild.store.system.disk_full import STORE_HINT, room_for

_LOW_SIZE = 1 << 20  # bytes
_LOW_INODES = 16


def full_disk_hint(root: str, *, says_full: bool) -> str | None:
    """What the room on the disk of the store at `root` says about a failed step; None if it is no reason to fail.

    `says_full`: the output of the step has the kernel's words for a full disk.
    """
    try:
        room = room_for(root)
    except OSError:
        return None
    if room.size < _LOW_SIZE or (room.inodes is not None and room.inodes < _LOW_INODES):
        return f"the disk of the store {root} is full ({room}); {STORE_HINT}"
    if says_full:
        return f"the step says that a disk is full: the store has {room}; --shm-size sets the size of /dev/shm"
    return None
