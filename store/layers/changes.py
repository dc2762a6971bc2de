"""What a step changed: the upper directory of its overlay, compared with what lay below.

A row equal to the one below is dropped, because opening a file for writing, or a `chmod` there and back, copies it up
without changing it. The directories of what remains are added, so that a layer stands alone. An opaque directory
becomes single whiteouts of the names that it hides: every tool reads those alike.

Where the namespace lacks the owner of a file, its tree has root in the owner's place (ids.py). A file that was copied
up from such a tree and still belongs to root has kept its owner: the layer gets the true one from below. Overlayfs
marks what it copied up, save for a file of several names, which is then root's.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.formats.whiteout import refuse_reserved
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.tree_files import OPAQUE, TreeContent, open_directory
from pybuild.store.layers.write import STORED_XATTR, same_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.toc import Toc
    from pybuild.store.layers.view import View

_CONTROL = "user.overlay."
_UNREADABLE = frozenset(("user.overlay.redirect", "user.overlay.metacopy"))
_ORIGIN = "user.overlay.origin"  # set on what was copied up from a lower layer, never on what was made anew
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}


def changes(upper_fd: int, below: View, scaffold: Toc) -> list[Entry]:
    """The entries of the layer that an upper directory makes, sorted.

    `scaffold` lists the mount points that were put below the step for its sake alone: what stands only there is no
    change. Raises UnsafePath for a name that no layer can hold, InvalidImage for overlay features that are not used.
    """
    return _Changes(upper_fd, below, scaffold).entries()


class _Changes:
    def __init__(self, upper_fd: int, below: View, scaffold: Toc) -> None:
        self._upper = upper_fd
        self._below = below
        self._scaffold = scaffold
        self._ids = MappedIds.of_this_process()
        self._directories: dict[bytes, Entry] = {}
        self._kept: dict[bytes, Entry] = {}
        self._inodes: dict[bytes, tuple[int, int]] = {}

    def entries(self) -> list[Entry]:
        before = self._below.lookup(b"")
        root = self._row(b"", os.fstat(self._upper), {}, before)
        if not same_metadata(root, before):
            self._kept[b""] = root
        pending = [(b"", False)]
        while pending:
            pending += self._directory(*pending.pop())
        for path in list(self._kept):
            while (path := parent_of(path)) and path not in self._kept:
                self._kept[path] = self._directories[path]
        return list(self._link(sorted(self._kept.values(), key=lambda entry: sort_key(entry.path))))

    def _directory(self, path: bytes, hidden: bool) -> Iterator[tuple[bytes, bool]]:
        """Look at one directory; answer the directories in it, each with whether it hides what lies below."""
        fd = open_directory(self._upper, path)
        try:
            with os.scandir(fd) as found:
                names = [os.fsencode(entry.name) for entry in found]
            for name in names:
                here = path + b"/" + name if path else name
                status = os.lstat(name, dir_fd=fd)
                removed = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
                # A socket is of no use to anyone after its process ended; layers hold none, only the gap it left.
                if removed or stat.S_ISSOCK(status.st_mode):
                    if self._below.lookup(here) is not None:
                        self._kept[here] = Entry(here, Kind.WHITEOUT)
                    continue
                refuse_reserved(here)
                xattrs = self._xattrs(fd, name, status, here)
                before = self._below.lookup(here) or self._scaffold.find(here)
                row = self._row(here, status, xattrs, before)
                self._judge(row, before, status)
                if row.kind is Kind.DIRECTORY:
                    self._directories[here] = row
                    yield here, hidden or xattrs.get(OPAQUE) == b"y"
            if hidden:
                kept = set(names)
                for lower in self._below.readdir(path):
                    if lower.path.rpartition(b"/")[2] not in kept:
                        self._kept[lower.path] = Entry(lower.path, Kind.WHITEOUT)
        finally:
            os.close(fd)

    def _judge(self, row: Entry, before: Entry | None, status: os.stat_result) -> None:
        """Keep a row unless the one below is the same."""
        if before is not None and same_metadata(row, before):
            if row.kind is not Kind.FILE or not row.size or self._digest(row.path) == before.sha256:
                return
        self._kept[row.path] = row
        if status.st_nlink > 1 and row.kind is not Kind.DIRECTORY:
            self._inodes[row.path] = (status.st_dev, status.st_ino)

    def _row(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes], before: Entry | None) -> Entry:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        rdev = 0
        uid, gid = status.st_uid, status.st_gid
        target = self._target(path) if kind is Kind.SYMLINK else b""
        if before is not None and self._copied_up(before, kind, status, target, xattrs):
            if (uid, gid) == self._ids.on_disk(before.uid, before.gid):
                uid, gid = before.uid, before.gid
            if kind is Kind.FILE and not status.st_size and before.kind in (Kind.CHAR, Kind.BLOCK):
                # A device of the image is an empty file in its tree; copied up it is still that device.
                kind, rdev = before.kind, before.rdev
        capability = xattrs.get(STORED_XATTR.decode())
        return Entry(
            path,
            kind,
            0o777 if kind is Kind.SYMLINK else stat.S_IMODE(status.st_mode),
            uid,
            gid,
            status.st_mtime_ns // 1_000_000_000,
            status.st_size if kind is Kind.FILE else 0,
            target,
            rdev=rdev,
            xattrs=((STORED_XATTR, capability),) if capability is not None else (),
        )

    @staticmethod
    def _copied_up(before: Entry, kind: Kind, status: os.stat_result, target: bytes, xattrs: dict[str, bytes]) -> bool:
        """Whether a file of the upper directory was copied from below, and not made anew."""
        if not before.path or _ORIGIN in xattrs:
            return True
        if kind in (Kind.FILE, Kind.DIRECTORY):
            return False
        # Nothing but files and directories can carry the mark; what agrees in all else was not made anew.
        return (kind, target, status.st_mtime_ns // 1_000_000_000) == (before.kind, before.link, before.mtime)

    def _link(self, rows: list[Entry]) -> Iterator[Entry]:
        first: dict[tuple[int, int], bytes] = {}
        for row in rows:
            inode = self._inodes.get(row.path)
            if inode is not None:
                name = first.setdefault(inode, row.path)
                if name != row.path:
                    row = row._replace(hardlink=name)
            yield row

    def _xattrs(self, fd: int, name: bytes, status: os.stat_result, path: bytes) -> dict[str, bytes]:
        """The attributes that decide something: overlayfs's own, and the capabilities of a file."""
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return {}
        # There is no fgetxattrat(2); the link of the directory's descriptor is the directory itself.
        place = b"/proc/self/fd/%d/%s" % (fd, name)
        try:
            keys = os.listxattr(place, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise
        found = {}
        for key in keys:
            if key in _UNREADABLE:
                raise InvalidImage(
                    f"entry {show(path)}: the overlay used {key}, which would lose content",
                    hint="a bug: please report it",
                )
            if key.startswith(_CONTROL) or key == STORED_XATTR.decode():
                found[key] = os.getxattr(place, key, follow_symlinks=False)
        return found

    def _target(self, path: bytes) -> bytes:
        parent = open_directory(self._upper, parent_of(path))
        try:
            return os.readlink(path.rpartition(b"/")[2], dir_fd=parent)
        finally:
            os.close(parent)

    def _digest(self, path: bytes) -> bytes:
        hasher = hashlib.sha256()
        with TreeContent(self._upper) as content:
            for chunk in content.chunks(Entry(path, Kind.FILE)):
                hasher.update(chunk)
        return hasher.digest()
