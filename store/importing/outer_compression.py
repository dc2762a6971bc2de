"""Decompression of xz and bzip2: tools compress whole archives with them, but never the layer blobs in a registry.

Both come from the standard library. pybuild reads them and never writes them: such a layer is stored as gzip.
"""

from __future__ import annotations

import bz2
import lzma
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.compression import Compression, sniff
from pybuild.values.limits import LAYER_BYTES, XZ_MEMORY

if TYPE_CHECKING:
    from pybuild.store.system.streams import Peeked, Readable

_CHUNK = 1 << 18
_MEMORY = 256 << 20  # bytes of memory that an xz stream may require; `xz -9` requires 65 MiB
_XZ, _BZIP2 = b"\xfd7zXZ\0", b"BZh"


def is_compressed(start: bytes) -> bool:
    """Whether a stream with these first bytes is compressed with xz, bzip2, gzip or zstd."""
    return start.startswith((_XZ, _BZIP2)) or sniff(start) is not Compression.UNCOMPRESSED


def without_outer_compression(raw: Peeked) -> Readable:
    """The decompressed stream if `raw` is xz or bzip2, else `raw` itself. Reading raises InvalidImage."""
    if raw.start.startswith(_XZ):
        return _OuterDecompressor(raw, "xz")
    if raw.start.startswith(_BZIP2):
        return _OuterDecompressor(raw, "bzip2")
    return raw


class _OuterDecompressor:
    """A readable stream of decompressed bytes, with the same limits as a layer."""

    def __init__(self, raw: Readable, kind: str) -> None:
        self._raw = raw
        self._kind = kind
        self._stream = self._open()
        self._ended = False
        self._read = self._expanded = 0

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            data = self._expand(size)
            if data:
                self._expanded += len(data)
                if self._expanded > LAYER_BYTES.value:
                    raise LAYER_BYTES.exceeded(InvalidImage, f"{self._kind}: expands to more than the limit of {{}}")
                return data
        return b""

    def _expand(self, size: int) -> bytes:
        data = b""
        if self._stream.eof:
            # A file can contain several streams; xz pads them with zeros.
            data = self._stream.unused_data or self._more()
            while data and not (data := data.lstrip(b"\0")):
                data = self._more()
            if not data:
                self._ended = True
                return b""
            self._stream = self._open()
        elif self._stream.needs_input:
            data = self._more()
            if not data:
                raise InvalidImage(f"{self._kind} stream is truncated after {self._read} bytes")
        try:
            return self._stream.decompress(data, max(size, 1))
        except (lzma.LZMAError, OSError, ValueError, EOFError) as error:
            raise InvalidImage(f"damaged {self._kind} stream: {error}") from error

    def _more(self) -> bytes:
        data = self._raw.read(_CHUNK)
        self._read += len(data)
        return data

    def _open(self) -> lzma.LZMADecompressor | bz2.BZ2Decompressor:
        if self._kind == "xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY.value)
        return bz2.BZ2Decompressor()
