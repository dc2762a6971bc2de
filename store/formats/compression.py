"""Layers come and go compressed: gzip (the default everywhere), zstd, or not at all.

gzip goes through ISA-L, which is several times faster than zlib at a like ratio and writes no time stamp, so that
the same bytes always compress to the same blob, however they come. The libraries are imported when a layer is really
read or written: a build that is served from the cache alone needs none.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.pipeline import Pipeline
from pybuild.store.system.syscalls import start_writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pybuild.store.system.streams import Readable

_CHUNK = 1 << 18
_STRETCH = 16 << 20  # bytes after which the disk may begin
EXPANDED_LIMIT = 64 << 30  # bytes of one expanded layer
RATIO_LIMIT = 200  # beyond RATIO_FREE expanded bytes
RATIO_FREE = 1 << 30
# What comes out of a decompressor at once is memory that the sender chooses. ISA-L is told how much it may give. zstd is
# not asked for more than a slice of this size makes: a block of 4 bytes up to 128 KiB, so 32 MiB at the most.
_EXPANDED = 1 << 20
_ZSTD_SLICE = 1 << 10


class Compression(Enum):
    """How a layer blob is stored; the value is the name used on the command line."""

    UNCOMPRESSED = "uncompressed"
    GZIP = "gzip"
    ZSTD = "zstd"


def sniff(start: bytes) -> Compression:
    """Tell the compression of a stream from its first four bytes."""
    if start.startswith(b"\x1f\x8b"):
        return Compression.GZIP
    # A skippable frame (0x184D2A5?) may come first, RFC 8878 section 3.1.2.
    if start.startswith(b"\x28\xb5\x2f\xfd") or (start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50):
        return Compression.ZSTD
    return Compression.UNCOMPRESSED


class _Decompressor(Protocol):
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


class DecompressingReader:
    """A readable stream of the expanded bytes, which are counted against the limits and hashed on the way.

    After the last byte `diff_id` holds the digest of all of them.
    """

    def __init__(self, raw: Readable, compression: Compression | None = None, *, limit: int = EXPANDED_LIMIT) -> None:
        """`compression` None means: look at the first bytes. Raises InvalidImage while reading."""
        self._raw = raw
        start = raw.read(_CHUNK)
        self._chunk: bytes | memoryview = start  # not given to the decompressor yet
        self.kind = compression if compression is not None else sniff(start)
        self._limit = limit
        self._hash = hashlib.sha256()
        self._piece = b""
        self._taken = 0  # bytes of the piece already given out
        self.read_bytes = len(start)
        self.expanded_bytes = 0
        self._stream: _Decompressor | None = None
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; an empty answer means the end."""
        while self._taken == len(self._piece):
            if self._ended:
                return b""
            self._piece, self._taken = self._expand(), 0
            self._count(self._piece)
        piece = self._piece[self._taken : self._taken + size]
        self._taken += len(piece)
        return piece

    def diff_id(self) -> Digest:
        """Read what is left and return the digest of the whole expanded stream."""
        while self.read(1 << 20):
            pass
        return Digest("sha256", self._hash.hexdigest())

    def _expand(self) -> bytes:
        """Some more bytes; none where the compressed ones at hand made none, or at the end."""
        if not self._chunk and not self._ended:
            self._chunk = self._raw.read(_CHUNK)
            self.read_bytes += len(self._chunk)
        data, self._chunk = self._chunk, b""
        if self.kind is Compression.UNCOMPRESSED:
            self._ended = not data
            return bytes(data)
        if not data:
            if self._stream is not None and not self._stream.eof:
                raise InvalidImage(f"{self.kind.value} stream is truncated after {self.read_bytes} bytes")
            if self._stream is None:
                raise InvalidImage(f"{self.kind.value} stream is empty")
            self._ended = True
            return b""
        if self._stream is not None and self._stream.eof and not bytes(data).strip(b"\0"):
            return b""  # zero padding after the last member is harmless
        try:
            return self._gunzip(data) if self.kind is Compression.GZIP else self._unzstd(data)
        except InvalidImage:
            raise
        except Exception as error:  # each library has its own class for damaged data
            raise InvalidImage(f"damaged {self.kind.value} stream: {error}") from error

    # Members may follow one another: what one leaves is for the next.

    def _gunzip(self, data: bytes | memoryview) -> bytes:
        from isal import isal_zlib

        stream = self._stream
        if not isinstance(stream, isal_zlib.Decompress) or stream.eof:
            stream = self._stream = isal_zlib.decompressobj(wbits=31)
        expanded: bytes = stream.decompress(data, _EXPANDED)
        self._chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
        return expanded

    def _unzstd(self, data: bytes | memoryview) -> bytes:
        if self._stream is None or self._stream.eof:
            import zstandard

            # A window above 128 MiB is refused: it is memory that the sender chooses and we pay.
            self._stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(read_across_frames=False)
        view = memoryview(data)
        expanded = self._stream.decompress(view[:_ZSTD_SLICE])
        rest = view[_ZSTD_SLICE:]
        self._chunk = self._stream.unused_data + bytes(rest) if self._stream.eof else rest
        return expanded

    def _count(self, data: bytes) -> None:
        self.expanded_bytes += len(data)
        if self.expanded_bytes > self._limit:
            raise InvalidImage(f"expands to more than the limit of {self._limit} bytes")
        if self.expanded_bytes > RATIO_FREE and self.expanded_bytes > RATIO_LIMIT * self.read_bytes:
            raise InvalidImage(
                f"expands more than {RATIO_LIMIT} times ({self.read_bytes} bytes to {self.expanded_bytes})"
            )
        self._hash.update(data)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Compressor:
    """Writes a compressed stream to a file and knows the digest and size of what it wrote. A context manager.

    What is written is compressed, hashed and given to the file by threads (pipeline.py), in blocks that do not depend on
    the sizes of the pieces that came. When it is left there are none.
    """

    def __init__(self, out: BinaryIO, compression: Compression, *beside: Callable[[bytes], object]) -> None:
        """`beside` are called with the blocks of the stream before compression, each from a thread of its own."""
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0
        match compression:
            case Compression.GZIP:
                from isal import isal_zlib

                self._stream: _Compressor = isal_zlib.compressobj(2, wbits=31)
            case Compression.ZSTD:
                import zstandard

                # The level's default; the content size is unknown, so the frame's bytes depend on the data alone. With
                # threads of its own they would depend on which of them came first.
                self._stream = zstandard.ZstdCompressor(level=3, threads=0).compressobj()
            case Compression.UNCOMPRESSED:
                self._stream = _Uncompressed()
        self._file = _Steady(out)
        self._packed = Pipeline(self._keep)
        self._plain = Pipeline(*beside, lambda block: self._put(self._stream.compress(block)))

    def write(self, data: bytes) -> None:
        """Compress and write; raises OSError when the disk refuses, if not here then at the end."""
        self._plain.write(data)

    def finish(self) -> Digest:
        """End the stream and return the digest of the compressed bytes. Raises OSError."""
        self._plain.finish()
        self._put(self._stream.flush())
        self._packed.finish()
        self._out.flush()
        return Digest("sha256", self._hash.hexdigest())

    def close(self) -> None:
        """End what goes on. Idempotent."""
        self._plain.close()
        self._packed.close()

    def __enter__(self) -> Compressor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, data: bytes) -> None:
        self.size += len(data)
        self._packed.write(data)

    def _keep(self, block: bytes) -> None:
        self._hash.update(block)
        self._file.write(block)


class _Uncompressed:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Steady:
    """Writes to a file, and has what is large go to the disk while it is made."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._written = self._started = 0

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self._written += len(data)
        if self._written - self._started >= _STRETCH:
            start_writing(self._out.fileno(), self._started, self._written - self._started)
            self._started = self._written
