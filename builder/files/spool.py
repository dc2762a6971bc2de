"""A temporary file for bytes that are read in another order than they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.system.holes import chunks_of_file, create_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


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
            self._file = create_sparse(self._path, "x+b")
            os.unlink(self._path)
        self._file.write(data)
        self.size += len(data)

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """The bytes of a range."""
        if not size:
            return
        assert self._file is not None, "the spool is empty"
        self._file.flush()
        for data in chunks_of_file(self._file.fileno(), offset, size):
            size -= len(data)
            yield data
        if size:
            raise InvalidImage("the spool is shorter than the data written to it")

    def close(self) -> None:
        """Free the disk space. Idempotent."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
