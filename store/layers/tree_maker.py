"""Making one file of a tree after the other.

The names here are safe: a tree is private while it is made, and its entries come from a table of contents or from the
process that reads the layer, in both of which every parent is a real directory.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.tree_files import OPAQUE, DirectoryCache, open_directory
from pybuild.store.system.holes import MIN_HOLE, SparseFile, buffered, copy_file

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_XATTR_REFUSED = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.E2BIG, errno.ERANGE))


class TreeMaker:
    """Makes the files of a tree, one call for each entry. Its methods raise OSError."""

    def __init__(self, root_fd: int) -> None:
        self._root = root_fd
        self._ids = MappedIds.of_this_process()
        self._owners: dict[tuple[int, int], tuple[int, int]] = {}  # of entries -> on the disk; images have a few only
        self._parents = DirectoryCache(root_fd)

    def close(self) -> None:
        """Close the descriptors that the maker has opened."""
        self._parents.close()

    def directory(self, entry: Entry) -> None:
        """Make a directory; the root is there. `finish_directory` sets what the entry says of it."""
        if entry.path:
            parent, name = self._parents.locate(entry.path)
            os.mkdir(name, 0o700, dir_fd=parent)

    def finish_directory(self, entry: Entry) -> None:
        """Set owner, mode and time last: making the content changes the time, and the final mode could forbid it."""
        fd = open_directory(self._root, entry.path)
        try:
            os.fchown(fd, *self._owner(entry))
            os.fchmod(fd, entry.mode)
            if entry.opaque:
                os.setxattr(fd, OPAQUE, b"y")
            self._xattrs(fd, entry)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def file(self, entry: Entry, content: Iterable[bytes | memoryview]) -> None:
        """Make a file that is not a hard link. Each piece of `content` is used before the next one is asked for."""
        parent, name = self._parents.locate(entry.path)
        fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            if entry.size < MIN_HOLE:
                for data in content:
                    while data:
                        data = data[os.write(fd, data) :]
            else:
                with buffered(SparseFile(fd, "wb", closefd=False)) as out:
                    for data in content:
                        out.write(data)
            self._attributes(fd, entry)
        finally:
            os.close(fd)

    def copy(self, entry: Entry, source: int) -> None:
        """Make a file with the content of another one, an open one. Raises InvalidImage if that has another size."""
        parent, name = self._parents.locate(entry.path)
        fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            copy_content(entry, source, fd)
            self._attributes(fd, entry)
        finally:
            os.close(fd)

    def special(self, entry: Entry) -> None:
        """Make what is neither a file nor a directory nor a hard link."""
        parent, name = self._parents.locate(entry.path)
        times = (entry.mtime, entry.mtime)
        match entry.kind:
            case Kind.WHITEOUT:
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            case Kind.SYMLINK:
                os.symlink(entry.link, name, dir_fd=parent)
                os.chown(name, *self._owner(entry), dir_fd=parent, follow_symlinks=False)
                os.utime(name, times, dir_fd=parent, follow_symlinks=False)
            case Kind.FIFO:
                os.mkfifo(name, 0o600, dir_fd=parent)
                os.chown(name, *self._owner(entry), dir_fd=parent, follow_symlinks=False)
                os.chmod(name, entry.mode, dir_fd=parent)
                os.utime(name, times, dir_fd=parent, follow_symlinks=False)
            case Kind.CHAR | Kind.BLOCK:
                fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
                try:
                    self._attributes(fd, entry)
                finally:
                    os.close(fd)
            case Kind.FILE | Kind.DIRECTORY:
                raise AssertionError(entry.kind)

    def link(self, entry: Entry) -> None:
        """Make a hard link. Its file is there."""
        source_parent = open_directory(self._root, parent_of(entry.hardlink))
        try:
            parent, name = self._parents.locate(entry.path)
            os.link(
                entry.hardlink.rpartition(b"/")[2],
                name,
                src_dir_fd=source_parent,
                dst_dir_fd=parent,
                follow_symlinks=False,
            )
        finally:
            os.close(source_parent)

    def _owner(self, entry: Entry) -> tuple[int, int]:
        owner = self._owners.get((entry.uid, entry.gid))
        if owner is None:
            owner = self._owners[entry.uid, entry.gid] = self._ids.on_disk(entry.uid, entry.gid)
        return owner

    def _attributes(self, fd: int, entry: Entry) -> None:
        os.fchown(fd, *self._owner(entry))
        os.fchmod(fd, entry.mode)  # after the owner, because chown(2) clears the setuid bits
        self._xattrs(fd, entry)
        os.utime(fd, (entry.mtime, entry.mtime))

    def _xattrs(self, fd: int, entry: Entry) -> None:
        for key, value in entry.xattrs:
            try:
                os.setxattr(fd, key, value)
            except OSError as error:
                # An attribute that this namespace or filesystem cannot store is still in the blob, which exports use.
                # Capabilities are necessary: without them the files of the tree would behave differently.
                # ENOSPC: the filesystem limits the attributes of a file. If the disk is full, the next file fails.
                if key == b"security.capability" or error.errno not in _XATTR_REFUSED:
                    raise OSError(
                        error.errno, f"{error.strerror}: {show(entry.path)}, attribute {show(key)}"
                    ) from error


def copy_content(entry: Entry, source: int, fd: int) -> None:
    """Copy the content of a file to an empty one. Raises InvalidImage if its size is not that of the entry, OSError."""
    with buffered(SparseFile(fd, "wb", closefd=False)) as out:
        copied = copy_file(source, out, entry.size)
    if copied != entry.size or os.fstat(source).st_size != entry.size:
        raise InvalidImage(f"entry {show(entry.path)}: the file on the disk has another size", hint="run pybuild fsck")
