"""A root filesystem in a real directory, for a step where overlays cannot be mounted.

The directory holds exactly what the View of its layers says, and beside it the mount points of the step. Files are copies,
which share blocks where the filesystem can (copy_file_range(2)). They are never hard links into the store: a step can write
through them.

Names of one file are names of one file here too: programs see that, and busybox has 400 of them. A write to one of them changes
all, which it does not in an overlay. `RootChanges.shared` tells of it; then the step runs again in a root where each of these
names has a file of its own (`separate`).

Nothing else writes to the directory while a function of this module does. A step wrote to it before, but what is there was
looked at after its end, so every parent of a path is known to be a real directory.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of
from pybuild.store.layers.merged import merged
from pybuild.store.layers.root_changes import not_on_disk
from pybuild.store.layers.root_facts import INODE, MODE, MTIME, NAMES, Facts, births, fact_of, look, settle
from pybuild.store.layers.tree import next_bytes
from pybuild.store.layers.tree_files import DirectoryCache
from pybuild.store.layers.tree_maker import TreeMaker, copy_content
from pybuild.store.layers.view import ROOT, View
from pybuild.store.system.directories import opened_directory, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence, Set
    from contextlib import AbstractContextManager

    from pybuild.store.layers.root_changes import RootChanges
    from pybuild.store.layers.root_facts import Fact
    from pybuild.store.system.streams import Readable

_CHUNK = 1 << 20
_SMALL = 1 << 18  # bytes
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class LayerSource(Protocol):
    """A layer: its table of contents, and its tree or its tar."""

    @property
    def toc(self) -> Toc: ...

    @property
    def tree(self) -> str | None: ...

    def tar(self) -> AbstractContextManager[Readable]:
        """The uncompressed tar, from its beginning. Leaving it checks the digest."""
        ...


def prepare_root(
    root_fd: int,
    new: Sequence[LayerSource],
    known: Facts | None,
    scaffold: Toc,
    view: View,
    scratch_fd: int,
    separate: Set[bytes] = frozenset(),
) -> Facts:
    """Make a root ready for a step that sees `view` and the mount points of `scaffold`; return its settled facts.

    `new` are the layers to put on what is there, the topmost first; `known` the facts about that, None if the root is
    empty. `scratch_fd` is a directory on the same filesystem, `separate` are names that get files of their own. Raises InvalidImage, DigestMismatch, OSError.
    """
    if known is None or new:
        special = not_on_disk(put_layers(root_fd, new, {} if known is None else known.files))
        files = look(root_fd)
    else:
        special = []
        files = dict(known.files)
    shared = {path: fact for path, fact in files.items() if path in separate} if separate else {}
    touched = separate_names(root_fd, shared) | add_mount_points(root_fd, scaffold, view)
    _refresh(root_fd, files, touched)
    return settle(_with_births(root_fd, files, special, known), scratch_fd)


def put_layers(
    root_fd: int, layers: Sequence[LayerSource], present: dict[bytes, Fact], part: bytes = b""
) -> list[Entry]:
    """Put layers, the topmost first, on what a root holds, of which `present` are the facts. Returns their visible entries.

    With `part` only what is at that path and below it, and the directories above it.
    """
    found, hiding = merged([layer.toc for layer in layers])
    if part:
        found = {path: row for path, row in found.items() if _is_part(path, part)}
    if present:
        _remove(
            root_fd,
            [path for path in sorted(hiding | found.keys()) if path in present and path],
            found,
            hiding,
            present,
        )
    maker = TreeMaker(root_fd)
    files: list[list[Entry]] = [[] for _ in layers]
    directories, links = [], []
    first_name = _first_names([layer.toc for layer in layers])
    for number, entry in found.values():
        if (first := first_name(number, entry)) != entry.path:
            links.append(entry._replace(hardlink=first))
        elif entry.kind is Kind.FILE:
            files[number].append(entry)
        elif entry.kind is Kind.DIRECTORY:
            directories.append(entry)
            with suppress(FileExistsError):  # a directory: anything else has been removed
                maker.directory(entry)
        else:
            maker.special(entry)
    for layer, entries in zip(layers, files, strict=True):
        if not entries:
            continue
        if layer.tree is not None:
            _copy_from_tree(maker, layer.tree, entries)
        else:
            with layer.tar() as tar:
                read_from_tar(maker, root_fd, tar, entries)
    for entry in links:
        maker.link(entry)
    for entry in reversed(directories):
        maker.finish_directory(entry._replace(opaque=False))
    maker.close()
    if b"" not in found:
        if present:
            os.utime(root_fd, ns=(present[b""][MTIME], present[b""][MTIME]))
        else:
            os.fchmod(root_fd, ROOT.mode)
            os.utime(root_fd, (ROOT.mtime, ROOT.mtime))
    return [entry for _, entry in found.values()]


def _first_names(tocs: Sequence[Toc]) -> Callable[[int, Entry], bytes]:
    """A function that is asked about each visible entry of layers, once, and knows the first name of its file so far."""
    view = View(tocs) if any(toc.links for toc in tocs) else None
    names: dict[tuple[int, bytes], bytes] = {}

    def first_name(number: int, entry: Entry) -> bytes:
        if entry.kind is Kind.DIRECTORY:
            return entry.path
        file = (number, entry.hardlink or entry.path) if view is None else view.file_of(tocs[number], entry)
        return names.setdefault(file, entry.path)

    return first_name


def separate_names(root_fd: int, files: dict[bytes, Fact]) -> set[bytes]:
    """Give each name among `files` that is one of several a file of its own; return the paths that this changed.

    `files` are facts about a part of a root, as it is; afterwards those of the returned paths are old.
    """
    groups: dict[tuple[int, int], list[bytes]] = {}
    for path, fact in files.items():
        if fact[NAMES] > 1 and not stat.S_ISDIR(fact[MODE]):
            groups.setdefault((fact[0], fact[INODE]), []).append(path)
    touched: set[bytes] = set()
    if groups:
        directories, sources = DirectoryCache(root_fd), DirectoryCache(root_fd)
        for first, *others in groups.values():
            touched.add(first)
            touched.update(others, map(parent_of, others))
            for path in others:
                with _kept_times(root_fd, {parent_of(path)}):
                    _replace_by_copy(sources.locate(first), directories.locate(path))
        directories.close()
        sources.close()
    return touched


def add_mount_points(root_fd: int, scaffold: Toc, view: View) -> set[bytes]:
    """Make the mount points that a root lacks; return the paths that this changed. Directories keep their times."""
    missing = [entry for entry in scaffold if entry.path and view.lookup(entry.path) is None]
    made = {entry.path for entry in missing}
    above = {parent_of(path) for path in made}
    with _kept_times(root_fd, above - made):
        maker = TreeMaker(root_fd)
        for entry in missing:
            if entry.kind is Kind.DIRECTORY:
                maker.directory(entry)
            else:
                maker.file(entry, ())
        for entry in reversed(missing):
            if entry.kind is Kind.DIRECTORY:
                maker.finish_directory(entry)
        maker.close()
    return made | above


def tidy_root(root_fd: int, found: RootChanges, facts: Facts, scaffold: Toc, below: View) -> Facts:
    """Make a root hold what the View of its layers says after a step whose changes are `found`; return the facts about it.

    Sockets and unused mount points go, and a directory in which nothing changed after all gets its old time. So the next step
    finds what it would find in a root that is made anew. `facts` and `below` are those that `root_changes` was given.
    """
    listed = {entry.path for entry in found.changes.entries}
    gone = [path for path in found.nothing if path in found.files]
    for entry in reversed(list(scaffold)):
        path = entry.path
        if path and path in found.files and path not in listed and below.lookup(path) is None:
            gone.append(path)
    times: dict[bytes, int] = {}  # directory -> the time that it gets, in ns
    for path in {*found.looked_at, *map(parent_of, gone)}:
        fact = found.files[path]
        if stat.S_ISDIR(fact[MODE]) and path not in gone:
            before = None if path in listed else below.lookup(path)
            times[path] = fact[MTIME] if before is None else before.mtime * 1_000_000_000
    directories = DirectoryCache(root_fd)
    for path in gone:
        fd, name = directories.locate(path)
        if stat.S_ISDIR(found.files[path][MODE]):
            os.rmdir(name, dir_fd=fd)
        else:
            os.unlink(name, dir_fd=fd)
    for path, time in times.items():
        fd, name = directories.locate(path) if path else (root_fd, b".")
        os.utime(name, ns=(time, time), dir_fd=fd, follow_symlinks=False)
    directories.close()
    _refresh(root_fd, found.files, {*gone, *times})
    return _with_births(root_fd, found.files, not_on_disk(found.changes.entries), facts)


def _is_part(path: bytes, part: bytes) -> bool:
    return not path or path == part or path.startswith(part + b"/") or part.startswith(path + b"/")


def _with_births(root_fd: int, files: dict[bytes, Fact], special: list[bytes], known: Facts | None) -> Facts:
    paths = {*special, *(() if known is None else known.births)}
    return Facts(files, births(root_fd, sorted(path for path in paths if path in files)))


def _remove(
    root_fd: int,
    paths: list[bytes],
    found: dict[bytes, tuple[int, Entry]],
    hiding: set[bytes],
    present: dict[bytes, Fact],
) -> None:
    """Remove what layers hide or replace. A directory that stays a directory keeps its content, unless it is opaque."""
    directories = DirectoryCache(root_fd)
    for path in paths:
        entry = found[path][1] if path in found else None
        if (
            path not in hiding
            and entry is not None
            and entry.kind is Kind.DIRECTORY
            and stat.S_ISDIR(present[path][MODE])
        ):
            continue
        with suppress(FileNotFoundError):  # its directory has been removed
            remove_tree(*directories.locate(path))
    directories.close()


def _copy_from_tree(maker: TreeMaker, tree: str, entries: list[Entry]) -> None:
    with opened_directory(tree) as fd:
        directories = DirectoryCache(fd)
        for entry in entries:
            parent, name = directories.locate(entry.path)
            source = os.open(name, _READ, dir_fd=parent)
            try:
                if entry.size >= _SMALL:
                    maker.copy(entry, source)
                    continue
                data = os.read(source, entry.size + 1) if entry.size else b""
                if len(data) != entry.size:
                    raise InvalidImage(f"entry {show(entry.path)}: its tree has another size", hint="run pybuild fsck")
                maker.file(entry, (data,))
            finally:
                os.close(source)
        directories.close()


def read_from_tar(maker: TreeMaker, root_fd: int, tar: Readable, entries: list[Entry]) -> None:
    """Make files whose content is in a tar; each has the place of its content there."""
    names: dict[int, list[Entry]] = {}  # offset of the content -> the names of the file
    for entry in entries:
        if entry.size:
            names.setdefault(entry.offset, []).append(entry)
        else:
            maker.file(entry, ())
    position = 0
    for offset in sorted(names):
        first, *others = names[offset]
        for _ in next_bytes(tar, offset - position):
            pass
        if first.size <= _CHUNK:
            data = b"".join(next_bytes(tar, first.size))
            for entry in names[offset]:
                maker.file(entry, (data,))
        else:
            maker.file(first, next_bytes(tar, first.size))
            for entry in others:
                with _opened(root_fd, first.path) as source:
                    maker.copy(entry, source)
        position = offset + first.size


def _replace_by_copy(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
    """Make a name of a file (a directory and the name in it) a name of a copy of the file `source`."""
    os.unlink(target[1], dir_fd=target[0])
    copy_file(source, target)


def copy_file(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
    """Copy what is no directory, with all that the disk says of it; both are a directory and a name in it."""
    status = os.lstat(source[1], dir_fd=source[0])
    fd, name = target
    if stat.S_ISREG(status.st_mode):
        original = os.open(source[1], _READ, dir_fd=source[0])
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            copy_content(Entry(name, Kind.FILE, size=status.st_size), original, copy)
            os.fchown(copy, status.st_uid, status.st_gid)
            os.fchmod(copy, stat.S_IMODE(status.st_mode))
            for key in os.listxattr(original) if _has_attributes(original) else ():
                os.setxattr(copy, key, os.getxattr(original, key))
            os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(original)
            os.close(copy)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source[1], dir_fd=source[0]), name, dir_fd=fd)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=fd)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=fd)
    os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)


def _has_attributes(fd: int) -> bool:
    try:
        return bool(os.listxattr(fd))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise


@contextmanager
def _kept_times(root_fd: int, directories: Iterable[bytes]) -> Iterator[None]:
    """Directories keep their times, whatever is made in them meanwhile."""
    with ExitStack() as opened:
        times = []
        for path in directories:
            fd = opened.enter_context(_opened(root_fd, path))
            times.append((fd, os.fstat(fd).st_mtime_ns))
        yield
        for fd, time in times:
            os.utime(fd, ns=(time, time))


@contextmanager
def _opened(root_fd: int, path: bytes) -> Iterator[int]:
    """A file or directory of the root, to read."""
    directories = DirectoryCache(root_fd)
    try:
        parent, name = directories.locate(path or b".")
        fd = os.open(name, _READ, dir_fd=parent)
    finally:
        directories.close()
    try:
        yield fd
    finally:
        os.close(fd)


def _refresh(root_fd: int, files: dict[bytes, Fact], paths: Iterable[bytes]) -> None:
    """Look again at some of the files of a root."""
    directories = DirectoryCache(root_fd)
    for path in sorted(paths):
        try:
            fd, name = directories.locate(path or b".")
            files[path] = fact_of(os.lstat(name, dir_fd=fd))
        except FileNotFoundError:
            files.pop(path, None)
    directories.close()
