"""Compares the tree of a changeset with its table of contents, entry by entry.

A tree that was made from a tar has exactly the entries of its table of contents. The tree of a RUN can hold more, because
it is the upper directory of an overlay: what was copied up and not changed (it equals the entry in the layers below),
opaque directories (the table of contents has a whiteout for each name that they hide), mount points, which are empty, and
sockets (they count as removed files). Such entries are compared with the layers below instead.

The process must be in the user namespace that the tree was made in: owners are compared as they are seen there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.formats.capability import without_root_id
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.tree_files import OPAQUE, TreeContent, open_directory, read_link
from pybuild.store.layers.write import STORED_XATTR, stored_xattrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pybuild.store.layers.view import View

_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.CHAR: stat.S_IFREG,  # a device is an empty file in a tree
    Kind.BLOCK: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
}
_CAPABILITY = STORED_XATTR.decode()
_CONTROL = frozenset(("user.overlay.redirect", "user.overlay.metacopy"))  # they would change what an overlay shows
_TIMES = range(1 << 31)  # seconds; a filesystem can lack other times, and stores the nearest one that it has
_SHOWN = 3


def tree_difference(root_fd: int, entries: Iterable[Entry], below: Callable[[], View | None], *, content: bool) -> str:
    """What distinguishes a tree from its table of contents, in one line; "" if nothing does.

    `below` gives the layers under the changeset, or None if they are unknown: what a table of contents does not list is
    then not compared. With `content` every file is read and compared with its digest. Raises OSError.
    """
    comparison = _Comparison(root_fd, entries, below, content)
    try:
        comparison.compare()
    finally:
        comparison.close()
    found = comparison.found
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


class _Comparison:
    def __init__(self, root_fd: int, entries: Iterable[Entry], below: Callable[[], View | None], content: bool) -> None:
        self.found: list[str] = []
        self._root = root_fd
        self._entries = {entry.path: entry for entry in entries}
        self._open_below = below
        self._below: View | None = None
        self._below_is_open = False
        self._content = TreeContent(root_fd) if content else None
        self._ids = MappedIds.of_this_process()
        self._seen = {b""}
        self._hiding: set[bytes] = set()  # directories that hide what the layers below have in them
        self._groups = {entry.hardlink for entry in self._entries.values() if entry.hardlink}
        self._inode_of: dict[bytes, int] = {}  # first name of a group of hard links -> their inode
        self._group_of: dict[int, bytes] = {}  # and back

    def close(self) -> None:
        if self._content is not None:
            self._content.close()

    def compare(self) -> None:
        status = os.fstat(self._root)
        xattrs = self._xattrs(b"/proc/self/fd/%d/." % self._root)
        root = self._entries.get(b"")
        if root is not None:
            self._compare(root, status, xattrs)
        pending = [(b"", OPAQUE in xattrs, root is not None and root.opaque)]
        while pending:
            pending += self._directory(*pending.pop())
        for path, entry in self._entries.items():
            if path not in self._seen and not (entry.kind is Kind.WHITEOUT and parent_of(path) in self._hiding):
                self._add(path, "is missing")

    def _directory(self, path: bytes, hides: bool, listed: bool) -> list[tuple[bytes, bool, bool]]:
        """Compare one directory; return its subdirectories.

        `hides`: whether the tree hides what the layers below have in it. `listed`: whether the table of contents says so.
        """
        subdirectories = []
        fd = open_directory(self._root, path)
        try:
            with os.scandir(fd) as entries:
                names = sorted(os.fsencode(entry.name) for entry in entries)
            for name in names:
                child = path + b"/" + name if path else name
                self._seen.add(child)
                status = os.lstat(name, dir_fd=fd)
                if (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0) or stat.S_ISSOCK(status.st_mode):
                    self._compare_whiteout(child)
                    continue
                has_xattrs = stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)
                # The C library has no getxattr that takes a directory descriptor.
                xattrs = self._xattrs(b"/proc/self/fd/%d/%s" % (fd, name)) if has_xattrs else {}
                entry = self._entries.get(child)
                if entry is not None:
                    self._compare(entry, status, xattrs)
                else:
                    self._compare_unlisted(child, status, xattrs)
                if stat.S_ISDIR(status.st_mode):
                    opaque = entry is not None and entry.opaque
                    subdirectories.append((child, hides or OPAQUE in xattrs, listed or opaque))
        finally:
            os.close(fd)
        if hides:
            self._hiding.add(path)
            if not listed and (below := self._layers_below()) is not None:
                self._compare_hidden(path, set(names), below)
        return subdirectories

    def _compare_hidden(self, path: bytes, names: set[bytes], below: View) -> None:
        for lower in below.readdir(path):
            removed = self._entries.get(lower.path)
            if lower.path.rpartition(b"/")[2] not in names and (removed is None or removed.kind is not Kind.WHITEOUT):
                self._add(path, f"hides {show(lower.path)} of the layers below")

    def _compare_whiteout(self, path: bytes) -> None:
        entry = self._entries.get(path)
        if entry is None:
            below = self._layers_below()
            if below is not None and below.lookup(path) is not None:
                self._add(path, "removes an entry of the layers below")
        elif entry.kind is not Kind.WHITEOUT:
            self._add(path, f"is a whiteout, not a {entry.kind.name.lower()}")

    def _compare_unlisted(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes]) -> None:
        """An entry that only the tree has must equal the one in the layers below, or be an empty mount point."""
        below = self._layers_below()
        if below is None:
            return
        entry = below.lookup(path)
        if entry is not None:
            self._compare(entry._replace(xattrs=stored_xattrs(entry), opaque=False), status, xattrs, listed=False)
        elif not (stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and not status.st_size)):
            self._add(path, "is not in the table of contents")

    def _compare(self, entry: Entry, status: os.stat_result, xattrs: dict[str, bytes], *, listed: bool = True) -> None:
        path, kind = entry.path, entry.kind
        if kind is Kind.WHITEOUT or stat.S_IFMT(status.st_mode) != _TYPES[kind]:
            self._add(path, f"is not a {kind.name.lower()}")
            return
        group = entry.hardlink or path
        if listed and kind is not Kind.DIRECTORY and (group in self._groups or status.st_nlink > 1):
            inode = self._inode_of.setdefault(group, status.st_ino)
            if inode != status.st_ino or self._group_of.setdefault(inode, group) != group:
                self._add(path, "has other hard links")
                return
            if entry.hardlink:
                return  # it is the same file as one that is compared
        self._expect(path, "mode", f"{stat.S_IMODE(status.st_mode):o}", f"{entry.mode:o}", kind is not Kind.SYMLINK)
        uid, gid = self._ids.on_disk(entry.uid, entry.gid)
        self._expect(path, "owner", f"{status.st_uid}:{status.st_gid}", f"{uid}:{gid}")
        timed = entry.mtime in _TIMES and (listed or kind is not Kind.DIRECTORY)
        self._expect(path, "time", status.st_mtime_ns // 1_000_000_000, entry.mtime, timed)
        stored = dict(stored_xattrs(entry)).get(STORED_XATTR, b"")
        if without_root_id(xattrs.get(_CAPABILITY, b"")) != without_root_id(stored):
            self._add(path, "other capabilities")
        for name in _CONTROL & xattrs.keys():
            self._add(path, f"has the attribute {name}")
        if kind is Kind.DIRECTORY:
            if entry.opaque and OPAQUE not in xattrs:
                self._add(path, "is not opaque")
            return
        if kind is Kind.SYMLINK:
            self._expect(path, "target", show(read_link(self._root, path)), show(entry.link))
        elif kind is not Kind.FIFO:
            self._expect(path, "size", status.st_size, entry.size if kind is Kind.FILE else 0)
        if self._content is not None and kind is Kind.FILE and entry.sha256:
            hasher = hashlib.sha256()
            for chunk in self._content.chunks(entry):
                hasher.update(chunk)
            if hasher.digest() != entry.sha256:
                self._add(path, "does not match its digest")

    def _expect(self, path: bytes, what: str, found: object, expected: object, compared: bool = True) -> None:
        if compared and found != expected:
            self._add(path, f"{what} {found}, not {expected}")

    def _add(self, path: bytes, problem: str) -> None:
        self.found.append(f"{show(path) if path else '/'}: {problem}")

    def _layers_below(self) -> View | None:
        if not self._below_is_open:
            self._below, self._below_is_open = self._open_below(), True
        return self._below

    @staticmethod
    def _xattrs(host_path: bytes) -> dict[str, bytes]:
        """The attributes that matter: those of overlayfs, and the capabilities of a file."""
        try:
            names = os.listxattr(host_path, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise
        wanted = [name for name in names if name in (OPAQUE, _CAPABILITY) or name in _CONTROL]
        return {name: os.getxattr(host_path, name, follow_symlinks=False) for name in wanted}
