"""The local archives of an ADD: told by their content, and read as layers are, with the same limits.

What begins, expanded, with the header of a tar entry is an archive; everything else is a file like any other. So is what
is damaged before that. An archive is never written out as files: its rows are planned like those of any other tree, and
its bytes wait in a spool until the layer asks for them, in an order of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import CopyError
from store.compression import Compression, Expander
from store.errors import InvalidImage
from store.extract import read_archive
from store.outer import Peeked, is_packed, without_outer
from store.tarformat import BLOCK, is_header, show
from store.toc import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import BinaryIO

    from builder.filetree import FileTree
    from store.extract import Lower
    from store.tarformat import Readable

_CHUNK = 1 << 20
_SHORT, _SLOW = 64, 64  # bytes of a short piece, and how many of them


class Spool:
    """A file without a name for the expanded bytes of archives, made when the first one comes. A context manager."""

    def __init__(self, path: str) -> None:
        """`path` is a free one, on the disk of the store."""
        self._path = path
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Raises OSError when the disk refuses."""
        if self._file is None:
            self._file = open(self._path, "x+b", buffering=0)
            os.unlink(self._path)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """A range of what was written."""
        assert self._file is not None or not size
        while size and self._file is not None:
            data = os.pread(self._file.fileno(), min(size, _CHUNK), offset)
            if not data:
                raise InvalidImage("the spool of an archive is shorter than its files")
            offset += len(data)
            size -= len(data)
            yield data

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class ArchiveTree:
    """The rows of an archive, whose content is in a spool from `start` on."""

    gives_devices = True

    def __init__(self, rows: list[Entry], spool: Spool | None, start: int) -> None:
        self.rows = rows
        self._by_path = {row.path: row for row in rows}
        self._spool = spool
        self._start = start
        self._linked = {row.hardlink for row in rows if row.hardlink}

    def lookup(self, path: bytes) -> Entry | None:
        return self._by_path.get(path)

    def readdir(self, path: bytes) -> list[Entry]:
        return [row for row in self.rows if row.path and row.path.rpartition(b"/")[0] == path]

    def identity(self, entry: Entry) -> Hashable | None:
        name = entry.hardlink or entry.path
        return name if name in self._linked else None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        assert self._spool is not None, "only rows were asked for"
        return self._spool.chunks(self._start + entry.offset, entry.size)


def open_archive(tree: FileTree, row: Entry) -> Readable | None:
    """The expanded stream of a file that is an archive; None where it is none."""
    if row.kind is not Kind.FILE or not row.size:
        return None
    peeked = Peeked(_Chunks(tree.chunks(row)))
    outer = without_outer(peeked)
    plain = outer is not peeked or not is_packed(peeked.start)
    head = b""
    try:
        stream = Expander(outer, Compression.UNCOMPRESSED if plain else None)
        while len(head) < BLOCK and (data := stream.read(BLOCK - len(head))):
            head += data
    except InvalidImage:
        return None
    return _Behind(head, stream) if is_header(head) else None


def read_tree(
    name: bytes, stream: Readable, below: Lower, owner: tuple[int, int] | None, spool: Spool | None
) -> ArchiveTree:
    """Read an archive to its end. Raises CopyError, which names it, where it is damaged or breaks a limit.

    `below` is what lies where it goes. Without a spool only rows can be asked for, as the key of a step does.
    """
    start = spool.size if spool is not None else 0
    try:
        rows = read_archive(stream if spool is None else _Tee(stream, spool), below, owner)
    except InvalidImage as error:
        raise CopyError(
            f"cannot unpack {show(name)}: {error}", hint="--unpack=false copies the file as it is"
        ) from error
    return ArchiveTree(rows, spool, start)


class _Chunks:
    """A readable of pieces. The first ones are short: damage behind the first entry must not hide that there is one."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._data = b""
        self._at = 0
        self._slow = _SLOW

    def read(self, size: int, /) -> bytes:
        if self._slow:
            self._slow -= 1
            size = min(size, _SHORT)
        if self._at == len(self._data):
            self._data, self._at = next(self._chunks, b""), 0
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece


class _Behind:
    """A readable with bytes in front of another one."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


class _Tee:
    """A readable whose bytes are kept in a spool as they are read."""

    def __init__(self, stream: Readable, spool: Spool) -> None:
        self._stream = stream
        self._spool = spool

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._spool.write(data)
        return data
