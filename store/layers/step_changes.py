"""What of a step's files belongs into its layer, however they were found: in the upper directory of an overlay
(changes.py), or in a directory that the step ran in (root_changes.py).

Both find candidates: files that may have changed. A candidate that equals the entry below is dropped. The parent directories
of the remaining entries are added, because every parent in a layer must have an entry. If a dropped entry is another name of
a file of the layer, or of a second dropped one, the layer itself cannot say so: that is a link across layers (`Toc.links`).

If the owner of a file does not exist in the user namespace, the file belongs to root on the disk (mapped_ids.py). If it is
still the same file, and still belongs to root, its owner is unchanged, and the layer gets the true owner from below. In the
same way an empty file that stands for a device is still that device.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.tree_files import TreeContent, read_link
from pybuild.store.layers.write import STORED_XATTR, same_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.formats.toc import Links, Toc
    from pybuild.store.layers.view import View

CAPABILITY = STORED_XATTR.decode()
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}


class StepChanges(NamedTuple):
    """What a step changed."""

    entries: list[Entry]  # of its layer, sorted
    links: Links  # across layers


def is_nothing(status: os.stat_result) -> bool:
    """Whether a layer cannot hold this file, which then counts as a removed one: a whiteout, or a socket, which is useless
    without its process.
    """
    return (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0) or stat.S_ISSOCK(status.st_mode)


class ChangeFinder:
    """Collects what may have changed below the directory `root_fd`, and makes a layer of it. No process may write there."""

    def __init__(self, root_fd: int, below: View, scaffold: Toc) -> None:
        """`scaffold` lists mount points that only this step had: an entry that equals one of them is not a change."""
        self.root = root_fd
        self.below = below
        self.scaffold = scaffold
        self._ids = MappedIds.of_this_process()
        self._changed: dict[bytes, Entry] = {}
        self._digests: dict[tuple[int, int], bytes] = {}
        self._inodes: dict[bytes, tuple[int, int]] = {}
        self._unchanged: dict[tuple[int, int], list[Entry]] = {}  # dropped entries of files with several names
        self._old_names: dict[tuple[int, int], Entry] = {}  # of files with several names: one that exists below

    # -- what the two ways to find candidates know

    def is_same_file(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes]) -> bool:
        """Whether this file or directory is the one that the step found there, perhaps changed, and not a new one."""
        raise NotImplementedError

    def directory(self, path: bytes) -> Entry:
        """The entry of a directory in which something changed."""
        raise NotImplementedError

    def were_one_file(self, paths: list[bytes]) -> bool:
        """Whether the step found these paths as names of one file, so that the layers below say it already."""
        return False

    # -- what they call

    def before(self, path: bytes) -> Entry | None:
        """What the step found at a path."""
        return self.below.lookup(path) or self.scaffold.find(path)

    def add_root(self) -> None:
        """The root directory itself is a candidate."""
        before = self.below.lookup(b"")
        root = self.entry(b"", os.fstat(self.root), {}, before)
        if not same_metadata(root, before):
            self._changed[b""] = root

    def add_removed(self, path: bytes) -> None:
        """Nothing is at this path any more."""
        if self.below.lookup(path) is not None:
            self._changed[path] = Entry(path, Kind.WHITEOUT)

    def add(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes]) -> Entry:
        """What is at this path now; returns its entry."""
        before = self.before(path)
        entry = self.entry(path, status, xattrs, before)
        inode = (status.st_dev, status.st_ino) if status.st_nlink > 1 and entry.kind is not Kind.DIRECTORY else None
        if inode is not None and before is not None:
            self._old_names.setdefault(inode, entry)
        if before is not None and same_metadata(entry, before):
            if entry.kind is not Kind.FILE or not entry.size or self._digest(path, inode) == before.sha256:
                if inode is not None:
                    self._unchanged.setdefault(inode, []).append(entry)
                return entry
        self._changed[path] = entry
        if inode is not None:
            self._inodes[path] = inode
        return entry

    def has_changed(self, path: bytes) -> bool:
        """Whether a candidate is part of the layer so far."""
        return path in self._changed

    def entry(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes], before: Entry | None) -> Entry:
        """The entry of a file; `before` is what the step found at its path."""
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        rdev = status.st_rdev if kind in (Kind.CHAR, Kind.BLOCK) else 0
        uid, gid = status.st_uid, status.st_gid
        target = read_link(self.root, path) if kind is Kind.SYMLINK else b""
        if before is not None and self._is_kept(before, kind, status, target, xattrs):
            if (uid, gid) == self._ids.on_disk(before.uid, before.gid):
                uid, gid = before.uid, before.gid
            if kind is Kind.FILE and not status.st_size and before.kind in (Kind.CHAR, Kind.BLOCK):
                kind, rdev = before.kind, before.rdev
        capability = xattrs.get(CAPABILITY)
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

    def finish(self) -> StepChanges:
        """The layer of all candidates."""
        self._own_new_names()
        for path in list(self._changed):
            while (path := parent_of(path)) and path not in self._changed:
                self._changed[path] = self.directory(path)
        entries = list(self._set_hardlinks(sorted(self._changed.values(), key=lambda entry: sort_key(entry.path))))
        return StepChanges(entries, tuple(self._links(entries)))

    def _is_kept(
        self, before: Entry, kind: Kind, status: os.stat_result, target: bytes, xattrs: dict[str, bytes]
    ) -> bool:
        """Whether this is still the file that the entry `before` describes."""
        if not before.path:
            return True
        if kind in (Kind.FILE, Kind.DIRECTORY):
            return self.is_same_file(before.path, status, xattrs)
        # Of these overlayfs does not say whether they are the same, so equal ones are taken for it.
        return (kind, target, status.st_mtime_ns // 1_000_000_000) == (before.kind, before.link, before.mtime)

    def _own_new_names(self) -> None:
        """Give new names of a file the owner and type of its old name: only the layers below have the true ones."""
        for path, inode in self._inodes.items():
            old = self._old_names.get(inode)
            if old is not None and self.before(path) is None:
                self._changed[path] = old._replace(path=path)

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
            if len(group) > 1 and not self.were_one_file(group):
                yield tuple(sorted(group, key=sort_key))

    def _digest(self, path: bytes, inode: tuple[int, int] | None) -> bytes:
        """The digest of a file. One with several names is read once: a busybox has four hundred."""
        if inode is not None and inode in self._digests:
            return self._digests[inode]
        hasher = hashlib.sha256()
        with TreeContent(self.root) as content:
            for chunk in content.chunks(Entry(path, Kind.FILE)):
                hasher.update(chunk)
        if inode is not None:
            self._digests[inode] = hasher.digest()
        return hasher.digest()


def attribute_names(fd: int, name: bytes, status: os.stat_result) -> tuple[bytes, list[str]]:
    """A path by which the extended attributes of a file can be read, and their names; none for other kinds of files.

    `name` is in the directory `fd`. Raises OSError.
    """
    # The C library has no getxattr that takes a directory descriptor; /proc/self/fd leads to the directory.
    host_path = b"/proc/self/fd/%d/%s" % (fd, name)
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return host_path, []
    try:
        return host_path, os.listxattr(host_path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return host_path, []
        raise
