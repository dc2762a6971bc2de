"""Writing a layer: from entries and their content to a tar and its digests.

One pass reads and hashes each file once, writes its header and content, hashes the tar (the diff_id) and compresses it.
`hash_contents` is the same pass for a layer that is not needed as a tar, without writing anything. The tar depends only
on the entries and the clamp: it is ordered by path components and has ustar headers without user names, whiteouts with
time 0, and `security.capability` as the only extended attribute.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pybuild.store.errors import InvalidImage
from pybuild.store.formats import tar
from pybuild.store.formats.compression import Compressor
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.tar_header import TYPES, device_numbers, entry_header
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.formats.whiteout import marker, refuse_reserved
from pybuild.store.formats.windows_layer import is_windows_layer, windows_mode, windows_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from pybuild.store.formats.compression import Compression

STORED_XATTR = b"security.capability"
_PADDING = bytes(tar.BLOCK)


def stored_xattrs(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes of an entry that a layer stores."""
    return tuple(pair for pair in entry.xattrs if pair[0] == STORED_XATTR) if entry.xattrs else ()


def same_metadata(entry: Entry, before: Entry | None) -> bool:
    """Whether an entry equals the one in the layers below, except for content; the times of directories are ignored.

    Every kind of step leaves unchanged entries out of its layer.
    """
    if before is None or entry.kind is not before.kind:
        return False
    if (entry.uid, entry.gid, entry.xattrs) != (before.uid, before.gid, stored_xattrs(before)):
        return False
    if entry.kind is Kind.SYMLINK:
        return (entry.mtime, entry.link) == (before.mtime, before.link)
    if entry.kind is Kind.DIRECTORY:
        return entry.mode == before.mode
    return (entry.mode, entry.mtime, entry.size, entry.rdev) == (before.mode, before.mtime, before.size, before.rdev)


class FileContent(Protocol):
    """The source of the content of files."""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file, exactly `entry.size` bytes in total."""
        ...


class WrittenLayer(NamedTuple):
    """A layer that was written: its tar, and the blob that holds the tar."""

    diff_id: Digest
    digest: Digest  # of the compressed bytes
    size: int  # of the compressed bytes
    entries: tuple[Entry, ...]  # with content digests and offsets


def write_layer(
    entries: Iterable[Entry], content: FileContent, out: BinaryIO, compression: Compression, *, clamp: int | None = None
) -> WrittenLayer:
    """Write `entries` (sorted, parents first) as a tar to `out`; `clamp`: store/formats/clamp.py.

    Raises InvalidImage if the length of a file differs from its entry's size, UnsafePath for a name that would be read
    as a whiteout, OSError if reading or writing fails.
    """
    diff_hash = hashlib.sha256()
    with Compressor(out, compression, diff_hash.update) as stream:
        written = _write(entries, content, stream.write, clamp)
        stream.write(tar.END)
        digest = stream.finish()
    diff_id = Digest("sha256", diff_hash.hexdigest())
    return WrittenLayer(diff_id, digest, stream.size, written)


def hash_contents(entries: Iterable[Entry], content: FileContent, *, clamp: int | None = None) -> tuple[Entry, ...]:
    """The entries with the content digests and offsets that `write_layer` would give them. Raises the same errors."""
    return _write(entries, content, _discard, clamp)


def _discard(_data: bytes) -> None:
    pass


def _write(
    entries: Iterable[Entry], content: FileContent, write: Callable[[bytes], object], clamp: int | None
) -> tuple[Entry, ...]:
    """Pass the bytes of the tar, except for its end, to `write`; return the entries with digests and offsets."""
    written = []
    position = 0
    entries = list(entries)
    windows = is_windows_layer(entries)
    for entry in entries:
        header = tar_header(entry, clamp, windows=windows)
        write(header)
        position += len(header)
        if entry.kind is Kind.FILE and not entry.hardlink:
            entry = entry.with_content(_copy(entry, content, write), position)
            if padding := -entry.size % tar.BLOCK:
                write(_PADDING[:padding])
            position += entry.size + padding
        written.append(entry)
    return tuple(_fill_links(written))


def tar_header(entry: Entry, clamp: int | None, *, windows: bool = False) -> bytes:
    """The tar header of one entry, in a layer of Windows with what that has besides.

    Raises UnsafePath for a name that would be read as a whiteout.
    """
    name = entry.path
    if not windows and entry.kind is Kind.FILE and not entry.hardlink and not entry.xattrs:  # nearly all entries
        refuse_reserved(name)
        return entry_header(
            name, tar.REGULAR, mode=entry.mode, uid=entry.uid, gid=entry.gid, size=entry.size, mtime=entry.mtime,
            clamp=clamp,
        )  # fmt: skip
    mode, mtime, link = entry.mode, entry.mtime, entry.link
    kind = TYPES[entry.kind]
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
        mode=windows_mode(entry) if windows and entry.kind is not Kind.WHITEOUT else mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size if kind == tar.REGULAR else 0,
        mtime=mtime,
        clamp=clamp,
        link=link,
        device=device_numbers(entry),
        xattrs=stored_xattrs(entry) if not entry.hardlink else (),
        more=windows_records(entry) if windows else (),
    )


def _copy(entry: Entry, content: FileContent, write: Callable[[bytes], object]) -> bytes:
    """Pass the content of one file to `write`; return its sha256."""
    hasher = hashlib.sha256()
    left = entry.size
    if left:
        for chunk in content.chunks(entry):
            left -= len(chunk)
            if left < 0:
                break
            hasher.update(chunk)
            write(chunk)
    if left:
        raise InvalidImage(
            f"entry {tar.show(entry.path)}: changed while it was read",
            hint="build again while no other process writes to it",
        )
    return hasher.digest()


def _fill_links(entries: list[Entry]) -> Iterator[Entry]:
    """Give hard links the digest and offset of their file's content."""
    first: dict[bytes, Entry] = {}
    for entry in entries:
        if entry.hardlink:
            source = first[entry.hardlink]
            yield entry.with_content(source.sha256, source.offset)
        else:
            first[entry.path] = entry
            yield entry
