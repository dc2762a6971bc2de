"""Making a tree while another process reads its layer. tree_feed.py describes the stream between them.

The tree is the same as the one that `make_tree` makes of the table of contents.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Kind, decode_record, parent_of, sort_key
from pybuild.store.layers.tree_feed import SIZE, STOPPED
from pybuild.store.layers.tree_maker import TreeMaker

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from pybuild.store.formats.toc import Entry

_BUFFER = 1 << 20  # bytes


def make_fed_tree(fd: int, root_fd: int) -> bool:
    """Make the tree that the stream `fd` describes in the empty directory `root_fd`; return whether it is whole.

    It is not whole if the other process has stopped or died. Raises InvalidImage if the stream is damaged, OSError.
    """
    stream = _Stream(fd)
    maker = TreeMaker(root_fd)
    directories: dict[bytes, Entry] = {}
    try:
        for entry in stream:
            _check_place(entry, directories)
            if entry.kind is Kind.DIRECTORY:
                if entry.path not in directories:
                    maker.directory(entry)
                directories[entry.path] = entry
            elif entry.hardlink:
                maker.link(entry)
            elif entry.kind is Kind.FILE:
                maker.file(entry, stream.content(entry.size))
            else:
                maker.special(entry)
        for path in sorted(directories, key=sort_key, reverse=True):  # each one after what is in it
            maker.finish_directory(directories[path])
    except _NotWhole:
        return False
    finally:
        maker.close()
    return True


def _check_place(entry: Entry, directories: Container[bytes]) -> None:
    """Raise InvalidImage if an entry, or the file that it is a link to, is not in a directory that came before.

    The reader has checked that. Here it takes a moment more, and no path of a wrong stream leads out of the tree.
    """
    for path in (entry.path, entry.hardlink) if entry.hardlink else (entry.path,):
        parent = parent_of(path)
        if parent and parent not in directories:
            raise InvalidImage(f"the description of a tree is damaged: {show(path)} is in no directory of it")


class _NotWhole(Exception):
    """The stream ends without its end mark."""


class _Stream:
    """The reading end. Iterating gives the entries up to the end mark; the content of a file is read before the next."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0  # where in the buffer the bytes are that nobody has asked for yet

    def __iter__(self) -> Iterator[Entry]:
        while (size := int.from_bytes(self._take(SIZE), "little")) > STOPPED:
            try:
                yield decode_record(self._take(size))
            except ValueError as error:
                raise InvalidImage(f"the description of a tree is damaged: {error}") from None
        if size == STOPPED:
            raise _NotWhole

    def content(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in pieces; each is valid until the next one is asked for."""
        while size:
            if self._start == self._end:
                self._fill()
            start = self._start
            self._start = min(self._end, start + size)
            size -= self._start - start
            yield self._buffer[start : self._start]

    def _take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start, end = self._start, self._start + size
        if end <= self._end:
            self._start = end
            return bytes(self._buffer[start:end])
        return b"".join(bytes(piece) for piece in self.content(size))

    def _fill(self) -> None:
        self._start, self._end = 0, os.readv(self._fd, [self._buffer])
        if not self._end:
            raise _NotWhole
