"""Entries and their content -> the layer: a tar, its digests, and the entries as they now stand in it.

One pass reads each file once and hashes it, writes its header and content, hashes the whole (the diff_id) and
compresses it. `hash_contents` is the same pass for a layer that nobody wants as a tar: nothing is written. The tar is a function of the entries and the clamp alone: ordered by path components, ustar headers,
no user names, whiteouts with time 0, of the attributes only `security.capability`.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pybuild.store.errors import InvalidImage
from pybuild.store.formats import tar
from pybuild.store.formats.compression import Compressor
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.tar_header import entry_header
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.formats.whiteout import marker, refuse_reserved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from pybuild.store.formats.compression import Compression

STORED_XATTR = b"security.capability"
_PADDING = bytes(tar.BLOCK)

_TYPES = {
    Kind.FILE: tar.REGULAR,
    Kind.DIRECTORY: tar.DIRECTORY,
    Kind.SYMLINK: tar.SYMLINK,
    Kind.CHAR: tar.CHAR,
    Kind.BLOCK: tar.BLOCK_DEVICE,
    Kind.FIFO: tar.FIFO,
    Kind.WHITEOUT: tar.REGULAR,
}


def stored_xattrs(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The attributes of an entry that a layer holds."""
    return tuple(pair for pair in entry.xattrs if pair[0] == STORED_XATTR) if entry.xattrs else ()


def same_metadata(row: Entry, before: Entry | None) -> bool:
    """Whether a row says what the one below it says, in all but content; of directories time counts for nothing.

    What is the same is left out of a layer, whoever made it.
    """
    if before is None or row.kind is not before.kind:
        return False
    if (row.uid, row.gid, row.xattrs) != (before.uid, before.gid, stored_xattrs(before)):
        return False
    if row.kind is Kind.SYMLINK:
        return (row.mtime, row.link) == (before.mtime, before.link)
    if row.kind is Kind.DIRECTORY:
        return row.mode == before.mode
    return (row.mode, row.mtime, row.size, row.rdev) == (before.mode, before.mtime, before.size, before.rdev)


class FileContent(Protocol):
    """Where the bytes of files come from."""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file; exactly `entry.size` bytes in all."""
        ...


class WrittenLayer(NamedTuple):
    """A tar that was written: what it is, and what it is as a blob."""

    diff_id: Digest
    digest: Digest  # of the compressed bytes
    size: int  # of the compressed bytes
    entries: tuple[Entry, ...]  # with content digests and offsets


def write_layer(
    entries: Iterable[Entry], content: FileContent, out: BinaryIO, compression: Compression, *, clamp: int | None = None
) -> WrittenLayer:
    """Write `entries` (sorted, parents first) as a tar to `out`; `clamp` bounds the times, in seconds.

    Raises InvalidImage where a file is not as long as its entry says, UnsafePath for a name that would be read as a
    whiteout, OSError when reading or writing fails.
    """
    diff_hash = hashlib.sha256()
    with Compressor(out, compression, diff_hash.update) as stream:
        written = _write(entries, content, stream.write, clamp)
        stream.write(tar.END)
        digest = stream.finish()
    diff_id = Digest("sha256", diff_hash.hexdigest())
    return WrittenLayer(diff_id, digest, stream.size, written)


def hash_contents(entries: Iterable[Entry], content: FileContent, *, clamp: int | None = None) -> tuple[Entry, ...]:
    """The entries as they would stand in the tar that `write_layer` writes. Raises what that raises."""
    return _write(entries, content, _let_go, clamp)


def _let_go(_data: bytes) -> None:
    pass


def _write(
    entries: Iterable[Entry], content: FileContent, put: Callable[[bytes], object], clamp: int | None
) -> tuple[Entry, ...]:
    """Give the bytes of the tar, but for its end, to `put`; return the entries with digests and offsets."""
    written = []
    position = 0
    for entry in entries:
        header = tar_header(entry, clamp)
        put(header)
        position += len(header)
        if entry.kind is Kind.FILE and not entry.hardlink:
            entry = entry.with_content(_copy(entry, content, put), position)
            if padding := -entry.size % tar.BLOCK:
                put(_PADDING[:padding])
            position += entry.size + padding
        written.append(entry)
    return tuple(_fill_links(written))


def tar_header(entry: Entry, clamp: int | None) -> bytes:
    """The header bytes of one entry."""
    name = entry.path
    if entry.kind is Kind.FILE and not entry.hardlink and not entry.xattrs:  # what nearly all are
        refuse_reserved(name)
        return entry_header(
            name, tar.REGULAR, mode=entry.mode, uid=entry.uid, gid=entry.gid, size=entry.size, mtime=entry.mtime,
            clamp=clamp,
        )  # fmt: skip
    mode, mtime, link = entry.mode, entry.mtime, entry.link
    kind = _TYPES[entry.kind]
    if entry.kind is Kind.WHITEOUT:
        name, mode, mtime = marker(name), 0, 0
    else:
        refuse_reserved(name)
        if entry.kind is Kind.DIRECTORY:
            name = name + b"/" if name else b"./"
        if entry.hardlink:
            kind, link = tar.HARDLINK, entry.hardlink
    return entry_header(
        name,
        kind,
        mode=mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size if kind == tar.REGULAR else 0,
        mtime=mtime,
        clamp=clamp,
        link=link,
        device=(os.major(entry.rdev), os.minor(entry.rdev)) if entry.kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        xattrs=stored_xattrs(entry) if not entry.hardlink else (),
    )


def _copy(entry: Entry, content: FileContent, put: Callable[[bytes], object]) -> bytes:
    """Give the content of one file to `put`, return its sha256."""
    hasher = hashlib.sha256()
    left = entry.size
    if left:
        for chunk in content.chunks(entry):
            left -= len(chunk)
            if left < 0:
                break
            hasher.update(chunk)
            put(chunk)
    if left:
        raise InvalidImage(
            f"entry {tar.show(entry.path)}: changed while it was read",
            hint="build again when nothing writes to it",
        )
    return hasher.digest()


def _fill_links(entries: list[Entry]) -> Iterator[Entry]:
    """Give the further names of a file the digest and place of its content."""
    first: dict[bytes, Entry] = {}
    for entry in entries:
        if entry.hardlink:
            source = first[entry.hardlink]
            yield entry.with_content(source.sha256, source.offset)
        else:
            first[entry.path] = entry
            yield entry
