"""Archives that ADD or a context unpacks: recognized by their content, and read like layers, with the same limits.

A file is an archive if its decompressed bytes start with the header of a tar entry. All other files, and files that are
damaged before that header ends, are copied as they are. An archive is never extracted to a directory: its entries
are planned like those of other trees, and its bytes go to a spool, because the layer needs them in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import CopyError
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.compression import Compression, DecompressingReader
from pybuild.store.formats.sparse import PlainTar
from pybuild.store.formats.tar import BLOCK, SparseMember, is_header, show
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.importing.outer_compression import is_compressed, without_outer_compression
from pybuild.store.layers.read import read_archive
from pybuild.store.system.streams import Peeked, Prefixed, Tee
from pybuild.values.limits import LAYER_BYTES, hint_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from pybuild.builder.files.spool import Spool
    from pybuild.builder.files.tree import FileTree
    from pybuild.store.layers.read import LowerLayers
    from pybuild.store.system.streams import Readable
    from pybuild.values.limits import Limit

_SHORT_READ, _SHORT_READS = 64, 64  # bytes of a short read, and the number of short reads


class ArchiveTree:
    """The entries of an archive as a FileTree. The archive begins at offset `start` of the spool."""

    allows_devices = True

    def __init__(self, entries: list[Entry], spool: Spool | None, start: int) -> None:
        self.entries = entries
        self._by_path = {entry.path: entry for entry in entries}
        self._spool = spool
        self._start = start
        self._linked = {entry.hardlink for entry in entries if entry.hardlink}

    def lookup(self, path: bytes) -> Entry | None:
        return self._by_path.get(path)

    def readdir(self, path: bytes) -> list[Entry]:
        return [entry for entry in self.entries if entry.path and entry.path.rpartition(b"/")[0] == path]

    def identity(self, entry: Entry) -> Hashable | None:
        name = entry.hardlink or entry.path
        return name if name in self._linked else None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        assert self._spool is not None, "the archive was read without a spool"
        return self._spool.chunks(self._start + entry.offset, entry.size)


def open_archive(tree: FileTree, entry: Entry) -> Readable | None:
    """The decompressed stream of a file if it is an archive, else None."""
    if entry.kind is not Kind.FILE or not entry.size:
        return None
    return archive_in(Peeked(_Chunks(tree.chunks(entry))))


def archive_in(peeked: Peeked, limit: Limit = LAYER_BYTES) -> Readable | None:
    """The decompressed stream, of at most `limit`, if the input is an archive, else None."""
    outer = without_outer_compression(peeked)
    plain = outer is not peeked or not is_compressed(peeked.start)
    head = b""
    try:
        stream = DecompressingReader(outer, Compression.UNCOMPRESSED if plain else None, limit=limit, hashed=False)
        while len(head) < BLOCK and (data := stream.read(BLOCK - len(head))):
            head += data
    except InvalidImage:
        return None
    return Prefixed(head, stream) if is_header(head) else None


def read_tree(
    name: bytes,
    stream: Readable,
    again: Callable[[], Readable | None],
    below: LowerLayers,
    owner: tuple[int, int] | None,
    spool: Spool | None,
) -> ArchiveTree:
    """Read an archive to its end. Raises CopyError with `name` if it is damaged or exceeds a limit.

    `again` opens the archive once more, which is only needed if it has sparse files.

    `below` is the directory of the image into which it is unpacked. Without a spool the tree has entries but no content,
    which is enough for a cache key.
    """

    def read(source: Readable) -> ArchiveTree:
        start = spool.size if spool is not None else 0
        return ArchiveTree(
            read_archive(source if spool is None else Tee(source, spool.write), below, owner), spool, start
        )

    try:
        try:
            return read(stream)
        except SparseMember:
            opened = again()
            assert opened is not None, "it was an archive before"
            return read(PlainTar(opened, LAYER_BYTES))
    except InvalidImage as error:
        raise CopyError(
            f"cannot unpack {show(name)}: {error}", hint=hint_beside("--unpack=false copies the file as it is", error)
        ) from error


class _Chunks:
    """A Readable over chunks. The first reads are short: damage after the first header must not hide that header."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._data = b""
        self._at = 0
        self._short_reads = _SHORT_READS

    def read(self, size: int, /) -> bytes:
        if self._short_reads:
            self._short_reads -= 1
            size = min(size, _SHORT_READ)
        if self._at == len(self._data):
            self._data, self._at = next(self._chunks, b""), 0
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece
