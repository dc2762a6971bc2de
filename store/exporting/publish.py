"""Writing a file of the user completely or not at all: under a temporary name in the same directory, then renamed.

The files are not synced to the disk, like those that cp(1) writes. After a power cut the user exports again.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.system.disk_full import no_space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


STDOUT = "-"
_BUFFER = 1 << 20


@contextmanager
def replacing(destination: str) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `destination` if the block succeeds. If it fails, `destination` is unchanged.

    Pipes and devices (/dev/stdout, /dev/null, a FIFO) cannot be replaced and are written to directly. If `destination`
    is a symbolic link, its target is replaced. STDOUT is standard output. Raises StoreError for a directory; OSError,
    NoSpace.
    """
    target = os.path.realpath(destination)
    try:
        if destination == STDOUT:
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb", _BUFFER) as out:
                yield out
            return
        status = _status(destination)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{destination} is a directory", hint="name a file")
        if status is not None and not stat.S_ISREG(status.st_mode):
            with open(destination, "wb") as out:
                yield out
            return
        temporary = temporary_name(target)
        try:
            with open(temporary, "xb", buffering=_BUFFER) as out:
                yield out
            os.rename(temporary, target)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
    except OSError as error:
        raise no_space(error, destination) from error


def temporary_name(path: str) -> str:
    """An unused path in the same directory as `path`."""
    directory, name = os.path.split(path)
    return f"{directory}/.{name[:60]}.{os.urandom(8).hex()}"


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
