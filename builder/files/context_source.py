"""The files of a context as a value that is sent to workers: a directory of this machine, or a tar.

A directory is read in place. A tar (from standard input or a URL) is never unpacked: its table of contents is made
once, and content is read from the tar. So pybuild never creates a file with a name, mode or owner from the tar, and
has only one file to remove.
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
from pybuild.store.system.holes import chunks_of_file
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pybuild.values.limits import Limit


@frozen
class ContextSource:
    """A directory, with the text of its ignore file and the path of its memo; or, with a `toc`, an uncompressed tar."""

    root: str
    ignore: str | None = None
    toc: str | None = None
    memo: str | None = None

    def open(self) -> ContextTree | TarTree:
        """Open the tree. The caller must close it.

        Raises BuildError for a directory, and OSError or InvalidImage for a tar, that cannot be opened.
        """
        if self.toc is not None:
            return TarTree(self.root, self.toc)
        ignore = None if self.ignore is None else IgnoreFile.parse(self.ignore)
        return ContextTree(self.root, ignore, memo=None if self.memo is None else Memo(self.memo))

    def read(self, path: str, limit: Limit) -> bytes | None:
        """The content of a file, found by following links inside the context; None if the path does not exist.

        Raises BuildError if it is not a regular file, or is larger than `limit`.
        """
        tree = replace(self, memo=None).open()
        try:
            entry = tree.lookup(follow(tree, os.fsencode(path)))
            if entry is None:
                return None
            if entry.kind is not Kind.FILE:
                raise BuildError(f"{path} is not a regular file")
            if entry.size > limit.value:
                raise limit.exceeded(BuildError, f"{path} exceeds the limit of {{}}")
            return b"".join(tree.chunks(entry))
        finally:
            tree.close()

    def has(self, path: str) -> bool:
        """Whether the context has an entry at a path. Links are not followed."""
        tree = replace(self, memo=None).open()
        try:
            return tree.lookup(os.fsencode(path)) is not None
        finally:
            tree.close()

    def link_target(self, path: str) -> str | None:
        """The target of a symbolic link; None if the path is not one."""
        tree = replace(self, memo=None).open()
        try:
            entry = tree.lookup(os.fsencode(path))
            return None if entry is None or entry.kind is not Kind.SYMLINK else os.fsdecode(entry.link)
        finally:
            tree.close()


class TarTree:
    """A tar as a FileTree. As with every context, its device nodes may not be copied."""

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
        """Never true: a tar cannot hold a socket."""
        return False

    def learn(self, found: Iterable[tuple[Entry, bytes]]) -> None:
        """Do nothing: each build lists a tar again, and its table of contents has the digests."""

    def save_memo(self, scratch: str) -> None:
        """Do nothing: a tar has no memo."""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        left = entry.size
        for data in chunks_of_file(self._fd, entry.offset, left):
            left -= len(data)
            yield data
        if left:
            raise CopyError(f"{show(entry.path)} of the context: the archive was truncated during the build")
