"""The blobs of a layout directory: which are there, and which nothing needs any more."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.formats.image_graph import read_graph
from pybuild.store.formats.oci_layout import blob_name
from pybuild.store.system.files import open_beneath, read_regular
from pybuild.values.errors import PybuildError
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor


def has_file(fd: int, digest: Digest, size: int | None = None) -> bool:
    """Whether a layout has a regular file for a blob, of this size in bytes (None: of any). Nothing is read."""
    try:
        blob = open_beneath(fd, blob_name(digest), os.O_PATH)
    except OSError:
        return False
    try:
        found = os.fstat(blob)
        return stat.S_ISREG(found.st_mode) and size in (None, found.st_size)
    finally:
        os.close(blob)


def remove_unneeded(fd: int, replaced: Iterable[Descriptor], entries: Iterable[Descriptor]) -> None:
    """Remove from a layout the blobs that the replaced images need and those of the other entries do not.

    If one of the entries cannot be read, nothing is removed. A blob that cannot be removed stays.
    """
    gone: set[Digest] = set()
    for entry in replaced:
        with suppress(PybuildError, OSError):
            gone |= _reached(fd, entry)
    if not gone:
        return
    try:
        for entry in entries:
            gone -= _reached(fd, entry)
    except (PybuildError, OSError):
        return
    for digest in gone:
        path = blob_name(digest)
        with suppress(OSError):
            parent = open_beneath(fd, os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.unlink(os.path.basename(path), dir_fd=parent)
            finally:
                os.close(parent)


def _reached(fd: int, entry: Descriptor) -> set[Digest]:
    """The documents and blobs of an image. Raises StoreError, OSError."""

    def read(descriptor: Descriptor) -> bytes:
        file = open_beneath(fd, blob_name(descriptor.digest), os.O_RDONLY | os.O_NONBLOCK)
        try:
            return read_regular(file, MANIFEST_BYTES, f"blob {descriptor.digest}")
        finally:
            os.close(file)

    graph = read_graph(entry, read)
    return {document.descriptor.digest for document in graph.documents} | set(graph.blobs)
