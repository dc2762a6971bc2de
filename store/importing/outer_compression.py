"""xz and bzip2, which tools put around whole archives and never around the layer blobs of a registry.

Both come from the standard library. They are read here and never written: what comes in this way is kept as gzip.
"""

from __future__ import annotations

import bz2
import lzma
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.compression import EXPANDED_LIMIT, RATIO_FREE, RATIO_LIMIT, Compression, sniff

if TYPE_CHECKING:
    from pybuild.store.system.streams import Peeked, Readable

_CHUNK = 1 << 18
_MEMORY = 256 << 20  # bytes that an xz stream may ask for: `xz -9` needs 65 MiB, the rest is the sender's wish
_XZ, _BZIP2 = b"\xfd7zXZ\0", b"BZh"


def is_packed(start: bytes) -> bool:
    """Whether a stream that starts so is compressed, in any of the ways that are read here."""
    return start.startswith((_XZ, _BZIP2)) or sniff(start) is not Compression.UNCOMPRESSED


def without_outer(raw: Peeked) -> Readable:
    """The stream without xz or bzip2 around it; any other stream as it is. Reading raises InvalidImage."""
    if raw.start.startswith(_XZ):
        return _Unpacker(raw, "xz")
    if raw.start.startswith(_BZIP2):
        return _Unpacker(raw, "bzip2")
    return raw


class _Unpacker:
    """A readable stream of expanded bytes, within the limits of a layer."""

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
                if self._expanded > EXPANDED_LIMIT:
                    raise InvalidImage(f"{self._kind}: expands to more than the limit of {EXPANDED_LIMIT} bytes")
                if self._expanded > RATIO_FREE and self._expanded > RATIO_LIMIT * self._read:
                    raise InvalidImage(
                        f"{self._kind}: expands more than {RATIO_LIMIT} times ({self._read} bytes to {self._expanded})"
                    )
                return data
        return b""

    def _expand(self, size: int) -> bytes:
        data = b""
        if self._stream.eof:
            # Streams may follow one another, and xz pads them with zeros.
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
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        return bz2.BZ2Decompressor()
