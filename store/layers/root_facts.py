"""What stat(2) says about every file of a root directory, to find out later which of them a command has changed.

Whoever changes a file, its content, owner, mode or attributes, changes its ctime too, and cannot set it back: so a file of
which device, inode, size, mtime and ctime are as they were is unchanged, and nobody has to read it. The exception is a file
that was changed within the same tick of the clock in which the facts were taken. `settle` lets the clock of the filesystem
pass; where that does not help (a clock of whole seconds), `Facts.began` tells of which files the facts prove nothing.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from dataclasses import field
from typing import TYPE_CHECKING, TypeAlias

from pybuild.store.layers.tree_files import DirectoryCache
from pybuild.store.system.directories import scan
from pybuild.store.system.syscalls import birth_time
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

# Device, inode, type and mode, number of names, size, mtime and ctime in ns.
Fact: TypeAlias = tuple[int, int, int, int, int, int, int]
INODE, MODE, NAMES, SIZE, MTIME, CTIME = 1, 2, 3, 4, 5, 6  # where they are in a fact

_FACT = struct.Struct("<QQIQQqq")
_BIRTH = struct.Struct("<q")
_HEAD = struct.Struct("<QQqQQ")  # number of facts, of births, began, bytes of the paths of either
_MAX_WAIT = 0.05  # seconds; clocks of kernels tick every 1 to 10 ms
_PAUSE = 0.0005


@frozen
class Facts:
    """The facts about the files of a root directory, by path; the root itself is b"".

    `births` has the time of birth of some files (0: unknown), to tell a file that was made anew from the old one, where an
    inode can be used again. `began`: a command that began after the facts were taken changed nothing before this ctime, in
    ns; of a file whose ctime is not older the facts prove nothing. 0: they prove nothing at all.
    """

    files: dict[bytes, Fact]
    births: dict[bytes, int] = field(default_factory=dict)
    began: int = 0

    def unchanged(self, path: bytes, now: Fact) -> bool:
        """Whether the facts prove that a file is as it was. For directories: without what is in them."""
        return self.files.get(path) == now and now[CTIME] < self.began

    def encode(self) -> bytes:
        """The bytes of a file, for `decode`."""
        paths, births = b"\0".join(self.files), b"\0".join(self.births)
        return b"".join(
            (
                _HEAD.pack(len(self.files), len(self.births), self.began, len(paths), len(births)),
                *(_FACT.pack(*fact) for fact in self.files.values()),
                *(_BIRTH.pack(birth) for birth in self.births.values()),
                paths,
                births,
            )
        )

    @staticmethod
    def decode(data: bytes) -> Facts:
        """Read the result of `encode`. The file is pybuild's own, so nothing is checked."""
        count, birth_count, began, paths_size, _ = _HEAD.unpack_from(data)
        at = _HEAD.size
        facts = _FACT.iter_unpack(data[at : (at := at + count * _FACT.size)])
        births = _BIRTH.iter_unpack(data[at : (at := at + birth_count * _BIRTH.size)])
        paths = data[at : (at := at + paths_size)].split(b"\0") if count else []
        named = data[at:].split(b"\0") if birth_count else []
        return Facts(dict(zip(paths, facts, strict=True)), {n: b for n, (b,) in zip(named, births, strict=True)}, began)


def look(root_fd: int, leave_alone: Set[bytes] = frozenset()) -> dict[bytes, Fact]:
    """The facts about everything below a directory to which no process writes, without the paths to leave alone.

    Raises OSError. Measured: 3.5 us a file.
    """
    found = {b"": fact_of(os.fstat(root_fd))}
    directories = DirectoryCache(root_fd)
    pending = [b""]
    try:
        while pending:
            prefix = pending.pop()
            fd, _ = directories.locate(prefix + b".")
            with scan(fd) as entries:
                for entry in entries:
                    path = prefix + os.fsencode(entry.name)
                    if path in leave_alone:
                        continue
                    fact = found[path] = fact_of(entry.stat(follow_symlinks=False))
                    if stat.S_ISDIR(fact[MODE]):
                        pending.append(path + b"/")
    finally:
        directories.close()
    return found


def fact_of(status: os.stat_result) -> Fact:
    """The facts that are remembered of a file."""
    return (
        status.st_dev, status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def births(root_fd: int, paths: Iterable[bytes]) -> dict[bytes, int]:
    """The time of birth of files that exist."""
    directories = DirectoryCache(root_fd)
    try:
        return {path: birth_time(*directories.locate(path)) for path in paths}
    finally:
        directories.close()


def settle(facts: Facts, scratch_fd: int) -> Facts:
    """The same facts, with `began`: what a command changes from now on has another ctime.

    `scratch_fd` is a directory on the same filesystem, whose clock is asked by making a file there: it can be that of another
    machine. Waits for its next tick, some milliseconds at most. Raises OSError.
    """
    newest = max((fact[CTIME] for fact in facts.files.values()), default=0)
    name = f"clock-{os.getpid()}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=scratch_fd)
    try:
        end = time.monotonic() + _MAX_WAIT
        while (began := os.fstat(fd).st_ctime_ns) <= newest and time.monotonic() < end:
            time.sleep(_PAUSE)
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)
        os.unlink(name, dir_fd=scratch_fd)
    return Facts(facts.files, facts.births, began)
