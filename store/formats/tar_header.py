"""Writing tar headers, in the one form that pybuild gives its layers.

They are ustar headers without user names, with a PAX record only for a value that does not fit. The length of a header
depends on the entry alone and not on the clamp of its time, so offsets are the same with and without a clamp.
"""

from __future__ import annotations

import os
from functools import lru_cache
from zlib import adler32

from pybuild.store.formats import tar
from pybuild.store.formats.clamp import stored_time
from pybuild.store.formats.tar import BLOCK, OCTAL_8, OCTAL_12, XATTR
from pybuild.store.formats.toc import Entry, Kind

TYPES = {
    Kind.FILE: tar.REGULAR,
    Kind.DIRECTORY: tar.DIRECTORY,
    Kind.SYMLINK: tar.SYMLINK,
    Kind.CHAR: tar.CHAR,
    Kind.BLOCK: tar.BLOCK_DEVICE,
    Kind.FIFO: tar.FIFO,
    Kind.WHITEOUT: tar.REGULAR,  # an empty file, whiteout.marker gives its name
}


def device_numbers(entry: Entry) -> tuple[int, int]:
    """The major and minor number of a device; zeros for every other entry."""
    return (os.major(entry.rdev), os.minor(entry.rdev)) if entry.kind in (Kind.CHAR, Kind.BLOCK) else (0, 0)


def entry_header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    clamp: int | None = None,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """The header block of one entry, after a PAX header if a value does not fit.

    `more` are further PAX records. `mtime` is in seconds. It alone decides whether there is a PAX record; `clamp` (store/formats/clamp.py) changes only
    the value.
    """
    stored = stored_time(mtime, clamp)
    records: list[tuple[bytes, bytes]] = []
    if len(name) > 100:
        records.append((b"path", name))
    if len(link) > 100:
        records.append((b"linkpath", link))
    if uid >= OCTAL_8:
        records.append((b"uid", b"%d" % uid))
    if gid >= OCTAL_8:
        records.append((b"gid", b"%d" % gid))
    if size >= OCTAL_12:
        records.append((b"size", b"%d" % size))
    if not 0 <= mtime < OCTAL_12:
        # The width is fixed, so a clamped time does not move the data after it.
        records.append((b"mtime", b"%021d" % stored))
    for key, value in xattrs:
        records.append((XATTR.encode() + key, value))
    records += more
    block = _block(
        name[:100], kind, mode, uid if uid < OCTAL_8 else 0, gid if gid < OCTAL_8 else 0,
        size if size < OCTAL_12 else 0, stored if 0 <= stored < OCTAL_12 else 0, link[:100], device,
    )  # fmt: skip
    if not records:
        return block
    if not _is_utf8(name) or not _is_utf8(link):
        records.insert(0, (b"hdrcharset", b"BINARY"))
    body = b"".join(_record(key, value) for key, value in records)
    extended = _block(
        b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80], b"x", 0o644, 0, 0, len(body), 0, b"", (0, 0)
    )
    return extended + body + bytes(-len(body) % BLOCK) + block


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record. Its length includes the digits of the length itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes, device: tuple[int, int]
) -> bytes:
    fields = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    tail, tail_sum = _tail(kind, link, device)
    # The lower half of Adler-32 is 1 plus the sum of the bytes, modulo 65521; the sum is at most 154 * 255 here.
    checksum = (adler32(fields, adler32(name)) & 0xFFFF) - 1 + tail_sum + 8 * 32
    return b"%s%s%06o\0 %s" % (name.ljust(100, b"\0"), fields, checksum, tail)


@lru_cache(maxsize=64)  # nearly all headers of a layer end in the same bytes
def _tail(kind: bytes, link: bytes, device: tuple[int, int]) -> tuple[bytes, int]:
    """The bytes of a header from its type on, and their sum."""
    tail = b"%s%sustar\00000%s%07o\0%07o\0" % (kind, link.ljust(100, b"\0"), bytes(64), *device)
    return tail.ljust(BLOCK - 156, b"\0"), sum(tail)
