"""Files with holes: ranges that no write has touched. They read as zeros and take no space on the disk.

A hole is read without asking the kernel for its zeros, which would fill the page cache with them. SEEK_DATA of lseek(2)
finds the end of a hole; a filesystem that does not support it answers that everything is data.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ZEROS = bytes(1 << 20)  # the chunk of every hole: whoever is given this very object need not look at it
MIN_HOLE = 1 << 16  # bytes; to read or write a shorter run of zeros takes no longer than to skip it


def chunks_of_file(fd: int, start: int = 0) -> Iterator[bytes]:
    """The bytes of an open regular file from `start` to its present end, in chunks of at most 1 MiB. Raises OSError.

    A hole comes as ZEROS again and again, and a shorter rest. Less comes if the file is truncated meanwhile.
    """
    position, end = start, os.fstat(fd).st_size
    while position < end:
        hole = _data_after(fd, position, end) - position
        if hole < MIN_HOLE:
            chunk = os.pread(fd, min(len(ZEROS), end - position), position)
            if not chunk:
                return
            position += len(chunk)
            yield chunk
            continue
        position += hole
        while hole:
            size = min(hole, len(ZEROS))
            hole -= size
            yield ZEROS if size == len(ZEROS) else ZEROS[:size]


def _data_after(fd: int, position: int, end: int) -> int:
    """Where the next data of a file begins, at `position` or behind it; at most `end`."""
    try:
        return min(os.lseek(fd, position, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return end
        if error.errno == errno.EINVAL:  # not supported
            return position
        raise
