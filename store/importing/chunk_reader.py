"""A readable stream over an iterator of chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ChunkReader:
    """Reads the bytes of chunks of any size, one after the other."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        data = self._rest or next(self._chunks, b"")
        data, self._rest = data[:size], data[size:]
        return data

    def close(self) -> None:
        """Stop reading: the chunks that are left are dropped."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
