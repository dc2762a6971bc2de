"""Streams of bytes, and wrappers that look ahead in a stream or copy it while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 18


class Readable(Protocol):
    """Bytes to read once, in order."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        ...


class Prefixed:
    """The bytes of `head`, then those of another stream."""

    def __init__(self, head: bytes, raw: Readable) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._raw.read(size)


class Peeked(Prefixed):
    """A stream whose first bytes are also in `start`: at least 8, unless the stream is shorter."""

    def __init__(self, raw: Readable) -> None:
        self.start = raw.read(_CHUNK)
        while 0 < len(self.start) < 8 and (more := raw.read(_CHUNK)):
            self.start += more
        super().__init__(self.start, raw)


class Tee:
    """A stream that passes everything read from it to `sink` as well."""

    def __init__(self, source: Readable, sink: Callable[[bytes], object]) -> None:
        self._source = source
        self._sink = sink

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        data = self._source.read(size)
        self._sink(data)
        return data
