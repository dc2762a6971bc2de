"""Opening the directories of a tree and reading its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.formats.toc import parent_of
from pybuild.store.system.holes import chunks_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.toc import Entry

OPAQUE = "user.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PATH = 4000  # bytes; less than PATH_MAX, which limits the path of one system call
_SMALL = 1 << 18  # bytes


def open_directory(root_fd: int, path: bytes) -> int:
    """Open a directory of a tree that no process writes to. A path longer than PATH_MAX is opened in several steps."""
    fd = os.open(b".", _DIRECTORY, dir_fd=root_fd)
    while path:
        cut = len(path) if len(path) <= _MAX_PATH else path.rindex(b"/", 0, _MAX_PATH)
        try:
            below = os.open(path[:cut], _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd, path = below, path[cut + 1 :]
    return fd


def read_link(root_fd: int, path: bytes) -> bytes:
    """The target of a symbolic link of such a tree. Raises OSError."""
    parent = open_directory(root_fd, parent_of(path))
    try:
        return os.readlink(path.rpartition(b"/")[2], dir_fd=parent)
    finally:
        os.close(parent)


class DirectoryCache:
    """Keeps the last directory of a tree open, because consecutive entries are mostly in the same directory."""

    def __init__(self, root_fd: int) -> None:
        """The caller keeps `root_fd` open."""
        self._root = root_fd
        self._path = b""
        self._fd = os.dup(root_fd)

    def locate(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the parent of `path`, valid until the next call, and the name in it. Raises OSError."""
        parent, _, name = path.rpartition(b"/")
        if parent != self._path:
            if self._path and parent.startswith(self._path + b"/"):  # a long chain of directories takes linear time
                fd = open_directory(self._fd, parent[len(self._path) + 1 :])
            else:
                fd = open_directory(self._root, parent)
            os.close(self._fd)
            self._fd, self._path = fd, parent
        return self._fd, name

    def close(self) -> None:
        os.close(self._fd)


class TreeContent:
    """The content of the files of a tree that no process writes to, for `write_layer`. A context manager."""

    def __init__(self, root_fd: int) -> None:
        """`root_fd` is duplicated; the caller still has to close it."""
        self._root = os.dup(root_fd)
        self._parents = DirectoryCache(self._root)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        parent, name = self._parents.locate(entry.path)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            position = 0
            if entry.size < _SMALL:
                # A read that returns less than requested has reached the end, so most files need only one read.
                data = os.read(fd, entry.size + 1)
                yield data
                if len(data) <= entry.size:
                    return
                position = len(data)
            yield from chunks_of_file(fd, position)
        finally:
            os.close(fd)

    def close(self) -> None:
        self._parents.close()
        os.close(self._root)

    def __enter__(self) -> TreeContent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
