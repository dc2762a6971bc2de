"""Opening what is in a tree: its directories and the content of its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.system.files import chunks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.toc import Entry

OPAQUE = "user.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHORT = 4000  # bytes of a path that one system call takes
_SMALL = 1 << 18  # bytes


def open_directory(root_fd: int, path: bytes) -> int:
    """Open a directory of a tree that nobody writes to; paths longer than PATH_MAX are walked in steps."""
    fd = os.open(path[:0] or b".", _DIRECTORY, dir_fd=root_fd)
    while path:
        cut = len(path) if len(path) <= _SHORT else path.rindex(b"/", 0, _SHORT)
        below = os.open(path[:cut], _DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd, path = below, path[cut + 1 :]
    return fd


class DirectoryCache:
    """The directory of a tree that was asked for last stays open, as most neighbours share theirs."""

    def __init__(self, root_fd: int) -> None:
        """`root_fd` is the caller's, who keeps it open."""
        self._root = root_fd
        self._path = b""
        self._fd = os.dup(root_fd)

    def of(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the directory that `path` is in, good until the next call, and the name there. Raises OSError."""
        parent, _, name = path.rpartition(b"/")
        if parent != self._path:
            fd = open_directory(self._root, parent)
            os.close(self._fd)
            self._fd, self._path = fd, parent
        return self._fd, name

    def close(self) -> None:
        os.close(self._fd)


class TreeContent:
    """Content for `write_layer` from a tree that nobody writes to. A context manager."""

    def __init__(self, root_fd: int) -> None:
        """`root_fd` is duplicated; the caller keeps its own."""
        self._root = os.dup(root_fd)
        self._at_hand = DirectoryCache(self._root)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        parent, name = self._at_hand.of(entry.path)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if entry.size < _SMALL:
                # A file that gives less than it was asked for has ended: no second call is needed to see that.
                data = os.read(fd, entry.size + 1)
                yield data
                if len(data) <= entry.size:
                    return
            yield from chunks_of(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        self._at_hand.close()
        os.close(self._root)

    def __enter__(self) -> TreeContent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
