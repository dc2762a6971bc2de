"""A compressed stream: gzip, zstd, xz or bzip2, one or several members, with or without something behind them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import TYPE_CHECKING

import zstandard

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.importing.outer_compression import is_compressed, without_outer_compression
from pybuild.store.system.streams import Peeked
from tests.fuzz.target import FuzzTarget, check_refusal
from tests.support.limits import at_most

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1 << 20  # bytes of decompressed data


class Trickle:
    """A stream that gives few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


def read(data: bytes) -> bool:
    """However the input arrives, the output is the same, within its limit, and that of other libraries."""
    whole = _expand(data, 1 << 20, 1 << 16)
    for arriving, asked in ((9, 100), (1000, 1)):
        # A limit on bytes is noticed after other bytes, so it is not compared.
        if isinstance(whole, bytes) and (asked > 1 or len(whole) < 1 << 14):
            assert _expand(data, arriving, asked) == whole
        elif isinstance(whole, InvalidImage):
            assert isinstance(_expand(data, arriving, max(asked, 100)), InvalidImage)
    if isinstance(whole, InvalidImage):
        return check_refusal(whole)
    others: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
        (b"\x1f\x8b", gzip.decompress), (b"\xfd7zXZ\0", lzma.decompress), (b"BZh", bz2.decompress),
    )  # fmt: skip
    for start, other in others:
        if data.startswith(start):
            try:
                expected = other(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                continue
            # What is compressed twice was expanded twice; lzma and bz2 ignore what follows padding.
            assert is_compressed(expected) or whole.startswith(expected)
    assert len(whole) <= LIMIT or not is_compressed(data[:8])
    return True


def _expand(data: bytes, arriving: int, asked: int) -> bytes | InvalidImage:
    """The decompressed bytes, or the error."""
    out = bytearray()
    try:
        outer = without_outer_compression(Peeked(Trickle(data, arriving)))
        reader = DecompressingReader(Peeked(outer), limit=at_most(LIMIT))
        while piece := reader.read(asked):
            assert len(piece) <= asked
            out += piece
        assert reader.read(1) == b""
    except InvalidImage as error:
        assert len(out) <= LIMIT
        return error
    assert reader.expanded_bytes == len(out)
    return bytes(out)


TEXT = b"pybuild " * 9
ZSTD = zstandard.ZstdCompressor().compress(TEXT)
TARGET = FuzzTarget(
    read,
    seeds=(
        gzip.compress(TEXT, mtime=0), gzip.compress(TEXT, mtime=0) + gzip.compress(b"", mtime=0) + bytes(9), ZSTD,
        ZSTD + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + ZSTD, zstandard.ZstdCompressor(write_checksum=True).compress(TEXT),
        lzma.compress(TEXT), lzma.compress(TEXT) + bytes(8) + lzma.compress(b"x"), bz2.compress(TEXT) + bz2.compress(b""), TEXT, b"",
        gzip.compress(ZSTD, mtime=0), bz2.compress(gzip.compress(TEXT, mtime=0)),
    ),
    words=(b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\xfd7zXZ\0", b"BZh9", b"1AY&SY", b"\x17rE8P\x90", bytes(8)),
)  # fmt: skip
