"""The table of contents (toc) of a changeset: the metadata of each of its entries.

One file holds the entries of one changeset, sorted by path components as bytes. It is memory-mapped and searched by
bisection, so a lookup in a large base image reads a few pages. Every parent of an entry, except the root, is an entry
itself, and a directory: writers of a toc guarantee it, readers rely on it.

    file    = magic, record*, links?, index, trailer        (little-endian)
    record  = crc32 of the rest, length of the rest, fixed fields, path, link, hardlink, sha256, xattrs
    links   = crc32 of the rest, group*
    group   = u32 number of paths, (u16 length, path)*
    index   = u64 offset of each record, in order
    trailer = u64 number of records, u64 offset of the index, crc32 of the index, magic

Each checksum is verified when its record is used. Verifying a digest of the file would mean reading all of it.

`links` are hard links that the layer's tar cannot express, because it does not hold all names of the file: a name that
equals the one below is not in the layer. Each group holds paths that are one file: those that this toc lists, and those
that it does not list, which are in the layers below. A toc that was read from a tar has no links.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from bisect import bisect_left
from enum import IntEnum
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pybuild.store.errors import InvalidImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

_MAGIC = b"pbtoc-1\n"
_RECORD = struct.Struct("<IIBBHIIqQQqBHHHH")
_CHECKED = struct.Struct("<IBBHIIqQQqBHHHH")  # a record without its checksum
_TRAILER = struct.Struct("<QQI8s")
_PAIR = struct.Struct("<HI")
_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<H")
_OPAQUE = 1
_SMALL = 1 << 16  # bytes; smaller files are read, which is faster than mapping them
_FEW = 64  # entries; a table of at most this many is searched with a dict
MAX_PATH = 32_768  # bytes of one path; eight times the limit of one system call


class Kind(IntEnum):
    """The type of an entry. A hard link has the kind of its file."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    CHAR = 4
    BLOCK = 5
    FIFO = 6
    WHITEOUT = 7


_KINDS = {int(kind): kind for kind in Kind}
Links: TypeAlias = tuple[tuple[bytes, ...], ...]  # groups of paths; the paths of a group are one file


class Entry(NamedTuple):
    """The metadata of one path. `path` is relative, without a trailing slash; the root is b""."""

    path: bytes
    kind: Kind
    mode: int = 0  # permission bits, 0 to 0o7777
    uid: int = 0
    gid: int = 0
    mtime: int = 0  # whole seconds since the epoch
    size: int = 0  # bytes of a file's content; 0 for other kinds
    link: bytes = b""  # target of a symbolic link
    hardlink: bytes = b""  # if this is another name of a file: the path of its first name in this layer
    rdev: int = 0  # os.makedev() of a device
    xattrs: tuple[tuple[bytes, bytes], ...] = ()  # sorted by name
    sha256: bytes = b""  # of a file's content, 32 bytes; empty if the content has not been read yet
    offset: int = -1  # of a file's content in the layer's tar, in bytes; -1 if there is no tar yet
    opaque: bool = False  # a directory that hides its content in lower layers

    def with_content(self, sha256: bytes, offset: int = -1) -> Entry:
        """The entry with the digest and offset of its content. Twice as fast as `_replace`; called for every file."""
        return Entry(*self[:11], sha256, offset, self.opaque)


def sort_key(path: bytes) -> bytes:
    """The key that sorts paths by components: a directory comes right before everything in it."""
    return path.replace(b"/", b"\0")


def parent_of(path: bytes) -> bytes:
    """The directory of a path: b"", the root, for a top-level name."""
    return path.rpartition(b"/")[0]


def is_at_or_below(path: bytes, places: Set[bytes]) -> bool:
    """Whether a path is one of `places` or in one of them. The root b"" is never looked for: everything is in it."""
    if not places:
        return False
    while path and path not in places:
        path = parent_of(path)
    return bool(path)


def encode(entries: Iterable[Entry], links: Links = ()) -> bytes:
    """The bytes of a toc file. `entries` must be in the order of `sort_key`, each path once.

    Raises InvalidImage for a path or link that is too long, ValueError for a wrong order.
    """
    out = bytearray(_MAGIC)
    offsets = []
    last = None
    for entry in entries:
        key = sort_key(entry.path)
        if last is not None and key <= last:
            raise ValueError(f"toc entries out of order at {entry.path!r}")
        last = key
        if len(entry.path) > MAX_PATH or len(entry.link) > MAX_PATH:
            raise InvalidImage(f"a path or link of more than {MAX_PATH} bytes")
        offsets.append(len(out))
        out += encode_record(entry)
    if links:
        out += _encode_links(links)
    index = struct.pack(f"<{len(offsets)}Q", *offsets)
    trailer = _TRAILER.pack(len(offsets), len(out), zlib.crc32(index), _MAGIC)
    return bytes(out) + index + trailer


def encode_record(entry: Entry) -> bytes:
    """One record of a toc file, with its checksum."""
    path, kind, mode, uid, gid, mtime, size, link, hardlink, rdev, xattrs, sha256, offset, opaque = entry
    tail = path + link + hardlink + sha256
    if xattrs:
        tail += b"".join(_PAIR.pack(len(key), len(value)) + key + value for key, value in xattrs)
    rest = (
        _CHECKED.pack(
            _RECORD.size - 8 + len(tail), kind, _OPAQUE if opaque else 0, mode, uid, gid, mtime, size, rdev, offset,
            len(sha256), len(path), len(link), len(hardlink), len(xattrs),
        )
        + tail
    )  # fmt: skip
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def decode_record(data: bytes | mmap.mmap, offset: int = 0) -> Entry:
    """The entry of the record at an offset. Raises ValueError if the record is damaged or cut off."""
    try:
        (
            crc, length, kind, flags, mode, uid, gid, mtime, size, rdev, position, sha_length, path_length, link_length,
            hardlink_length, xattr_count,
        ) = _RECORD.unpack(data[offset : offset + _RECORD.size])  # fmt: skip
        if zlib.crc32(data[offset + 4 : offset + 8 + length]) != crc:
            raise ValueError("a wrong checksum")
        at = offset + _RECORD.size
        path = data[at : (at := at + path_length)]
        link = data[at : (at := at + link_length)]
        hardlink = data[at : (at := at + hardlink_length)]
        sha = data[at : (at := at + sha_length)]
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        if xattr_count:
            pairs = []
            for _ in range(xattr_count):
                key_length, value_length = _PAIR.unpack(data[at : at + _PAIR.size])
                at += _PAIR.size
                pairs.append((data[at : at + key_length], data[at + key_length : at + key_length + value_length]))
                at += key_length + value_length
            xattrs = tuple(pairs)
        if at != offset + 8 + length:
            raise ValueError("wrong lengths")
        return Entry(
            path,
            _KINDS[kind],
            mode,
            uid,
            gid,
            mtime,
            size,
            link,
            hardlink,
            rdev,
            xattrs,
            sha,
            position,
            bool(flags & _OPAQUE),
        )
    except (struct.error, KeyError):  # behind the end of the data, or with a kind that none has
        raise ValueError("lengths or a kind that no record has") from None


def _encode_links(links: Links) -> bytes:
    rest = bytearray()
    for group in links:
        rest += _COUNT.pack(len(group))
        for path in group:
            rest += _LENGTH.pack(len(path)) + path
    return zlib.crc32(rest).to_bytes(4, "little") + bytes(rest)


class Toc:
    """A table of contents. Each entry is decoded when it is needed."""

    def __init__(self, data: bytes | mmap.mmap, name: str = "toc") -> None:
        """`name` is for errors. Raises InvalidImage if the trailer or the index is damaged."""
        self._data = data
        self._name = name
        size = len(data)
        if size < len(_MAGIC) + _TRAILER.size or data[: len(_MAGIC)] != _MAGIC:
            raise self._damaged()
        count, start, crc, magic = _TRAILER.unpack(data[size - _TRAILER.size :])
        index = data[start : size - _TRAILER.size]
        if magic != _MAGIC or len(index) != 8 * count or zlib.crc32(index) != crc:
            raise self._damaged()
        self._offsets: tuple[int, ...] = struct.unpack(f"<{count}Q", index)
        self._by_path: dict[bytes, int] | None = None  # path -> index; made for a small table at its first lookup

    @staticmethod
    def of(entries: Iterable[Entry], links: Links = ()) -> Toc:
        """A toc in memory."""
        return Toc(encode(entries, links))

    @staticmethod
    def write(path: str, entries: Iterable[Entry], links: Links = ()) -> str:
        """Write sorted entries, and links across layers, as a new file; return its path."""
        with open(path, "xb") as file:
            file.write(encode(entries, links))
        return path

    @staticmethod
    def open(path: str) -> Toc:
        """Read or map a toc file. Raises OSError, and InvalidImage if it is damaged."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data: bytes | mmap.mmap = os.read(fd, _SMALL)
            if len(data) == _SMALL:
                data = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        return Toc(data, path)

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Entry]:
        return (self._entry(index) for index in range(len(self._offsets)))

    def contents(self) -> Iterator[tuple[bytes, int]]:
        """Path and size of each file; of a group of hard links the first one. Faster than decoding whole entries."""
        data = self._data[:]  # one copy is faster than a slice of a map for each entry
        unpack, file = _RECORD.unpack_from, int(Kind.FILE)
        pick = itemgetter(0, 1, 2, 8, 12, 14)
        for offset in self._offsets:
            try:
                fields = unpack(data, offset)
            except struct.error:
                raise self._damaged() from None
            crc, length, kind, size, path_length, hardlink_length = pick(fields)
            if kind == file and size and not hardlink_length:
                if zlib.crc32(data[offset + 4 : offset + 8 + length]) != crc:
                    raise self._damaged()
                yield data[offset + _RECORD.size : offset + _RECORD.size + path_length], size

    def check_layout(self) -> None:
        """Raise InvalidImage if the records do not lie one after the other, as they do in every table that was made here.

        An index could name one large record a million times, and each time it would be decoded.
        """
        expected = len(_MAGIC)
        for offset in self._offsets:
            if offset != expected:
                raise self._damaged()
            expected += 8 + int.from_bytes(self._data[offset + 4 : offset + 8], "little")

    @property
    def links(self) -> Links:
        """Groups of paths that are one file, although the layer does not hold all of them. Raises InvalidImage."""
        start, end = self._end_of_records(), len(self._data) - _TRAILER.size - 8 * len(self._offsets)
        return self._decoded_links(self._data[start:end]) if start < end else ()

    def find(self, path: bytes) -> Entry | None:
        """The entry of this path, or None."""
        if self._by_path is None and len(self._offsets) <= _FEW:
            self.index_paths()
        if self._by_path is not None:
            position = self._by_path.get(path)
            return None if position is None else self._entry(position)
        index = self._search(sort_key(path))
        if index < len(self._offsets) and self._path(index) == path:
            return self._entry(index)
        return None

    def index_paths(self) -> None:
        """Make `find` fast for a caller that looks up most of the paths; takes some 100 bytes an entry."""
        if self._by_path is None:
            self._by_path = {self._path(index): index for index in range(len(self._offsets))}

    def children(self, path: bytes) -> Iterator[Entry]:
        """The entries directly in a directory, in order. Their subtrees are skipped without being read."""
        index = self._search(sort_key(path))
        if index < len(self._offsets) and self._path(index) == path:
            index += 1
        elif path:
            return
        prefix = path + b"/" if path else b""
        while index < len(self._offsets):
            name = self._path(index)
            if not name.startswith(prefix):
                return
            entry = self._entry(index)
            yield entry
            index += 1
            if entry.kind is Kind.DIRECTORY:
                # \x01 is the smallest byte after the separator \0, so this key sorts right after the entry's subtree.
                index = self._search(sort_key(name) + b"\x01", index)

    def _search(self, key: bytes, start: int = 0) -> int:
        return bisect_left(range(len(self._offsets)), key, start, key=lambda index: sort_key(self._path(index)))

    def _path(self, index: int) -> bytes:
        offset = self._offsets[index]
        length = int.from_bytes(self._data[offset + _PATH_LENGTH : offset + _PATH_LENGTH + 2], "little")
        return self._data[offset + _RECORD.size : offset + _RECORD.size + length]

    def _entry(self, index: int) -> Entry:
        try:
            return decode_record(self._data, self._offsets[index])
        except ValueError:
            raise self._damaged() from None

    def _end_of_records(self) -> int:
        if not self._offsets:
            return len(_MAGIC)
        last = self._offsets[-1]
        return last + 8 + int.from_bytes(self._data[last + 4 : last + 8], "little")

    def _decoded_links(self, data: bytes) -> Links:
        if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
            raise self._damaged()
        groups = []
        at = 4
        try:
            while at < len(data):
                (count,) = _COUNT.unpack_from(data, at)
                at += _COUNT.size
                group = []
                for _ in range(count):
                    (length,) = _LENGTH.unpack_from(data, at)
                    at += _LENGTH.size
                    group.append(data[at : (at := at + length)])
                groups.append(tuple(group))
        except struct.error:
            raise self._damaged() from None
        return tuple(groups)

    def _damaged(self) -> InvalidImage:
        return InvalidImage(f"{self._name}: damaged table of contents", hint="run pybuild fsck to find other damage")


_PATH_LENGTH = struct.calcsize("<IIBBHIIqQQqB")
