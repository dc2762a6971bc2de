"""Compressing and decompressing layers: gzip (the default everywhere), zstd, or none.

gzip uses ISA-L, which is several times faster than zlib at a similar ratio. It writes no time stamp, so the same bytes
compress to the same blob (docs/dev/decisions/0004 names a rare exception). The libraries are imported only when a layer is
read or written: a fully cached build needs none of them.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.pipeline import Pipeline
from pybuild.store.system.syscalls import start_writing
from pybuild.values.limits import LAYER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pybuild.store.system.streams import Readable
    from pybuild.values.limits import Limit

_CHUNK = 1 << 18
_WRITEBACK = 16 << 20  # bytes; each time this much is written, the kernel begins to write it to the disk
# The sender of a layer decides how much memory one decompressor call fills. ISA-L takes a limit for it. zstd gets the
# input in slices of this size: 4 bytes make a block of at most 128 KiB, so one slice makes at most 32 MiB.
_MAX_OUTPUT = 1 << 20  # bytes
_ZSTD_SLICE = 1 << 10  # bytes


class Compression(Enum):
    """How a layer blob is compressed. The value is the name on the command line."""

    UNCOMPRESSED = "uncompressed"
    GZIP = "gzip"
    ZSTD = "zstd"


def sniff(start: bytes) -> Compression:
    """The compression of a stream, judged by its first four bytes."""
    if start.startswith(b"\x1f\x8b"):
        return Compression.GZIP
    # zstd allows skippable frames (0x184D2A5?) before the first real one, RFC 8878 section 3.1.2.
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
    """A stream of the decompressed bytes, which are counted against the limits and hashed on the way."""

    def __init__(
        self,
        raw: Readable,
        compression: Compression | None = None,
        *,
        limit: Limit = LAYER_BYTES,
        hashed: bool = True,
        observer: Callable[[bytes], object] | None = None,
    ) -> None:
        """If `compression` is None, `sniff` decides. `read` raises InvalidImage for damaged or too long data.

        Without `hashed` there is no `diff_id`, and nothing is hashed: that takes most of the time of many zeros.
        `observer` is called with the decompressed bytes, in whatever pieces they come.
        """
        self._raw = raw
        start = raw.read(_CHUNK)
        self._chunk: bytes | memoryview = start  # not decompressed yet
        self.kind = compression if compression is not None else sniff(start)
        self._limit, self._most = limit, limit.value
        self._hash = hashlib.sha256() if hashed else None
        self._observer = observer
        self._piece = b""
        self._returned = 0  # bytes of the piece that `read` returned already
        self.read_bytes = len(start)
        self.expanded_bytes = 0
        self._stream: _Decompressor | None = None
        self._ended = False
        self._padded = False  # zeros have been read after the end of a member

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        while self._returned == len(self._piece):
            if self._ended:
                return b""
            self._piece, self._returned = self._expand(), 0
            self._count(self._piece)
        piece = self._piece[self._returned : self._returned + size]
        self._returned += len(piece)
        return piece

    def diff_id(self) -> Digest:
        """Read the rest of the stream; return the digest of all its decompressed bytes."""
        assert self._hash is not None, "nothing was hashed"
        self.finish()
        return Digest("sha256", self._hash.hexdigest())

    def finish(self) -> None:
        """Read the rest of the stream. Raises what `read` raises."""
        while self.read(1 << 20):
            pass

    def _expand(self) -> bytes:
        """The next decompressed bytes. b"" at the end, or if the current input made none."""
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
        if self._stream is not None and self._stream.eof:
            if not bytes(data).strip(b"\0"):
                self._padded = True
                return b""  # zero padding after the last member is harmless
            if self._padded:
                raise InvalidImage(f"damaged {self.kind.value} stream: data behind the padding after its end")
        try:
            return self._gunzip(data) if self.kind is Compression.GZIP else self._unzstd(data)
        except InvalidImage:
            raise
        except Exception as error:  # each library has its own error class for damaged data
            raise InvalidImage(f"damaged {self.kind.value} stream: {error}") from error

    # A stream can consist of several members or frames: the bytes that one leaves belong to the next.

    def _gunzip(self, data: bytes | memoryview) -> bytes:
        from isal import isal_zlib

        stream = self._stream
        if not isinstance(stream, isal_zlib.Decompress) or stream.eof:
            stream = self._stream = isal_zlib.decompressobj(wbits=31)
        expanded: bytes = stream.decompress(data, _MAX_OUTPUT)
        self._chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
        return expanded

    def _unzstd(self, data: bytes | memoryview) -> bytes:
        if self._stream is None or self._stream.eof:
            import zstandard

            # A window above 128 MiB is refused, because the sender decides how much memory it takes.
            self._stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(read_across_frames=False)
        view = memoryview(data)
        expanded = self._stream.decompress(view[:_ZSTD_SLICE])
        rest = view[_ZSTD_SLICE:]
        self._chunk = self._stream.unused_data + bytes(rest) if self._stream.eof else rest
        return expanded

    def _count(self, data: bytes) -> None:
        self.expanded_bytes += len(data)
        if self.expanded_bytes > self._most:
            raise self._limit.exceeded(InvalidImage, "expands to more than the limit of {}")
        if self._hash is not None:
            self._hash.update(data)
        if self._observer is not None:
            self._observer(data)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Compressor:
    """Writes a compressed stream to a file and computes its digest and size. A context manager.

    Threads compress the stream, hash it and write it to the file (pipeline.py), in blocks that do not depend on how the
    stream was cut into `write` calls. Leaving the context ends the threads.
    """

    def __init__(self, out: BinaryIO, compression: Compression, *observers: Callable[[bytes], object]) -> None:
        """Each of `observers` is called, in a thread of its own, with every block of the stream before compression."""
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0
        match compression:
            case Compression.GZIP:
                from isal import isal_zlib

                self._stream: _Compressor = isal_zlib.compressobj(2, wbits=31)
            case Compression.ZSTD:
                import zstandard

                # zstd's default level. The frame must depend on the data alone: so it has no content size, and zstd uses
                # no threads of its own, whose order could change the output.
                self._stream = zstandard.ZstdCompressor(level=3, threads=0).compressobj()
            case Compression.UNCOMPRESSED:
                self._stream = _Uncompressed()
        self._file = _EarlyWriteback(out)
        self._compressed = Pipeline(self._store)
        self._uncompressed = Pipeline(*observers, lambda block: self._output(self._stream.compress(block)))

    def write(self, data: bytes) -> None:
        """Compress and write. Raises OSError if writing fails; some of these errors are raised only by `finish`."""
        self._uncompressed.write(data)

    def finish(self) -> Digest:
        """End the stream and return the digest of the compressed bytes. Raises OSError."""
        self._uncompressed.finish()
        self._output(self._stream.flush())
        self._compressed.finish()
        self._out.flush()
        return Digest("sha256", self._hash.hexdigest())

    def close(self) -> None:
        """End the threads. Idempotent."""
        self._uncompressed.close()
        self._compressed.close()

    def __enter__(self) -> Compressor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _output(self, data: bytes) -> None:
        self.size += len(data)
        self._compressed.write(data)

    def _store(self, block: bytes) -> None:
        self._hash.update(block)
        self._file.write(block)


class _Uncompressed:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _EarlyWriteback:
    """Writes to a file. The kernel begins to write a large file to the disk before the file is complete."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._written = self._started = 0

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self._written += len(data)
        if self._written - self._started >= _WRITEBACK:
            start_writing(self._out.fileno(), self._started, self._written - self._started)
            self._started = self._written
