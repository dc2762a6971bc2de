"""The entries that a COPY or an ADD puts into the image, and the source file of each.

This module only decides: it reads the entries of the sources from a FileTree and those of the image from a View, and
returns planned entries. The rules are those of BuildKit's file copier; where its code and its documentation disagree, the
documented rule is used.
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pybuild.builder.errors import CopyError
from pybuild.builder.files.copy_patterns import (
    PathFilter,
    clean_parts,
    matches,
    not_found,
    source_entry,
    split_pivot,
    walk,
)
from pybuild.builder.files.path_dict import PathDict
from pybuild.builder.files.tree import InlineFile, InlineTree
from pybuild.parser import IgnoreFile, apply_mode, has_wildcard, parse_mode
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.formats.whiteout import refuse_reserved
from pybuild.store.layers.view import LinkLoop
from pybuild.store.layers.write import stored_xattrs
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from pybuild.builder.files.archives import ArchiveTree
    from pybuild.builder.files.spool import Spool
    from pybuild.builder.files.tree import FileTree
    from pybuild.store.layers.view import View
    from pybuild.store.system.streams import Readable


@frozen
class CopyRequest:
    """One COPY with all its text expanded."""

    sources: tuple[str, ...]  # paths or patterns, relative to the root of the source tree
    dest: str  # absolute; with a trailing slash it is a directory
    owner: tuple[int, int] | None  # --chown: uid and gid; None keeps those of the source
    mode: int | str | None = None  # --chmod: bits, or symbols such as "u+x"
    exclude: tuple[str, ...] = ()
    parents: bool = False
    inline: tuple[InlineFile, ...] = ()  # heredocs, copied after the sources
    inline_time: int = 0  # mtime of the heredocs, seconds since the epoch
    unpack: bool = False  # unpack archives among the sources, as ADD does
    unpack_fetched: bool = False  # unpack archives that are downloaded


class PlannedEntry(NamedTuple):
    """An entry of the image, and the source entry that it comes from, in `tree` (None for a parent that is created)."""

    entry: Entry
    source: Entry | None
    tree: FileTree | None


def plan_entries(
    request: CopyRequest,
    tree: FileTree,
    below: View,
    spool: Spool | None = None,
    fetched: Mapping[int, tuple[FileTree, bytes]] = MappingProxyType({}),
) -> list[PlannedEntry]:
    """All entries that the COPY puts into the image, sorted, including those that the image already has.

    `fetched` maps the positions of downloaded sources to a tree and a path in it.
    `spool` stores the content of archives until it is read; without it only the entries of archives can be read.
    Raises CopyError if a source is missing or does not fit the destination, UnsafePath for names that no layer can hold.
    """
    plan = _Plan(request, below, spool)
    inline = InlineTree(request.inline, request.inline_time)
    exclude = IgnoreFile.of(request.exclude) if request.exclude else None
    todo: list[_CopySource] = []
    for position, source in enumerate(request.sources):
        if position in fetched:
            todo.append(_CopySource(*fetched[position], PathFilter(None, exclude), request.unpack_fetched))
        elif request.parents:
            todo += _with_parents(source, tree, exclude)
        else:
            todo += [
                _CopySource(tree, path, PathFilter(None, exclude), request.unpack) for path in matches(source, tree)
            ]
    todo += [_CopySource(inline, entry.path, PathFilter()) for entry in inline.readdir(b"")]
    for item in todo:
        plan.copy(item)
    return plan.entries()


class _CopySource(NamedTuple):
    """One file or directory to copy."""

    tree: FileTree
    path: bytes
    path_filter: PathFilter
    unpack: bool = False  # unpack the file if it is an archive

    @property
    def entry(self) -> Entry:
        return source_entry(self.tree, self.path)


def _with_parents(source: str, tree: FileTree, exclude: IgnoreFile | None) -> list[_CopySource]:
    """The sources for a source of COPY --parents: directories, each with the pattern of the paths to copy from it.

    Raises CopyError if the source has no wildcards and does not exist.
    """
    before, pattern = split_pivot(source)
    # An exclamation mark negates a pattern of --exclude, but not one of --parents.
    include = IgnoreFile.of(["\\" + pattern if pattern.startswith("!") else pattern]) if pattern else None
    if not has_wildcard(before) and not has_wildcard(pattern):
        directory = b"/".join(clean_parts(before))
        path = pattern.encode("utf-8", "surrogateescape")
        entry = source_entry(tree, directory)
        if entry.kind is not Kind.DIRECTORY or tree.lookup(_join(entry.path, path) if path else entry.path) is None:
            raise not_found(tree, _join(directory, path))
    found = [_CopySource(tree, path, PathFilter(include, exclude)) for path in matches(before, tree)]
    return [item for item in found if item.entry.kind is Kind.DIRECTORY]


class _Plan:
    """The entries decided so far."""

    def __init__(self, request: CopyRequest, below: View, spool: Spool | None) -> None:
        self._request = request
        self._below = below
        self._spool = spool
        self._planned = PathDict[PlannedEntry]()
        self._files: dict[bytes, Hashable] = {}  # target -> identity of its source file, which hard links share
        self._chmod = parse_mode(request.mode) if isinstance(request.mode, str) else request.mode
        dest = request.dest.encode("utf-8", "surrogateescape")
        self._wants_directory = dest.endswith(b"/") or dest.rpartition(b"/")[2] in (b".", b"..")
        self._dest = self._resolve_dest(dest)

    def copy(self, source: _CopySource) -> None:
        """Plan one source."""
        entry = source.entry
        if entry.kind is Kind.DIRECTORY:
            self._copy_contents(source.tree, entry, source.path_filter)
            return
        if (archive := self._archive(source)) is not None:
            self._unpack(source, archive, entry.mtime)
            return
        existing = self._lookup(self._dest)
        target = self._dest
        if self._wants_directory or (existing is not None and existing.kind is Kind.DIRECTORY):
            target = _join(target, source.path.rpartition(b"/")[2] or entry.path.rpartition(b"/")[2])
        self._make_directories(parent_of(target), self._mode(0o755, directory=True), entry.mtime)
        self._put(target, source.tree, entry)

    def entries(self) -> list[PlannedEntry]:
        """All entries, sorted. If a file has several names, the others become hard links to the first."""
        first: dict[Hashable, bytes] = {}
        result = []
        for item in sorted(self._planned.values(), key=lambda item: sort_key(item.entry.path)):
            entry = item.entry
            identity = self._files.get(entry.path)
            if identity is not None:
                name = first.setdefault(identity, entry.path)
                item = item._replace(entry=entry._replace(hardlink=name if name != entry.path else b""))
            result.append(item)
        return result

    def _resolve_dest(self, dest: bytes) -> bytes:
        """The destination after following the image's links, also a link to a file or to nothing."""
        try:
            return self._below.resolve(dest)
        except LinkLoop:
            raise CopyError(f"{self._request.dest}: too many levels of symbolic links in the image") from None

    def _lookup(self, path: bytes) -> Entry | None:
        planned = self._planned.get(path)
        return planned.entry if planned is not None else self._below.lookup(path)

    def _owner(self, source: Entry | None) -> tuple[int, int]:
        if self._request.owner is not None:
            return self._request.owner
        return (source.uid, source.gid) if source is not None else (0, 0)

    def _mode(self, current: int, *, directory: bool) -> int:
        """The mode after --chmod."""
        match self._chmod:
            case None:
                return current
            case int(bits):
                return bits
            case mode:
                return apply_mode(mode, current, directory=directory)

    def _make_directories(self, path: bytes, mode: int, mtime: int) -> None:
        """Create a directory and its parents, if missing: owned by root or the owner of --chown."""
        missing = []
        while path:
            entry = self._lookup(path)
            if entry is not None and entry.kind is Kind.DIRECTORY:
                break
            if entry is not None:
                raise _not_a_directory(path)
            missing.append(path)
            path = parent_of(path)
        uid, gid = self._owner(None)
        for directory in reversed(missing):
            refuse_reserved(directory)
            self._planned[directory] = PlannedEntry(Entry(directory, Kind.DIRECTORY, mode, uid, gid, mtime), None, None)

    def _archive(self, source: _CopySource) -> Readable | None:
        """The decompressed stream of a source that is an archive and must be unpacked, else None."""
        if not source.unpack:
            return None
        from pybuild.builder.files.archives import open_archive

        return open_archive(source.tree, source.entry)

    def _unpack(self, source: _CopySource, archive: Readable, mtime: int) -> None:
        """Unpack an archive into the destination directory. Its entries can replace existing ones of another type."""
        dest = self._dest
        self._make_directories(dest, 0o755, mtime)
        from pybuild.builder.files.archives import read_tree

        again, below = partial(self._archive, source), _ImageDirectory(self._lookup, dest)
        tree = read_tree(source.path, archive, again, below, self._request.owner, self._spool)
        for entry in tree.entries:
            if entry.path:
                self._replace(_join(dest, entry.path), tree, entry)

    def _replace(self, target: bytes, tree: ArchiveTree, entry: Entry) -> None:
        existing = self._lookup(target)
        if existing is not None and existing.kind is not Kind.DIRECTORY and entry.kind is Kind.DIRECTORY:
            below = self._below.lookup(target)
            if below is not None and below.kind is Kind.DIRECTORY:
                raise _not_a_directory(target)  # an earlier file replaced a directory of the image
        if existing is not None and existing.kind is Kind.DIRECTORY and entry.kind is not Kind.DIRECTORY:
            for path in self._planned.drop_below(target):
                self._files.pop(path, None)
        self._set(target, tree, entry, entry.mode, (entry.uid, entry.gid))

    def _copy_contents(self, tree: FileTree, source: Entry, path_filter: PathFilter) -> None:
        """Copy the contents of a directory, not the directory itself. An existing destination keeps its mode and owner."""
        self._make_directories(self._dest, self._mode(0o755, directory=True), source.mtime)
        for found in walk(tree, source, path_filter):
            target = _join(self._dest, found.path)
            if found.chosen:
                self._put(target, tree, found.entry)
            else:
                self._put_ancestor(target, tree, found.entry)

    def _put_ancestor(self, target: bytes, tree: FileTree, source: Entry) -> None:
        """A directory that is copied only because of paths below it. An existing one gets the mode of the source."""
        existing = self._lookup(target)
        if existing is None or existing.kind is not Kind.DIRECTORY:
            self._put(target, tree, source)
            return
        known = self._planned.get(target, PlannedEntry(existing, None, None))
        self._planned[target] = known._replace(entry=existing._replace(mode=source.mode, opaque=False))

    def _put(self, target: bytes, tree: FileTree, source: Entry) -> None:
        """Plan to put one source entry at a path of the image."""
        refuse_reserved(target)
        existing = self._lookup(target)
        if existing is not None and source.kind is Kind.DIRECTORY and existing.kind is not Kind.DIRECTORY:
            raise _not_a_directory(target)
        if existing is not None and source.kind is not Kind.DIRECTORY and existing.kind is Kind.DIRECTORY:
            raise CopyError(f"cannot replace the directory {show(b'/' + target)} with a file")
        if source.kind in (Kind.CHAR, Kind.BLOCK) and not tree.allows_devices:
            raise CopyError(f"{show(source.path)} is a device, which cannot be copied from a context")
        mode = source.mode
        if source.kind is not Kind.SYMLINK:
            mode = self._mode(mode, directory=source.kind is Kind.DIRECTORY)
        self._set(target, tree, source, mode, self._owner(source))

    def _set(self, target: bytes, tree: FileTree, source: Entry, mode: int, owner: tuple[int, int]) -> None:
        self._files.pop(target, None)
        if source.kind is not Kind.DIRECTORY and (identity := tree.identity(source)) is not None:
            self._files[target] = (id(tree), identity)
        self._planned[target] = PlannedEntry(
            Entry(
                target, source.kind, mode, *owner, source.mtime, source.size, source.link, b"", source.rdev,
                stored_xattrs(source), source.sha256,
            ),
            source, tree,
        )  # fmt: skip


class _ImageDirectory:
    """A directory of the image with the entries that are planned so far, as a root of its own."""

    def __init__(self, lookup: Callable[[bytes], Entry | None], directory: bytes) -> None:
        self._lookup = lookup
        self._directory = directory

    def lookup(self, path: bytes) -> Entry | None:
        return self._lookup(_join(self._directory, path) if path else self._directory)


def _join(directory: bytes, path: bytes) -> bytes:
    return directory + b"/" + path if directory else path


def _not_a_directory(path: bytes) -> CopyError:
    return CopyError(f"cannot copy to non-directory: {show(b'/' + path)}")
