"""The jobs around a RUN with --isolation=in-place: the root of the container becomes what the step stands on, and its layer.

There is no mount(2): what a step mounts is copied to its place first, and the content of a cache mount is copied back. What lies
there in the image is not part of the step's changes, and the next step finds it again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.errors import BuildError
from pybuild.builder.files.layer_contents import BlobPlace, LayerPlace, view_of
from pybuild.builder.jobs.job import Done, Output, Written, write_output
from pybuild.builder.sandbox.in_place import MEMORY, PROGRAMS
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Toc, parent_of, sort_key
from pybuild.store.layers.copied_files import copy_directory, copy_from_layers, empty_directory
from pybuild.store.layers.root_changes import root_changes
from pybuild.store.layers.root_directory import add_mount_points, separate_names, tidy_root
from pybuild.store.layers.root_facts import CTIME, Facts, births, fact_of, look, settle
from pybuild.store.layers.root_switch import Held, KnownRoot, switch_root, without_many_names
from pybuild.store.layers.tree_files import DirectoryCache, TreeContent, open_directory
from pybuild.store.system import syscalls
from pybuild.store.system.directories import names_in, opened_directory, remove_tree, replace_content
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pybuild.store.layers.root_facts import Fact
    from pybuild.store.layers.view import View
    from pybuild.store.system.streams import Readable

ROOT = "/"
_OF_STEPS = b"pybuild-"  # the names of what builder/sandbox/in_place.py makes in MEMORY and PROGRAMS
_TMPFS_MODE = 0o1777
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


@frozen
class CopiedMount:
    """A mount of a step, without links in its target: what is copied there, and where it is copied back to.

    `cache` is the directory of a cache mount, `layers` and `path` are the files of a bind mount; with neither it is an empty
    directory, in place of a tmpfs.
    """

    target: str
    cache: str = ""
    layers: tuple[LayerPlace, ...] = ()
    path: str = ""
    directory: bool = True
    read_only: bool = False

    @property
    def place(self) -> bytes:
        """The target as in a table of contents."""
        return os.fsencode(self.target.strip("/"))


@frozen
class RootMemory:
    """What is known of the container's root: its layers, the topmost first, and the file with facts about it.

    Below the paths `unknown` nothing is known.
    """

    layers: tuple[LayerPlace, ...]
    facts: str
    unknown: tuple[str, ...]


@frozen
class Prepared:
    """The root is ready. `began` is what Facts.began says."""

    began: int


@frozen
class PrepareInPlace:
    """Make the container's root what `layers` say, with the mount points of `mount_points` and what is mounted there.

    `held` are the paths to leave alone. The facts about the root are written to `facts`, a new file; `scratch` is a directory on
    the filesystem of the root.
    """

    in_namespace: ClassVar[bool] = False
    layers: tuple[LayerPlace, ...]
    memory: RootMemory | None
    held: tuple[str, ...]
    mount_points: str
    mounts: tuple[CopiedMount, ...]
    facts: str
    scratch: str

    def run(self) -> Prepared:
        _forget_memory()
        view, held = view_of(self.layers), Held(frozenset(os.fsencode(path.strip("/")) for path in self.held))
        with opened_directory(ROOT) as root, opened_directory(self.scratch) as scratch:
            known, born = self._known()
            switched = switch_root(root, root_layers(self.layers), view, held, known)
            files = switched.files
            touched = separate_names(root, without_many_names(files)) | add_mount_points(
                root, Toc.open(self.mount_points), view
            )
            for mount in self.mounts:
                _make(root, mount)
                touched.add(parent_of(mount.place))
            newest = _look_again(root, files, touched, self.mounts)
            special = sorted(path for path in {*switched.special, *born} if path in files)
            facts = settle(Facts({**files, **newest}, births(root, special)), scratch)
        facts = Facts(files, facts.births, facts.began)
        with open(self.facts, "xb") as file:
            file.write(facts.encode())
        return Prepared(facts.began)

    def _known(self) -> tuple[KnownRoot | None, Iterable[bytes]]:
        if self.memory is None:
            return None, ()
        before = self.memory.layers
        shared = 0
        for old, new in zip(reversed(before), reversed(self.layers), strict=False):
            if old.changeset != new.changeset:
                break
            shared += 1
        facts = _read_facts(self.memory.facts)
        unknown = frozenset(os.fsencode(path.strip("/")) for path in self.memory.unknown)
        return KnownRoot(view_of(before), shared, facts.files, unknown), facts.births


@frozen
class CommittedInPlace:
    """The layer of a RUN, and the targets of read-only mounts that the command has written to all the same."""

    written: Written
    ignored: tuple[str, ...]


@frozen
class CommitInPlace:
    """Write what a RUN changed in the container's root as a layer, and copy its cache mounts back.

    `facts` are those of `PrepareInPlace`; new ones, about the root as it is now, are written to `new_facts`. `scaffold` lists what
    the root holds and `layers` do not, `mount_points` what of that is removed; what is at the targets `hidden` is not looked at.
    `spare` is a path in the store that does not exist.
    """

    in_namespace: ClassVar[bool] = False
    layers: tuple[LayerPlace, ...]
    held: tuple[str, ...]
    scaffold: str
    mount_points: str
    mounts: tuple[CopiedMount, ...]
    hidden: tuple[str, ...]
    facts: str
    output: Output
    new_facts: str
    spare: str

    def run(self) -> CommittedInPlace:
        view, scaffold, facts = view_of(self.layers), Toc.open(self.scaffold), _read_facts(self.facts)
        with opened_directory(ROOT) as root:
            ignored = tuple(
                mount.target for mount in self.mounts if mount.read_only and _was_written(root, mount, facts)
            )
            _keep_caches(root, self.mounts, self.spare)
            for mount in reversed(self.mounts):
                _remove_unless_hiding(root, mount, view)
            alone = {os.fsencode(path.strip("/")) for path in (*self.held, *self.hidden)}
            found = root_changes(root, view, facts, scaffold, alone)
            if found.shared:
                path = show(b"/" + min(found.shared))
                raise BuildError(
                    f"the step has changed a file with {len(found.shared)} names, {path} among them: all of them have changed",
                    hint="in the root of a container a file with many names stays one file: replace one name by mv instead",
                )
            with TreeContent(root) as content:
                written = write_output(found.changes.entries, content, self.output, found.changes.links)
            after = tidy_root(root, found, facts, Toc.open(self.mount_points), view)
        with open(self.new_facts, "xb") as file:
            file.write(after.encode())
        return CommittedInPlace(written, ignored)


@frozen
class KeepCaches:
    """Copy the cache mounts of a failed RUN back; the fields are as in `CommitInPlace`."""

    in_namespace: ClassVar[bool] = False
    mounts: tuple[CopiedMount, ...]
    spare: str

    def run(self) -> Done:
        with opened_directory(ROOT) as root:
            _keep_caches(root, self.mounts, self.spare)
        return Done()


class _RootLayer:
    """A layer as `switch_root` reads it."""

    def __init__(self, place: LayerPlace) -> None:
        self.toc = Toc.open(place.toc)
        # A blob is checked while it is read. A tree can lack owners of ids that do not exist where it was made.
        self.tree = None if place.blob is not None else place.tree
        self._blob = place.blob

    def tar(self) -> AbstractContextManager[Readable]:
        assert self._blob is not None
        return _opened(self._blob)


@contextmanager
def _opened(blob: BlobPlace) -> Iterator[Readable]:
    tar = blob.open(hashed=False)
    yield tar
    tar.finish()


def root_layers(layers: Sequence[LayerPlace]) -> list[_RootLayer]:
    """The layers as `switch_root` reads them."""
    return [_RootLayer(layer) for layer in layers]


def _read_facts(path: str) -> Facts:
    with open(path, "rb") as file:
        return Facts.decode(file.read())


def _forget_memory() -> None:
    """Remove what killed steps have left in memory, secrets above all."""
    for place in (MEMORY, PROGRAMS):
        with suppress(FileNotFoundError, NotADirectoryError), opened_directory(place) as fd:
            for name in names_in(fd):
                if name.startswith(_OF_STEPS):
                    remove_tree(fd, name)


def _make(root: int, mount: CopiedMount) -> None:
    """Copy what a step mounts to its target."""
    place = mount.place
    directories = DirectoryCache(root)
    try:
        missing = []
        parent = parent_of(place)
        while parent and not _exists(root, parent):
            missing.append(parent)
            parent = parent_of(parent)
        for path in reversed(missing):
            fd, name = directories.locate(path)
            os.mkdir(name, 0o755, dir_fd=fd)
        remove_tree(*directories.locate(place))
    finally:
        directories.close()
    if mount.layers:
        view = view_of(mount.layers)
        copy_from_layers(root, place, root_layers(mount.layers), view, os.fsencode(mount.path.strip("/")))
    elif mount.cache:
        empty_directory(root, place, 0o700)
        source = f"{mount.cache}/{mount.path}" if mount.path else mount.cache
        with opened_directory(source) as cache:
            fd = open_directory(root, place)
            try:
                copy_directory(cache, fd)
            finally:
                os.close(fd)
    else:
        empty_directory(root, place, _TMPFS_MODE)


def _exists(root: int, path: bytes) -> bool:
    try:
        os.close(open_directory(root, path))
    except FileNotFoundError:
        return False
    return True


def _look_again(
    root: int, files: dict[bytes, Fact], touched: set[bytes], mounts: Sequence[CopiedMount]
) -> dict[bytes, Fact]:
    """Take new facts of paths, and none below mounts. Returns facts of the files of mounts."""
    mounted: dict[bytes, Fact] = {}
    directories = DirectoryCache(root)
    for mount in mounts:
        for path in [path for path in files if path == mount.place or path.startswith(mount.place + b"/")]:
            del files[path]
        for path, fact in _files_of(root, mount).items():
            mounted[mount.place + b"/" + path] = fact
    for path in sorted(touched, key=sort_key):
        if not any(path == mount.place or path.startswith(mount.place + b"/") for mount in mounts):
            fd, name = directories.locate(path or b".")
            files[path] = fact_of(os.lstat(name, dir_fd=fd))
    directories.close()
    return mounted


def _files_of(root: int, mount: CopiedMount) -> dict[bytes, Fact]:
    """Facts about what is at the target of a mount; none if it is gone."""
    if not mount.directory:
        with suppress(OSError):
            parent, _, name = mount.place.rpartition(b"/")
            fd = _opened_below(root, parent)
            try:
                return {b"": fact_of(os.lstat(name, dir_fd=fd))}
            finally:
                os.close(fd)
        return {}
    try:
        fd = _opened_below(root, mount.place)
    except OSError:
        return {}
    try:
        return look(fd)
    finally:
        os.close(fd)


def _was_written(root: int, mount: CopiedMount, facts: Facts) -> bool:
    found = _files_of(root, mount)
    return not found or any(fact[CTIME] >= facts.began for fact in found.values())


def _opened_below(root: int, path: bytes) -> int:
    """Open a directory after a step, which can have replaced every part of the path by a link that leads elsewhere.

    Raises OSError.
    """
    return syscalls.openat2(root, path or b".", _DIRECTORY, _NO_LINKS)


def _keep_caches(root: int, mounts: Sequence[CopiedMount], spare: str) -> None:
    for number, mount in enumerate(reversed(mounts)):
        if mount.cache and not mount.read_only:
            _copy_back(root, mount, f"{spare}-{number}")


def _copy_back(root: int, mount: CopiedMount, spare: str) -> None:
    """Replace the content of a cache mount by what the step has left, which is copied to `spare` first.

    The directory itself stays: other steps can have it mounted, and the one above it must not change (objects/identity.py). So a
    kill can leave some names as they were and others as the step has left them, each of them whole (`replace_content`).
    """
    try:
        fd = _opened_below(root, mount.place)
    except OSError:
        return  # the step has removed its cache: with a real mount it could not
    try:
        os.mkdir(spare, 0o700)
        with opened_directory(spare) as new:
            copy_directory(fd, new)
            status = os.fstat(new)
            target = f"{mount.cache}/{mount.path}" if mount.path else mount.cache
            with opened_directory(target) as cache:
                replace_content(cache, new)
                os.fchown(cache, status.st_uid, status.st_gid)
                os.fchmod(cache, status.st_mode & 0o7777)
    finally:
        os.close(fd)
        with opened_directory(os.path.dirname(spare)) as above:
            remove_tree(above, os.path.basename(spare))


def _remove_unless_hiding(root: int, mount: CopiedMount, view: View) -> None:
    """Remove what was copied to a target that the image lacks. Where it hides files of the image, the next step replaces it."""
    if view.lookup(mount.place) is not None:
        return
    parent, _, name = mount.place.rpartition(b"/")
    try:
        fd = _opened_below(root, parent)
    except OSError:
        return  # the step has removed or replaced a directory above it
    try:
        status = os.fstat(fd)
        remove_tree(fd, name)
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)
