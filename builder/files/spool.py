"""A temporary file for bytes that are read in another order than they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_CHUNK = 1 << 20


class Spool:
    """An unlinked file for the decompressed bytes of tars, created by the first write. A context manager."""

    def __init__(self, path: str) -> None:
        """`path` must not exist; it is on the filesystem of the store."""
        self._path = path
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError, for instance if the disk is full."""
        if self._file is None:
            self._file = open(self._path, "x+b", buffering=_CHUNK)
            os.unlink(self._path)
        self._file.write(data)
        self.size += len(data)

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """The bytes of a range."""
        if not size:
            return
        assert self._file is not None, "the spool is empty"
        self._file.flush()
        while size:
            data = os.pread(self._file.fileno(), min(size, _CHUNK), offset)
            if not data:
                raise InvalidImage("the spool is shorter than the data written to it")
            offset += len(data)
            size -= len(data)
            yield data

    def close(self) -> None:
        """Free the disk space. Idempotent."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
