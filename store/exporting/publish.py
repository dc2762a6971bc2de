"""Writing a file of the user completely or not at all.

The file has no name while it is written (open(2), O_TMPFILE), so a process that is killed leaves nothing behind. Then it
gets a temporary name in the same directory, and takes its final name at once. If that replaces a file, the two exchange
their names and the old one is removed (`replace_file` says why). A process killed within these few system calls leaves a
file with a temporary name, the new one before the exchange, the old one after it; the final name always means one of the
two, complete. A directory has a temporary name while it is filled, and a lock: the next output to the same name removes
those of killed processes.

The files are not synced to the disk, like those that cp(1) writes. After a power cut one can be empty, and the old one is
gone: the user exports again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.system.directories import remove_tree
from pybuild.store.system.disk_full import OUTPUT_HINT, no_space
from pybuild.store.system.files import replace_file, try_lock
from pybuild.store.system.holes import SparseFile, buffered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


STDOUT = "-"
_BUFFER = 1 << 20
_MAX_LINKS = 40  # the kernel's MAXSYMLINKS
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR)  # the filesystem lacks O_TMPFILE, or the kernel


def nothing() -> None:
    """Do nothing."""


@contextmanager
def replacing(destination: str) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `destination` if the block succeeds. If it fails, `destination` is unchanged.

    Pipes and devices (/dev/null, a FIFO) cannot be replaced and are written to directly. So are files that are open
    already: STDOUT, and names such as /dev/stdout and /proc/self/fd/5. If `destination` is another symbolic link, its
    target is replaced. Raises StoreError for a directory; OSError, NoSpace.
    """
    target = os.path.realpath(destination)
    try:
        if (descriptor := open_descriptor(destination)) is not None:
            with _unbuffered_on_failure(os.dup(descriptor)) as out:
                yield out
            return
        status = _status(destination)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{destination} is a directory", hint="name a file")
        if status is not None and not stat.S_ISREG(status.st_mode):
            with _unbuffered_on_failure(os.open(destination, os.O_WRONLY | os.O_CLOEXEC)) as out:
                yield out
            return
        temporary = temporary_name(target)
        directory = os.open(os.path.dirname(target), _DIRECTORY)
        try:
            with unnamed_file(directory, os.fsencode(os.path.basename(temporary))) as out:
                yield out
            replace_file(os.fsencode(temporary), os.fsencode(target))
        except OSError as error:
            raise no_space(error, destination, hint=OUTPUT_HINT) from error  # the file still takes what was free
        finally:
            os.close(directory)
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise no_space(error, destination, hint=OUTPUT_HINT) from error


@contextmanager
def _unbuffered_on_failure(fd: int) -> Iterator[BinaryIO]:
    """Write to a pipe or a device. If the block fails, the rest of the buffer is dropped.

    To flush it could take forever: after a signal nobody may be reading the pipe.
    """
    with open(fd, "wb", _BUFFER) as out:
        try:
            yield out
        except BaseException:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, fd, inheritable=False)
            os.close(nowhere)
            raise


@contextmanager
def unnamed_file(directory: int, temporary: bytes, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A new file to write to, without a name. If the block succeeds, it is called `temporary` in this directory.

    Where the filesystem has no files without names, it is called so from the beginning; the caller removes it after a
    failure. Raises OSError: EEXIST if the name is taken.
    """
    named = False
    try:
        fd = os.open(b".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=directory)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        fd = os.open(temporary, _CREATE, mode, dir_fd=directory)
        named = True
    with buffered(SparseFile(fd, "wb")) as out:
        yield out
        out.flush()
        if not named:
            os.link(f"/proc/self/fd/{fd}", temporary, dst_dir_fd=directory, follow_symlinks=True)


def open_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path names: STDOUT, /dev/stdout, /dev/fd/N, or a link to one of these.

    /dev/stdout is a link to /proc/self/fd/1, which looks like a link to the file that is open there. Replacing that file
    would leave the descriptor with the old one.
    """
    if path == STDOUT:
        return sys.stdout.fileno()
    for _ in range(_MAX_LINKS):
        directory, name = os.path.split(os.path.abspath(path))
        directory = os.path.realpath(directory)
        if directory == f"/proc/{os.getpid()}/fd" and name.isdigit():
            return int(name)
        path = f"{directory}/{name}"
        if not os.path.islink(path):
            return None
        path = os.path.join(directory, os.readlink(path))
    return None


@contextmanager
def temporary_directory(parent: int, name: str) -> Iterator[tuple[str, int]]:
    """A new directory below `parent`, later to be renamed to `name`: its temporary name, and a descriptor.

    What is still there under its temporary name after the block is removed, and before it what killed processes have
    left. Raises OSError.
    """
    _remove_abandoned(parent, name)
    while True:
        temporary = _unused(name)
        os.mkdir(temporary, 0o755, dir_fd=parent)
        fd = _locked(parent, temporary)
        if fd is not None:
            break
        # Before it was locked, another process took it for an abandoned one and removed it.
    try:
        yield temporary, fd
    finally:
        os.close(fd)
        remove_tree(parent, temporary)


def _remove_abandoned(parent: int, name: str) -> None:
    """Remove the directories that killed processes have left when they wrote `name`."""
    left = re.compile(re.escape(_prefix(name)) + "[0-9a-f]{16}")
    for found in filter(left.fullmatch, os.listdir(parent)):
        fd = _locked(parent, found)
        if fd is not None:
            remove_tree(parent, found)
            os.close(fd)


def _locked(parent: int, name: str) -> int | None:
    """Lock a directory; return its descriptor. None if it is none, is gone, or another process holds the lock."""
    try:
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError:
        return None
    if try_lock(fd, fcntl.LOCK_EX) and os.fstat(fd).st_nlink:
        return fd
    os.close(fd)
    return None


def _unused(name: str) -> str:
    """An unused name beside `name`."""
    return f"{_prefix(name)}{os.urandom(8).hex()}"


def _prefix(name: str) -> str:
    return f".{name[:60]}."


def temporary_name(path: str) -> str:
    """An unused path in the same directory as `path`."""
    directory, name = os.path.split(path)
    return f"{directory}/{_unused(name)}"


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
