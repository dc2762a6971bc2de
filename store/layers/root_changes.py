"""What a step changed in a directory that it ran in: a root filesystem without an overlay.

The directory held what a View says, facts about its files were taken (root_facts.py), a command ran. Now every name in it is
looked at once, and only those whose facts have changed are compared with the View: metadata first, content where all else is
equal. What is gone is a whiteout, if its directory is still one. The layer is the one that an overlay would have given, because
step_changes.py decides for both what belongs into it, with two exceptions:

* A write to a file with several names changes all of them; an overlay separates them first. `RootChanges.shared` has these
  names; where it is empty, both ways agree.
* rename(2) of a directory of the image works here; an overlay answers EXDEV, and programs copy it.

The caller makes sure that nothing writes to the directory any more.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Kind, is_at_or_below, parent_of
from pybuild.store.formats.whiteout import refuse_reserved
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.root_facts import MODE, MTIME, NAMES, SIZE, Facts, births, look
from pybuild.store.layers.step_changes import CAPABILITY, ChangeFinder, StepChanges, attribute_names, is_nothing
from pybuild.store.layers.tree_files import DirectoryCache
from pybuild.store.system.syscalls import birth_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from pybuild.store.formats.toc import Entry, Toc
    from pybuild.store.layers.root_facts import Fact
    from pybuild.store.layers.view import View


class RootChanges(NamedTuple):
    """What a command changed in a root, and what was found there."""

    changes: StepChanges  # entries and links of the layer, as `write_output` takes them; TreeContent(root_fd) has the content
    files: dict[bytes, Fact]  # the facts about all that is there now
    looked_at: list[bytes]  # paths whose facts were not those of before, new ones too
    shared: list[bytes]  # names of files that had several, of which a change through one name changed others too
    nothing: list[bytes]  # what is there and no layer can hold: sockets, whiteouts


def remember(root_fd: int, paths: Iterable[bytes], leave_alone: Set[bytes] = frozenset()) -> Facts:
    """Take facts of a root before a command runs; they still have to be settled (`root_facts.settle`). Raises OSError.

    `paths` are those of `not_on_disk`.
    """
    files = look(root_fd, leave_alone)
    return Facts(files, births(root_fd, [path for path in paths if path in files]))


def not_on_disk(entries: Iterable[Entry]) -> list[bytes]:
    """The paths of entries of which the disk cannot hold the owner or the type in this namespace: the layer must know them."""
    ids = MappedIds.of_this_process()
    entries = list(entries)
    foreign = {owner for owner in {(entry.uid, entry.gid) for entry in entries} if ids.on_disk(*owner) != owner}
    return [
        entry.path
        for entry in entries
        if entry.path and (entry.kind in (Kind.CHAR, Kind.BLOCK) or (entry.uid, entry.gid) in foreign)
    ]


def root_changes(
    root_fd: int, below: View, facts: Facts, scaffold: Toc, leave_alone: Set[bytes] = frozenset()
) -> RootChanges:
    """Compare a root with what it was: `below`, and the mount points of `scaffold`, when `facts` were taken and settled.

    `root_fd` is the root directory, `below` the view of the layers that were put there. `leave_alone` are paths that are
    ignored with all that is below them, such as mount points of the machine: neither a change nor a removal of them is one.
    Files without a fact are new ones, or were not there. Raises UnsafePath for a new name that a layer cannot hold, OSError.
    """
    return _Root(root_fd, below, facts, scaffold).compare(leave_alone)


class _Root(ChangeFinder):
    def __init__(self, root_fd: int, below: View, facts: Facts, scaffold: Toc) -> None:
        super().__init__(root_fd, below, scaffold)
        self._facts = facts
        self._directories = DirectoryCache(root_fd)

    def compare(self, leave_alone: Set[bytes]) -> RootChanges:
        try:
            self.add_root()
            files = look(self.root, leave_alone)
            looked_at = self._changed_facts(files)
            nothing = []
            for path in looked_at:
                if path and not self._candidate(path):
                    nothing.append(path)
            for path in self._facts.files.keys() - files.keys():
                parent = files.get(parent_of(path))
                if parent is not None and stat.S_ISDIR(parent[MODE]) and not is_at_or_below(path, leave_alone):
                    self.add_removed(path)
            shared = self._shared(files)
            return RootChanges(self.finish(), files, looked_at, shared, nothing)
        finally:
            self._directories.close()

    def is_same_file(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes]) -> bool:
        fact = self._facts.files.get(path)
        if fact is None or fact[:2] != (status.st_dev, status.st_ino):
            return False
        born = self._facts.births.get(path, 0)
        return not born or birth_time(*self._directories.locate(path)) == born

    def were_one_file(self, paths: list[bytes]) -> bool:
        facts = [self._facts.files.get(path) for path in paths]
        return None not in facts and len({fact[:2] for fact in facts if fact is not None}) == 1

    def directory(self, path: bytes) -> Entry:
        fd, name = self._directories.locate(path)
        return self.entry(path, os.lstat(name, dir_fd=fd), {}, self.before(path))

    def _shared(self, files: dict[bytes, Fact]) -> list[bytes]:
        """The names of the files that had several names, have several now, old or new ones, and have changed.

        A new name counts because rename(2) of one name separates it from the others in an overlay.
        """
        groups: dict[tuple[int, int], list[bytes]] = {}
        for path, fact in self._facts.files.items():
            if fact[NAMES] > 1 and not stat.S_ISDIR(fact[MODE]):
                groups.setdefault(fact[:2], []).append(path)
        now = {fact[:2]: fact for fact in files.values() if fact[:2] in groups} if groups else {}
        shared = []
        for inode, names in groups.items():
            if inode not in now or now[inode][NAMES] < 2:
                continue
            left = [path for path in names if path in files and files[path][:2] == inode]
            # Of a file with new names only, its mode, size and mtime tell.
            if any(map(self.has_changed, left)) or (not left and self._differs(names[0], now[inode])):
                shared += names
        return shared

    def _differs(self, before: bytes, now: Fact) -> bool:
        fact = self._facts.files[before]
        return (fact[MODE], fact[SIZE], fact[MTIME]) != (now[MODE], now[SIZE], now[MTIME])

    def _changed_facts(self, files: dict[bytes, Fact]) -> list[bytes]:
        """The paths of which the facts prove nothing."""
        began, known = self._facts.began, self._facts.files.get
        return [path for path, fact in files.items() if fact != known(path) or fact[-1] >= began]

    def _candidate(self, path: bytes) -> bool:
        """Compare one file; False if it is nothing that a layer can hold."""
        fd, name = self._directories.locate(path)
        status = os.lstat(name, dir_fd=fd)
        if is_nothing(status):
            self.add_removed(path)
            return False
        refuse_reserved(path)
        host_path, keys = attribute_names(fd, name, status)
        xattrs = {CAPABILITY: os.getxattr(host_path, CAPABILITY, follow_symlinks=False)} if CAPABILITY in keys else {}
        self.add(path, status, xattrs)
        return True
