"""Directories: opening one, replacing its content, and removing or measuring a whole tree.

`shutil.rmtree` and `os.walk` fail, or silently stop, on trees deeper than PATH_MAX. `remove_tree` and `tree_size` walk with
directory descriptors instead, and go back up by ".." of the current directory: only a few descriptors are open at any
depth, and only memory limits the depth.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.system import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# rename(2): a directory with files is not replaced, a file not by a directory, nor the other way round.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


@contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """The descriptor of a directory, closed at the end. Raises OSError, ENOTDIR if `path` is a symbolic link."""
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def scan(fd: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """os.scandir of all that is in an open directory now.

    Without the step back to its beginning btrfs lists what was there when the directory was opened. POSIX allows that
    (readdir(3p)); Linux does it since 6.5, and looks again at rewinddir(3).
    """
    os.lseek(fd, 0, os.SEEK_SET)
    return os.scandir(fd)


def names_in(fd: int) -> list[bytes]:
    """The names of all that is in an open directory now."""
    with scan(fd) as entries:
        return [os.fsencode(entry.name) for entry in entries]


def remove_tree(parent_fd: int, name: str | bytes) -> None:
    """Remove a file or a whole directory tree. Idempotent: a name that does not exist is not an error.

    A directory without permissions first gets mode 0700.
    """
    if _unlink(parent_fd, name):
        return
    fd = _enter(parent_fd, name)
    try:
        # For each directory on the way down: its subdirectories that still exist. The last one is entered next.
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
    """Remove anything except a directory; return whether the name is gone."""
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
    """Remove the files and the empty directories in a directory; return the names of the other subdirectories."""
    with scan(fd) as entries:
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


def replace_content(directory: int, new: int) -> None:
    """Move everything from the directory `new` to another one of the same filesystem, and remove what was there before.

    If the process is killed, each name has its old content or its new one, both whole; names that are not in `new` are removed
    last. Only where the filesystem cannot exchange two names (NFS) does a directory have neither for a moment. Some of the old
    content can then be in `new`. Raises OSError.
    """
    names = names_in(new)
    for name in names:
        _replace(directory, new, name)
    for name in set(names_in(directory)).difference(names):
        remove_tree(directory, name)


def _replace(directory: int, new: int, name: bytes) -> None:
    try:
        os.rename(name, name, src_dir_fd=new, dst_dir_fd=directory)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        try:
            syscalls.exchange(name, name, new, directory)
        except OSError:
            remove_tree(directory, name)
            os.rename(name, name, src_dir_fd=new, dst_dir_fd=directory)


def tree_size(directory_fd: int) -> int:
    """The bytes on disk of a directory and everything below it. A file with several names counts once.

    Raises PermissionError at a directory that this user cannot read, and OSError (ESTALE) if another process
    moves directories at the same time, because ".." then leads elsewhere.
    """
    seen: set[tuple[int, int]] = set()
    size, subdirectories = _measure(directory_fd, seen)
    stack = [(os.fstat(directory_fd).st_ino, subdirectories)]
    fd = os.dup(directory_fd)
    try:
        while stack:
            if stack[-1][1]:
                child = os.open(stack[-1][1].pop(), _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = child
                more, subdirectories = _measure(fd, seen)
                size += more
                stack.append((os.fstat(fd).st_ino, subdirectories))
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


def _measure(fd: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """The bytes of a directory and of its files that are not in `seen` yet, and the names of its subdirectories."""
    size = os.fstat(fd).st_blocks * 512
    subdirectories = []
    with scan(fd) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # a running step has removed it
            if stat.S_ISDIR(status.st_mode):
                subdirectories.append(entry.name)
            elif status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                size += status.st_blocks * 512
    return size, subdirectories
