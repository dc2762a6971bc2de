"""Bytes that are read in another order than they come in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_CHUNK = 1 << 20


class Spool:
    """A file without a name for the expanded bytes of tars, made when the first one comes. A context manager."""

    def __init__(self, path: str) -> None:
        """`path` is a free one, on the disk of the store."""
        self._path = path
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Raises OSError when the disk refuses."""
        if self._file is None:
            self._file = open(self._path, "x+b", buffering=_CHUNK)
            os.unlink(self._path)
        self._file.write(data)
        self.size += len(data)

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """A range of what was written."""
        if not size:
            return
        assert self._file is not None, "nothing was written"
        self._file.flush()
        while size:
            data = os.pread(self._file.fileno(), min(size, _CHUNK), offset)
            if not data:
                raise InvalidImage("a spool is shorter than what was put into it")
            offset += len(data)
            size -= len(data)
            yield data

    def close(self) -> None:
        """Give the disk its room back. Idempotent."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
