"""The file of a table of contents, as damaged disks and other versions leave it.

An input is a file without the checksums and the magic of its end, which are then computed, so that the fuzzer gets behind
them; after `!` it is a file as it is.
"""

from __future__ import annotations

import contextlib
import struct
import zlib

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Entry, Kind, Toc, encode, sort_key
from pybuild.store.layers.view import LinkLoop, View
from tests.fuzz.target import FuzzTarget, check_refusal

MAGIC = b"pbtoc-1\n"
END = 12  # bytes of the checksum of the index and the magic


def read(data: bytes) -> bool:
    """Lookups end and fail only as damage. If the order is right, the rows can be written again and walked through."""
    try:
        toc = Toc(_repaired(data))
        rows = list(toc)
    except InvalidImage as error:
        return check_refusal(error)
    view = View([toc, toc])
    for path in {b"", b"a", b"a/b", *(row.path for row in rows)}:
        for question in (toc.find, view.lookup, view.resolve, lambda path: list(toc.children(path))):
            with contextlib.suppress(InvalidImage, LinkLoop):
                question(path)
    keys = [sort_key(row.path) for row in rows]
    if keys == sorted(set(keys)):
        try:
            again = Toc(encode(rows))
        except InvalidImage as error:
            return check_refusal(error)
        assert list(again) == rows
        assert all(again.find(row.path) == row for row in rows)
        assert {row.path for row in view.walk(b"")} <= {row.path for row in rows}
    return True


def _repaired(data: bytes) -> bytes:
    if data.startswith(b"!") or len(data) < 16:
        return data[1:]
    out = bytearray(data)
    _, start = struct.unpack("<QQ", data[-16:])
    for position in range(start, len(data) - 16, 8) if start < len(data) else ():
        offset = int.from_bytes(data[position : position + 8], "little")
        if offset + 8 <= len(data):
            length = int.from_bytes(data[offset + 4 : offset + 8], "little")
            out[offset : offset + 4] = zlib.crc32(out[offset + 4 : offset + 8 + length]).to_bytes(4, "little")
    return bytes(out) + zlib.crc32(out[start:-16]).to_bytes(4, "little") + MAGIC


def _seed(*rows: Entry) -> bytes:
    return encode(rows)[:-END]


TARGET = FuzzTarget(
    read,
    seeds=(
        _seed(),
        _seed(Entry(b"", Kind.DIRECTORY, 0o755, opaque=True), Entry(b"a", Kind.DIRECTORY), Entry(b"a/b", Kind.SYMLINK, link=b"/a/b")),
        _seed(
            Entry(b"f", Kind.FILE, 0o4755, 1, 2, -3, 4, sha256=b"s" * 32, offset=512, xattrs=((b"k", b"v"), (b"l", b""))),
            Entry(b"g", Kind.FILE, hardlink=b"f"),
            Entry(b"h", Kind.CHAR, rdev=0x501),
            Entry(b"i", Kind.WHITEOUT),
        ),
        b"!" + encode([Entry(b"x%02d" % number, Kind.FIFO) for number in range(70)]),
    ),
    words=(MAGIC, b"\xff\xff", bytes(8), (32768).to_bytes(2, "little"), b"\x0f\x27\0\0"),
)  # fmt: skip
