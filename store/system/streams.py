"""Readables made of others: looked into first, copied as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 18


class Readable(Protocol):
    """Bytes to read once, in order."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; an empty answer means the end."""
        ...


class Prefixed:
    """A readable with bytes in front of another one."""

    def __init__(self, head: bytes, raw: Readable) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; an empty answer means the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._raw.read(size)


class Peeked(Prefixed):
    """A readable whose first bytes, `start`, can be looked at before they are read."""

    def __init__(self, raw: Readable) -> None:
        self.start = raw.read(_CHUNK)
        while 0 < len(self.start) < 8 and (more := raw.read(_CHUNK)):
            self.start += more
        super().__init__(self.start, raw)


class Tee:
    """A readable that hands all that is read of it to `sink` as well."""

    def __init__(self, source: Readable, sink: Callable[[bytes], object]) -> None:
        self._source = source
        self._sink = sink

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; an empty answer means the end."""
        data = self._source.read(size)
        self._sink(data)
        return data
