"""The times of files in the tar of a layer: as they are, no newer than some time, or one time for all.

A clamp is None, the newest time allowed in seconds since 1970, or what `always` makes of the one time. It is one number, as the
tables of the store and the jobs of workers hold it.
"""

from __future__ import annotations


def always(time: int) -> int:
    """The clamp that gives all files this time, which is 0 or later."""
    return -1 - time


def stored_time(mtime: int, clamp: int | None) -> int:
    """The time that a file with this mtime has in the tar."""
    if clamp is None:
        return mtime
    return min(mtime, clamp) if clamp >= 0 else -1 - clamp


def newest_time(clamp: int | None) -> int | None:
    """The newest time that a file can have in the tar; None: any."""
    return clamp if clamp is None or clamp >= 0 else -1 - clamp
