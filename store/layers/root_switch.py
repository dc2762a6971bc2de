"""Making a root directory that holds something else into what a View says, by their difference.

The root is that of a container in which pybuild runs: it becomes one stage after the other. Mount points of the container, and
whatever else is to be left alone, stay with all that is below them, and so the directories above them.

Each name of a file gets a file of its own, as in root_directory.py. Only the names of files that have many stay links: those of
programs such as busybox, to which nobody writes, and of which the copies would take seconds and fill the disk.

Nothing else writes to the root meanwhile. What has to go is removed first, from the top, and follows no link; only then files are
made, so every parent of a new file is a real directory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import RootOccupied
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, is_at_or_below, parent_of, sort_key
from pybuild.store.layers.merged import merged
from pybuild.store.layers.root_changes import not_on_disk
from pybuild.store.layers.root_directory import read_from_tar
from pybuild.store.layers.root_facts import MODE, NAMES, Fact, fact_of, look
from pybuild.store.layers.tree_files import DirectoryCache, open_directory
from pybuild.store.layers.tree_maker import TreeMaker
from pybuild.store.system.directories import opened_directory, remove_tree
from pybuild.store.system.holes import chunks_of_file
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from pybuild.store.formats.toc import Toc
    from pybuild.store.layers.root_directory import LayerSource
    from pybuild.store.layers.view import View

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MANY = 8  # names of one file
_TYPES = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK, Kind.FIFO: stat.S_IFIFO}


@frozen
class Held:
    """Where a root holds more than its view: paths that are left alone with all that is below them."""

    paths: frozenset[bytes]

    @property
    def above(self) -> frozenset[bytes]:
        """The directories above them, without the root."""
        found: set[bytes] = set()
        for path in self.paths:
            while path := parent_of(path):
                found.add(path)
        return frozenset(found - self.paths)

    def has(self, path: bytes) -> bool:
        """Whether a path is one of them, or below one."""
        return is_at_or_below(path, self.paths)


@frozen
class KnownRoot:
    """What is known of a root: the layers that it holds, and facts about its files.

    `view` is what it holds; `shared` of its lowest layers are the lowest of the new view as well. Below the paths `unknown`
    nothing is known.
    """

    view: View
    shared: int
    files: dict[bytes, Fact]
    unknown: frozenset[bytes]


class SwitchedRoot(NamedTuple):
    """A root that holds what its view says: the facts about it, and what was made of which the disk does not say all."""

    files: dict[bytes, Fact]
    special: list[bytes]


def switch_root(
    root_fd: int, layers: Sequence[LayerSource], view: View, held: Held, known: KnownRoot | None = None
) -> SwitchedRoot:
    """Make a root hold what `view` says, of which `layers` are the layers, the topmost first.

    None: nothing is known of the root, and what is already right is found by reading it. Raises RootOccupied, InvalidImage,
    DigestMismatch, OSError.
    """
    return _Switch(root_fd, layers, view, held).switch(known)


class _Switch:
    def __init__(self, root_fd: int, layers: Sequence[LayerSource], view: View, held: Held) -> None:
        self._root = root_fd
        self._layers = layers
        self._view = view
        self._held = held
        self._above = held.above
        self._directories = DirectoryCache(root_fd)

    def switch(self, known: KnownRoot | None) -> SwitchedRoot:
        try:
            files, wanted = self._everything() if known is None else self._difference(known)
            for path in [path for path in wanted if self._held.has(path)]:
                del wanted[path]
            paths = sorted(wanted, key=sort_key)
            missing = self._remove(paths, wanted, files)
            self._make(missing)
            touched = {*missing, *(path for path in paths if path not in files)}
            self._finish(paths, wanted, touched)
            self._look_again(files, {*paths, *map(parent_of, touched)})
            made = (self._view.lookup(path) for path in missing)
            return SwitchedRoot(files, not_on_disk(entry for entry in made if entry is not None))
        finally:
            self._directories.close()

    def _everything(self) -> tuple[dict[bytes, Fact], dict[bytes, Entry | None]]:
        """The facts about a root of which nothing is known, and what has to be at each path of it or of the view."""
        files = look(self._root, self._held.paths)
        wanted: dict[bytes, Entry | None] = dict.fromkeys(files)
        for path, (_, entry) in merged([layer.toc for layer in self._layers]).entries.items():
            wanted[path] = entry
        if wanted.get(b"") is None:
            wanted[b""] = self._view.lookup(b"")
        return files, wanted

    def _difference(self, known: KnownRoot) -> tuple[dict[bytes, Fact], dict[bytes, Entry | None]]:
        """The same for a root of which most is known: only what can be different."""
        files = dict(known.files)
        whole = set(known.unknown)  # everything below these paths can be different
        paths: set[bytes] = set()
        for view in (known.view, self._view):
            entries, hiding = merged(view.layers[: len(view.layers) - known.shared])
            paths |= entries.keys()
            whole |= hiding
        for path in sorted(whole, key=sort_key):
            paths.add(path)
            for view in (known.view, self._view):
                paths.update(entry.path for entry in view.walk(path))
            if path in known.unknown:
                self._look_below(path, files)
                paths.update(found for found in files if found.startswith(path + b"/"))
        wanted: dict[bytes, Entry | None] = {}
        for path in paths:
            before, after = known.view.lookup(path), self._view.lookup(path)
            if _shown(before) != _shown(after) or is_at_or_below(path, known.unknown):
                wanted[path] = after
        for path in known.unknown:  # something was made or removed there: the directory has a new time
            if (parent := self._view.lookup(parent_of(path))) is not None:
                wanted.setdefault(parent_of(path), parent)
        return files, wanted

    def _look_below(self, path: bytes, files: dict[bytes, Fact]) -> None:
        """Take new facts about a path and all that is below it."""
        for found in [found for found in files if found == path or found.startswith(path + b"/")]:
            del files[found]
        try:
            fd, name = self._directories.locate(path)
            status = os.lstat(name, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            return
        files[path] = fact_of(status)
        if stat.S_ISDIR(status.st_mode):
            prefix = path + b"/"
            alone = {one[len(prefix) :] for one in self._held.paths if one.startswith(prefix)}
            below = open_directory(self._root, path)
            try:
                files.update((prefix + found, fact) for found, fact in look(below, alone).items() if found)
            finally:
                os.close(below)

    def _remove(
        self, paths: Sequence[bytes], wanted: dict[bytes, Entry | None], files: dict[bytes, Fact]
    ) -> list[bytes]:
        """Remove what is not wanted as it is; return what then has to be made."""
        missing = []
        gone: set[bytes] = set()
        for path in paths:
            entry = wanted[path]
            if not path:
                continue
            if path in self._above:
                if entry is not None and entry.kind is not Kind.DIRECTORY:
                    raise RootOccupied(
                        f"the image has {show(b'/' + path)}, which is not a directory, and this container has a mount below it",
                        hint="mount the volume elsewhere",
                    )
                continue
            is_there = path in files and parent_of(path) not in gone
            if is_there and entry is not None and self._is_right(path, entry, files[path]):
                continue
            if is_there:
                try:
                    remove_tree(*self._directories.locate(path))
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    raise RootOccupied(
                        f"{show(b'/' + path)} cannot be removed: something is mounted there", hint="mount it elsewhere"
                    ) from error
            if path in files:
                gone.add(path)
                del files[path]
            if entry is not None:
                missing.append(path)
        return missing

    def _is_right(self, path: bytes, entry: Entry, fact: Fact) -> bool:
        """Whether what is at a path can stay. A directory can: `_finish` sets its attributes."""
        if entry.kind is Kind.DIRECTORY:
            return stat.S_ISDIR(fact[MODE])
        if fact[NAMES] != 1 or stat.S_IFMT(fact[MODE]) != _TYPES.get(entry.kind):
            return False
        fd, name = self._directories.locate(path)
        status = os.lstat(name, dir_fd=fd)
        if (status.st_uid, status.st_gid, status.st_mtime_ns // 1_000_000_000) != (entry.uid, entry.gid, entry.mtime):
            return False
        if entry.kind is Kind.SYMLINK:
            return os.readlink(name, dir_fd=fd) == entry.link
        if stat.S_IMODE(status.st_mode) != entry.mode or entry.kind is not Kind.FILE:
            return stat.S_IMODE(status.st_mode) == entry.mode and entry.kind is Kind.FIFO
        return status.st_size == entry.size and self._has_content(fd, name, entry)

    def _has_content(self, parent: int, name: bytes, entry: Entry) -> bool:
        """Whether a file has the content and the attributes of an entry."""
        fd = os.open(name, _READ, dir_fd=parent)
        try:
            if entry.xattrs or _attributes(fd):
                return False
            hasher = hashlib.sha256()
            if entry.size:
                for chunk in chunks_of_file(fd, 0):
                    hasher.update(chunk)
            return not entry.size or hasher.digest() == entry.sha256
        finally:
            os.close(fd)

    def _make(self, paths: Sequence[bytes]) -> None:
        """Make what is missing; parents come first."""
        maker = TreeMaker(self._root)
        numbers = {id(toc): number for number, toc in enumerate(self._view.layers)}
        names: dict[tuple[int, bytes], list[tuple[Toc, Entry]]] = {}  # the names of each file
        for path in paths:
            located = self._view.locate(path)
            assert located is not None, path
            toc, entry = located
            if entry.kind is Kind.DIRECTORY:
                maker.directory(entry)
            elif entry.kind is Kind.FILE:
                names.setdefault((numbers[id(toc)], entry.hardlink or path), []).append(located)
            else:
                maker.special(entry)
        files: dict[int, list[tuple[bytes, Entry]]] = {}
        links: list[Entry] = []
        for (number, _), found in names.items():
            if len(found) > _MANY:
                links += [entry._replace(hardlink=found[0][1].path) for _, entry in found[1:]]
                del found[1:]
            files.setdefault(number, []).extend((entry.path, with_offset(toc, entry)) for toc, entry in found)
        write_files(maker, self._root, self._layers, files)
        for entry in links:
            maker.link(entry)
        maker.close()

    def _finish(self, paths: Iterable[bytes], wanted: dict[bytes, Entry | None], touched: Set[bytes]) -> None:
        """Give directories their attributes and times, after everything in them is made."""
        directories = {path for path in paths if (entry := wanted[path]) is not None and entry.kind is Kind.DIRECTORY}
        directories |= {parent_of(path) for path in touched if path}
        maker = TreeMaker(self._root)
        for path in sorted(directories, key=sort_key, reverse=True):
            entry = self._view.lookup(path)
            if entry is not None and entry.kind is Kind.DIRECTORY and not self._held.has(path):
                if path in self._above:
                    with suppress(FileExistsError):
                        self._make_above(path)
                maker.finish_directory(entry._replace(opaque=False))
        maker.close()

    def _make_above(self, path: bytes) -> None:
        fd, name = self._directories.locate(path)
        os.mkdir(name, 0o755, dir_fd=fd)

    def _look_again(self, files: dict[bytes, Fact], paths: Iterable[bytes]) -> None:
        for path in sorted(paths, key=sort_key):
            try:
                fd, name = self._directories.locate(path or b".")
                files[path] = fact_of(os.lstat(name, dir_fd=fd))
            except (FileNotFoundError, NotADirectoryError):
                files.pop(path, None)


def without_many_names(files: dict[bytes, Fact]) -> dict[bytes, Fact]:
    """The facts about files without those that `switch_root` lets have many names."""
    count: dict[tuple[int, int], int] = {}
    for fact in files.values():
        if fact[NAMES] > _MANY:
            count[fact[:2]] = count.get(fact[:2], 0) + 1
    return {path: fact for path, fact in files.items() if count.get(fact[:2], 0) <= _MANY} if count else files


def write_files(
    maker: TreeMaker, root_fd: int, layers: Sequence[LayerSource], files: dict[int, list[tuple[bytes, Entry]]]
) -> None:
    """Write files, by the number of the layer that has their content. Each comes with its path there."""
    for number, entries in files.items():
        tree = layers[number].tree
        if tree is None:
            with layers[number].tar() as tar:
                read_from_tar(maker, root_fd, tar, [entry for _, entry in entries])
            continue
        with opened_directory(tree) as fd:
            directories = DirectoryCache(fd)
            for path, entry in entries:
                parent, name = directories.locate(path)
                source = os.open(name, _READ, dir_fd=parent)
                try:
                    maker.copy(entry, source)
                finally:
                    os.close(source)
            directories.close()


def with_offset(toc: Toc, entry: Entry) -> Entry:
    """A name of a file, with the place of its content in the tar."""
    first = toc.find(entry.hardlink) if entry.hardlink else None
    if first is None:
        return entry
    return entry._replace(hardlink=b"", offset=first.offset, size=first.size)


def _shown(entry: Entry | None) -> tuple[object, ...] | None:
    """What of an entry is visible on the disk."""
    if entry is None:
        return None
    return (
        entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, entry.link, entry.rdev, entry.xattrs,
        entry.sha256,
    )  # fmt: skip


def _attributes(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
