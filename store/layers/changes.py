"""What a step changed: the upper directory of its overlay, compared with the layers below.

An entry equal to the one below is dropped, because opening a file for writing, or a `chmod` and its reversal, copies
the file up without changing it. The parent directories of the remaining entries are added, because every parent in a
layer must have an entry. If such a dropped entry is another name of a file of the layer, or of a second dropped one, the
layer itself cannot say so: that is a link across layers (`Toc.links`). An opaque directory becomes one whiteout for each name that it hides, because all tools
read such whiteouts the same way.

If the owner of a file does not exist in the user namespace, the file belongs to root in its tree (mapped_ids.py). If
such a file was copied up and still belongs to root, its owner is unchanged, and the layer gets the true owner from
below. Overlayfs marks the files that it copied up, but not files with several names: in the layer those belong to root.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.formats.whiteout import refuse_reserved
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.tree_files import OPAQUE, TreeContent, open_directory, read_link
from pybuild.store.layers.write import STORED_XATTR, same_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.formats.toc import Links, Toc
    from pybuild.store.layers.view import View

_OVERLAY_XATTRS = "user.overlay."
_UNSUPPORTED = frozenset(("user.overlay.redirect", "user.overlay.metacopy"))
_ORIGIN = "user.overlay.origin"  # only on files that were copied up from a lower layer
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}


def changes(upper_fd: int, below: View, scaffold: Toc) -> StepChanges:
    """The layer that an upper directory makes.

    `scaffold` lists the mount points that pybuild added below this step only: an entry that equals one of them is not
    a change. Raises UnsafePath for a name that a layer cannot hold, InvalidImage for overlay features that pybuild never
    turns on.
    """
    return _Changes(upper_fd, below, scaffold).changes()


class StepChanges(NamedTuple):
    """What a step changed."""

    entries: list[Entry]  # of its layer, sorted
    links: Links  # across layers


class _Changes:
    def __init__(self, upper_fd: int, below: View, scaffold: Toc) -> None:
        self._upper = upper_fd
        self._below = below
        self._scaffold = scaffold
        self._ids = MappedIds.of_this_process()
        self._directories: dict[bytes, Entry] = {}
        self._changed: dict[bytes, Entry] = {}
        self._inodes: dict[bytes, tuple[int, int]] = {}
        self._unchanged: dict[tuple[int, int], list[Entry]] = {}  # dropped entries of files with several names
        self._old_names: dict[tuple[int, int], Entry] = {}  # of files with several names: one that exists below

    def changes(self) -> StepChanges:
        before = self._below.lookup(b"")
        root = self._entry(b"", os.fstat(self._upper), {}, before)
        if not same_metadata(root, before):
            self._changed[b""] = root
        pending = [(b"", False)]
        while pending:
            pending += self._directory(*pending.pop())
        self._own_new_names()
        for path in list(self._changed):
            while (path := parent_of(path)) and path not in self._changed:
                self._changed[path] = self._directories[path]
        entries = list(self._set_hardlinks(sorted(self._changed.values(), key=lambda entry: sort_key(entry.path))))
        return StepChanges(entries, tuple(self._links(entries)))

    def _directory(self, path: bytes, hidden: bool) -> Iterator[tuple[bytes, bool]]:
        """Compare one directory; yield its subdirectories, each with whether it hides its content in layers below."""
        fd = open_directory(self._upper, path)
        try:
            with os.scandir(fd) as found:
                names = [os.fsencode(entry.name) for entry in found]
            for name in names:
                child = path + b"/" + name if path else name
                status = os.lstat(name, dir_fd=fd)
                removed = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
                # A layer cannot hold a socket, which is useless without its process: it counts as a removed file.
                if removed or stat.S_ISSOCK(status.st_mode):
                    if self._below.lookup(child) is not None:
                        self._changed[child] = Entry(child, Kind.WHITEOUT)
                    continue
                refuse_reserved(child)
                xattrs = self._xattrs(fd, name, status, child)
                before = self._before(child)
                entry = self._entry(child, status, xattrs, before)
                self._add_if_changed(entry, before, status)
                if entry.kind is Kind.DIRECTORY:
                    self._directories[child] = entry
                    yield child, hidden or xattrs.get(OPAQUE) == b"y"
            if hidden:
                present = set(names)
                for lower in self._below.readdir(path):
                    if lower.path.rpartition(b"/")[2] not in present:
                        self._changed[lower.path] = Entry(lower.path, Kind.WHITEOUT)
        finally:
            os.close(fd)

    def _before(self, path: bytes) -> Entry | None:
        return self._below.lookup(path) or self._scaffold.find(path)

    def _add_if_changed(self, entry: Entry, before: Entry | None, status: os.stat_result) -> None:
        inode = (status.st_dev, status.st_ino) if status.st_nlink > 1 and entry.kind is not Kind.DIRECTORY else None
        if inode is not None and before is not None:
            self._old_names.setdefault(inode, entry)
        if before is not None and same_metadata(entry, before):
            if entry.kind is not Kind.FILE or not entry.size or self._digest(entry.path) == before.sha256:
                if inode is not None:
                    self._unchanged.setdefault(inode, []).append(entry)
                return
        self._changed[entry.path] = entry
        if inode is not None:
            self._inodes[entry.path] = inode

    def _own_new_names(self) -> None:
        """Give new names of a file the owner and type of its old name: only the layers below have the true ones."""
        for path, inode in self._inodes.items():
            old = self._old_names.get(inode)
            if old is not None and self._before(path) is None:
                self._changed[path] = old._replace(path=path)

    def _entry(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes], before: Entry | None) -> Entry:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        rdev = 0
        uid, gid = status.st_uid, status.st_gid
        target = read_link(self._upper, path) if kind is Kind.SYMLINK else b""
        if before is not None and self._copied_up(before, kind, status, target, xattrs):
            if (uid, gid) == self._ids.on_disk(before.uid, before.gid):
                uid, gid = before.uid, before.gid
            if kind is Kind.FILE and not status.st_size and before.kind in (Kind.CHAR, Kind.BLOCK):
                # A device is an empty file in the tree of its layer. If it was copied up, it is still that device.
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
        """Whether a file of the upper directory was copied up from below, rather than created."""
        if not before.path or _ORIGIN in xattrs:
            return True
        if kind in (Kind.FILE, Kind.DIRECTORY):
            return False
        # Only files and directories can have the mark. Another file that equals the one below was copied up.
        return (kind, target, status.st_mtime_ns // 1_000_000_000) == (before.kind, before.link, before.mtime)

    def _set_hardlinks(self, entries: list[Entry]) -> Iterator[Entry]:
        first: dict[tuple[int, int], bytes] = {}
        for entry in entries:
            inode = self._inodes.get(entry.path)
            if inode is not None:
                name = first.setdefault(inode, entry.path)
                if name != entry.path:
                    entry = entry._replace(hardlink=name)
            yield entry

    def _links(self, entries: Iterable[Entry]) -> Iterator[tuple[bytes, ...]]:
        """The links across layers: the dropped names of each file, with its first name in the layer."""
        for entry in entries:
            if not entry.hardlink and (inode := self._inodes.get(entry.path)) in self._unchanged:
                self._unchanged[inode].append(entry)
        for names in self._unchanged.values():
            # Names of one inode have different owners or types if only one of them tells what the tree cannot hold.
            group = [entry.path for entry in names if entry._replace(path=names[0].path) == names[0]]
            if len(group) > 1:
                yield tuple(sorted(group, key=sort_key))

    def _xattrs(self, fd: int, name: bytes, status: os.stat_result, path: bytes) -> dict[str, bytes]:
        """The extended attributes that matter: overlayfs's own, and the capabilities of a file."""
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return {}
        # The C library has no getxattr that takes a directory descriptor; /proc/self/fd leads to the directory.
        host_path = b"/proc/self/fd/%d/%s" % (fd, name)
        try:
            keys = os.listxattr(host_path, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise
        found = {}
        for key in keys:
            if key in _UNSUPPORTED:
                raise InvalidImage(
                    f"entry {show(path)}: the overlay used {key}, which would lose content",
                    hint="this is a bug in pybuild: please report it",
                )
            if key.startswith(_OVERLAY_XATTRS) or key == STORED_XATTR.decode():
                found[key] = os.getxattr(host_path, key, follow_symlinks=False)
        return found

    def _digest(self, path: bytes) -> bytes:
        hasher = hashlib.sha256()
        with TreeContent(self._upper) as content:
            for chunk in content.chunks(Entry(path, Kind.FILE)):
                hasher.update(chunk)
        return hasher.digest()
