"""What files of contexts held when they were last read, so that a file that did not change is not read for a key again.

STORE/memo/<context> is one file for each context directory, replaced by rename:

    file = magic, crc32 of the rows, row*        (little-endian)
    row  = dev, ino, size, mtime and ctime in nanoseconds, sha256 of the content, day on which it was last asked for

A row says: a regular file that lstat(2) shows like this has this content and no file capabilities. Names are in none,
and what is in a row comes from the kernel alone, so that no content of a context can make a row that fits another file. As
in git's index a row is only made of a file whose times were older, when it was looked at, than a clock's step: whoever
writes to it later moves its ctime. (Writes through a mapping that goes on for long move it late; see mmap(2), NOTES.)

A memo is no part of any object and is never sealed. One that is missing or damaged costs the time to read files again;
of two builds that write one at the same time the second one's stays.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS_LIMIT = 1_000_000  # rows of one memo, 76 MB
KEPT_DAYS = 14  # that a row stays without being asked for
KEPT_FILES = 200
KEPT_BYTES = 256 << 20
_MAGIC = b"pbmemo1\n"
_HEAD = struct.Struct("<8sI")
_ROW = struct.Struct("<40s36s")
_KEY = struct.Struct("<QQQqq")
_DAY = struct.Struct("<I")
_DAY_SECONDS = 86400
_FINE_STEP = 100_000_000  # nanoseconds; the kernel's clock for files goes on every 1 to 10 ms
_COARSE_STEP = 3_000_000_000  # where times are whole seconds, or every second one


def file_key(status: os.stat_result) -> bytes:
    """What a file looks like: who writes to it afterwards, or sets an attribute, makes it look otherwise."""
    return _KEY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_settled(status: os.stat_result, now: int) -> bool:
    """Whether any later change of a file will show, at a time `now` (ns) that was taken before its status was."""
    ctime = status.st_ctime_ns
    step = _FINE_STEP if ctime % 10_000_000 else _COARSE_STEP
    return ctime < now - step and status.st_mtime_ns < now - step


def memo_path(directory: str, context: str) -> str:
    """Where in STORE/memo the memo of a context directory is."""
    return f"{directory}/{hashlib.sha256(os.fsencode(os.path.realpath(context))).hexdigest()[:32]}"


class Memo:
    """The rows of one memo, in memory."""

    def __init__(self, path: str) -> None:
        """Read what is at `path`; what cannot be read is empty."""
        self._path = path
        self._rows = _read(path) or {}
        self._today = int(time.time()) // _DAY_SECONDS
        self._day = _DAY.pack(self._today)
        self._changed = False

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: bytes) -> bytes | None:
        """The sha256 of the file that looks like `key`."""
        value = self._rows.get(key)
        if value is None:
            return None
        sha256 = value[:32]
        if value[32:] != self._day:
            self.learn(key, sha256)
        return sha256

    def learn(self, key: bytes, sha256: bytes) -> None:
        """Remember the content of a file that was settled before it was read, and has no capabilities."""
        self._rows[key] = sha256 + self._day
        self._changed = True

    def save(self, scratch: str) -> None:
        """Write what is new; `scratch` is a free path in an ingest. What cannot be written is not worth a build."""
        if not self._changed:
            return
        self._drop_old()
        body = b"".join(chain.from_iterable(self._rows.items()))
        with suppress(OSError):
            is_new = not os.path.exists(self._path)
            with open(scratch, "xb") as file:
                file.write(_HEAD.pack(_MAGIC, zlib.crc32(body)))
                file.write(body)
            os.rename(scratch, self._path)
            self._changed = False
            if is_new:
                prune(os.path.dirname(self._path))

    def _drop_old(self) -> None:
        oldest = self._today - KEPT_DAYS
        days = {key: _DAY.unpack_from(value, 32)[0] for key, value in self._rows.items() if value[32:] != self._day}
        for key, day in days.items():
            if day < oldest:
                del self._rows[key]
        if len(self._rows) > ROWS_LIMIT:
            for key in sorted(self._rows, key=lambda key: days.get(key, self._today))[: len(self._rows) - ROWS_LIMIT]:
                del self._rows[key]


def _read(path: str) -> dict[bytes, bytes] | None:
    """The rows of a file; None where they cannot be read or are damaged."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _HEAD.size + ROWS_LIMIT * _ROW.size:
                return None
            data = file.read()
    except OSError:
        return None
    body = memoryview(data)[_HEAD.size :]
    if len(data) < _HEAD.size or len(body) % _ROW.size or _HEAD.unpack_from(data) != (_MAGIC, zlib.crc32(body)):
        return None
    return dict(_ROW.iter_unpack(body))


def is_whole(path: str) -> bool:
    """Whether a memo can be read."""
    return _read(path) is not None


def memos(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """The memos that are there, the latest written first."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process removes them too
                found.append((entry.path, entry.stat(follow_symlinks=False)))
    yield from sorted(found, key=lambda item: item[1].st_mtime_ns, reverse=True)


def prune(directory: str, *, files: int = KEPT_FILES, size: int = KEPT_BYTES, dry_run: bool = False) -> tuple[int, int]:
    """Remove the memos that were not written for the longest time until no more than `files` of `size` bytes are left,
    and those that are of no use; return how many went, and their bytes. Raises OSError."""
    count = freed = total = 0
    oldest = time.time() - KEPT_DAYS * _DAY_SECONDS
    for position, (path, status) in enumerate(memos(directory)):
        total += status.st_size
        if position < files and total <= size and status.st_mtime >= oldest and is_whole(path):
            continue
        count += 1
        freed += status.st_size
        if not dry_run:
            with suppress(FileNotFoundError):
                os.unlink(path)
    return count, freed
