"""The file of an archive, as one that can be read in any order.

What comes through a pipe, or is compressed as a whole, is first written to a scratch file.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.importing.outer_compression import is_compressed, without_outer_compression
from pybuild.store.system.streams import Peeked
from pybuild.values.limits import LAYER_BYTES

if TYPE_CHECKING:
    from pybuild.store.system.streams import Readable

STDIN = "-"
_CHUNK = 1 << 20


@contextmanager
def opened(path: str, scratch: Callable[[], str]) -> Iterator[BinaryIO]:
    """A seekable file with the bytes of `path` or STDIN. `scratch` gives an unused path in an ingest directory."""
    with open(path, "rb") if path != STDIN else os.fdopen(os.dup(sys.stdin.fileno()), "rb") as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        if regular and os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0:
            yield file
        else:
            with spooled(file, scratch) as spool:
                yield spool


@contextmanager
def opened_plain(path: str, scratch: Callable[[], str]) -> Iterator[BinaryIO]:
    """Like `opened`, without the compression of the whole file. Raises InvalidImage, OSError."""
    with opened(path, scratch) as file:
        peeked = Peeked(file)
        compressed = is_compressed(peeked.start)
        file.seek(0)
        if not compressed:
            yield file
            return
        with spooled(DecompressingReader(without_outer_compression(Peeked(file))), scratch) as plain:
            yield plain


@contextmanager
def spooled(stream: Readable, scratch: Callable[[], str]) -> Iterator[BinaryIO]:
    """A scratch file with the bytes of a stream; it is removed at the end.

    Raises InvalidImage for a stream that cannot be an archive, since a device such as /dev/zero does not end.
    """
    path = scratch()
    try:
        with open(path, "x+b") as spool:
            size = 0
            while data := stream.read(_CHUNK):
                size += len(data)
                if size == _CHUNK and not any(data):
                    raise InvalidImage("not an archive: it begins with 1 MiB of zeros")
                if size > LAYER_BYTES.value:
                    raise LAYER_BYTES.exceeded(InvalidImage, "the archive exceeds the limit of {}")
                spool.write(data)
            spool.flush()
            spool.seek(0)
            yield spool
    finally:
        os.unlink(path)
