"""The files of a context, wherever they came from, as a worker gets to know of them.

A directory of this machine is read where it lies. What came as a tar, from standard input or a URL, is never unpacked:
its table of contents is made once, and the content is read from the tar itself. So its names touch no disk, its modes and
owners need no privilege, and there is nothing to remove but one file.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError, CopyError
from pybuild.builder.files.context_directory import ContextTree
from pybuild.builder.files.copy_patterns import follow
from pybuild.parser import IgnoreFile
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.view import ROOT, View
from pybuild.store.objects.context_memo import Memo
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

_CHUNK = 1 << 20


@frozen
class ContextSource:
    """A directory, with the text of its ignore file and the path of its memo; or, where there is a `toc`, a tar that is not
    compressed."""

    root: str
    ignore: str | None = None
    toc: str | None = None
    memo: str | None = None

    def open(self) -> ContextTree | TarTree:
        """The files; to be closed. Raises BuildError."""
        if self.toc is not None:
            return TarTree(self.root, self.toc)
        ignore = None if self.ignore is None else IgnoreFile.parse(self.ignore)
        return ContextTree(self.root, ignore, memo=None if self.memo is None else Memo(self.memo))

    def read(self, path: str, limit: int) -> bytes | None:
        """A file of it, links followed inside; None where there is none. Raises BuildError for anything but a file."""
        tree = replace(self, memo=None).open()
        try:
            entry = tree.lookup(follow(tree, os.fsencode(path)))
            if entry is None:
                return None
            if entry.kind is not Kind.FILE:
                raise BuildError(f"{path} is not a regular file")
            if entry.size > limit:
                raise BuildError(f"{path} exceeds {limit} bytes")
            return b"".join(tree.chunks(entry))
        finally:
            tree.close()


class TarTree:
    """A tar as a FileTree. A device in it may not be copied: it is a context like others."""

    allows_devices = False

    def __init__(self, tar: str, toc: str) -> None:
        self._view = View([Toc.open(toc)])
        self._fd = os.open(tar, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def lookup(self, path: bytes) -> Entry | None:
        found = self._view.lookup(path)
        return ROOT if found is None and not path else found

    def readdir(self, path: bytes) -> list[Entry]:
        return self._view.readdir(path)

    def identity(self, entry: Entry) -> Hashable | None:
        return entry.hardlink or entry.path

    def is_socket(self, entry: Entry) -> bool:
        """Never: a tar holds none."""
        return False

    def learn(self, found: Iterable[tuple[Entry, bytes]]) -> None:
        """Nothing: a tar is listed anew for each build, and its table of contents has the digests."""

    def save_memo(self, scratch: str) -> None:
        """There is none."""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        offset, left = entry.offset, entry.size
        while left:
            data = os.pread(self._fd, min(left, _CHUNK), offset)
            if not data:
                raise CopyError(f"{show(entry.path)} of the context: the archive is shorter than it was")
            offset += len(data)
            left -= len(data)
            yield data
