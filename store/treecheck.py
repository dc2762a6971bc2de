"""Whether a tree still is what its table of contents says.

A tree that can be made again from a tar needs no such look. One that cannot may have been on its way to the disk when
the power went: then files are missing, or empty, or have lost their mode. What a step wrote and its layer does not hold
(changes.py) is in no table, and is not looked at.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from store.changes import TreeContent
from store.ids import MappedIds
from store.layers import KEPT_XATTR
from store.toc import Kind, parent_of
from store.trees import OPAQUE, DirectoryAtHand, open_directory

if TYPE_CHECKING:
    from store.toc import Entry, Toc


def is_whole(root_fd: int, toc: Toc) -> bool:
    """Whether every entry of a table of contents is in the tree as the table has it, with the same content."""
    check = _Check(root_fd)
    try:
        return all(check.holds(entry) for entry in toc)
    except OSError:
        return False  # a file or its directory is gone, or cannot be read
    finally:
        check.close()


class _Check:
    def __init__(self, root_fd: int) -> None:
        self._root = root_fd
        self._at_hand = DirectoryAtHand(root_fd)
        self._content = TreeContent(root_fd)
        self._ids = MappedIds.of_this_process()
        self._inodes: dict[bytes, int] = {}

    def close(self) -> None:
        self._content.close()
        self._at_hand.close()

    def holds(self, entry: Entry) -> bool:
        if entry.kind is Kind.WHITEOUT:
            return self._removed(entry.path)
        parent, name = self._at_hand.of(entry.path) if entry.path else (self._root, b".")
        status = os.lstat(name, dir_fd=parent)
        if (status.st_uid, status.st_gid) != self._ids.on_disk(entry.uid, entry.gid):
            return False
        if entry.kind is Kind.SYMLINK:
            return stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=parent) == entry.link
        if stat.S_IMODE(status.st_mode) != entry.mode:
            return False
        if entry.kind is Kind.DIRECTORY:
            return stat.S_ISDIR(status.st_mode)
        if entry.kind is Kind.FIFO:
            return stat.S_ISFIFO(status.st_mode)
        # A device is an empty file in a tree.
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
            return False
        if status.st_mtime_ns // 1_000_000_000 != entry.mtime:
            return False
        if entry.hardlink:
            return status.st_ino == self._inodes[entry.hardlink]
        self._inodes[entry.path] = status.st_ino
        return self._capability(parent, name) == dict(entry.xattrs).get(KEPT_XATTR) and self._digest(entry)

    def _digest(self, entry: Entry) -> bool:
        if entry.kind is not Kind.FILE or not entry.size:
            return True
        hasher = hashlib.sha256()
        for data in self._content.chunks(entry):
            hasher.update(data)
        return hasher.digest() == entry.sha256

    def _removed(self, path: bytes) -> bool:
        """Whether something hides what lies below: a whiteout, a socket, or a directory that hides all."""
        parent, name = self._at_hand.of(path)
        try:
            status = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return self._opaque(parent_of(path))
        return stat.S_ISSOCK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)

    def _opaque(self, path: bytes) -> bool:
        fd = open_directory(self._root, path)
        try:
            return os.getxattr(fd, OPAQUE) == b"y"
        except OSError:
            return bool(path) and self._opaque(parent_of(path))
        finally:
            os.close(fd)

    @staticmethod
    def _capability(parent: int, name: bytes) -> bytes | None:
        # There is no fgetxattrat(2); the link of the directory's descriptor is the directory itself.
        try:
            return os.getxattr(b"/proc/self/fd/%d/%s" % (parent, name), KEPT_XATTR, follow_symlinks=False)
        except OSError:
            return None
