"""Memos: digests of the files of a context, so that a key can be made without reading unchanged files again.

STORE/memo/<context> is one file per context directory, replaced by rename:

    file = magic, crc32 of the rows, row*        (little-endian)
    row  = dev, ino, size, mtime and ctime in nanoseconds, sha256 of the content, day of its last use

A row means: a regular file with this lstat(2) result has this content, and no file capabilities. Rows contain no names.
All their values come from the kernel, so the contents of a context cannot forge a row that matches another file.

As in git's index, a file gets a row only if its times were older than one step of the clock when it was examined: any
later write changes its ctime. (Writes through a long-lived mapping change it late; see mmap(2), NOTES.)

Memos are not part of any object and are never sealed. If one is missing or damaged, files are read again. If two builds
write one at the same time, the second file stays.
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

from pybuild.store.system.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS_LIMIT = 1_000_000  # rows of one memo, 76 MB
KEPT_DAYS = 14  # without use, before a row is removed
KEPT_FILES = 200
KEPT_BYTES = 256 << 20
_MAGIC = b"pbmemo1\n"
_HEAD = struct.Struct("<8sI")
_ROW = struct.Struct("<40s36s")
_KEY = struct.Struct("<QQQqq")
_DAY = struct.Struct("<I")
_DAY_SECONDS = 86400
_FINE_STEP = 100_000_000  # nanoseconds; the kernel's clock for file times advances every 1 to 10 ms
_COARSE_STEP = 3_000_000_000  # for filesystems that store times with a resolution of 1 or 2 seconds


def file_key(status: os.stat_result) -> bytes:
    """The key of a file in a memo. A later write, or a change of its attributes, changes the key."""
    return _KEY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_settled(status: os.stat_result, now: int) -> bool:
    """Whether every later change of a file will change its key. `now` is a time in ns, before `status` was read."""
    ctime = status.st_ctime_ns
    step = _FINE_STEP if ctime % 10_000_000 else _COARSE_STEP
    return ctime < now - step and status.st_mtime_ns < now - step


def memo_path(directory: str, context: str) -> str:
    """The path of a context directory's memo in the directory STORE/memo."""
    return f"{directory}/{hashlib.sha256(os.fsencode(os.path.realpath(context))).hexdigest()[:32]}"


class Memo:
    """The rows of one memo, in memory."""

    def __init__(self, path: str) -> None:
        """Read the file at `path`. If it is missing or damaged, the memo is empty."""
        self._path = path
        self._rows = _read(path) or {}
        self._today = int(time.time()) // _DAY_SECONDS
        self._day = _DAY.pack(self._today)
        self._changed = False

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: bytes) -> bytes | None:
        """The sha256 of the file with this key; None if it is unknown."""
        value = self._rows.get(key)
        if value is None:
            return None
        sha256 = value[:32]
        if value[32:] != self._day:
            self.learn(key, sha256)
        return sha256

    def learn(self, key: bytes, sha256: bytes) -> None:
        """Add a row for a file that was settled before it was read, and that has no capabilities."""
        self._rows[key] = sha256 + self._day
        self._changed = True

    def save(self, scratch: str) -> None:
        """Write the memo if it has changed, ignoring errors. `scratch` is an unused path in an ingest directory."""
        if not self._changed:
            return
        self._drop_old()
        body = b"".join(chain.from_iterable(self._rows.items()))
        with suppress(OSError):
            is_new = not os.path.exists(self._path)
            with open(scratch, "xb") as file:
                file.write(_HEAD.pack(_MAGIC, zlib.crc32(body)))
                file.write(body)
            replace_file(os.fsencode(scratch), os.fsencode(self._path))
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
    """The rows of a memo file; None if it is missing or damaged."""
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
    """Whether a memo file can be read and is undamaged."""
    return _read(path) is not None


def memos(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """The paths and statuses of all memos, the most recently written first."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process has removed it
                found.append((entry.path, entry.stat(follow_symlinks=False)))
    yield from sorted(found, key=lambda item: item[1].st_mtime_ns, reverse=True)


def prune(directory: str, *, files: int = KEPT_FILES, size: int = KEPT_BYTES, dry_run: bool = False) -> tuple[int, int]:
    """Remove old memos beyond the newest `files` and beyond a total of `size` bytes, and those that are of no use.

    Returns the number of removed memos and their size in bytes. Raises OSError.
    """
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
