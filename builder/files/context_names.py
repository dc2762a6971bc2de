"""What the sources of a COPY match in a context, by names and kinds alone: for the checks, which need no more.

Listing a directory for a COPY reads the status and the attributes of each file; this takes one getdents(2).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.errors import CopyError
from pybuild.builder.files.context_directory import ContextTree
from pybuild.builder.files.copy_patterns import PathFilter, follow, matches, split_pivot, walk
from pybuild.parser import IgnoreFile
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.view import ROOT, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.files.context_source import ContextSource
    from pybuild.builder.files.tree import FileTree


class ContextNames:
    """The names in one context. Each directory is listed once, however often the context is opened."""

    def __init__(self, source: ContextSource) -> None:
        self._source = source
        self._listed: dict[bytes, dict[bytes, Entry]] = {}

    @contextmanager
    def opened(self) -> Iterator[FileTree]:
        """The tree, without contents. Raises BuildError, OSError, InvalidImage, PatternError."""
        if self._source.toc is not None:
            yield self._archive
            return
        tree = _DirectoryNames(self._source.root, self._ignore, self._listed)
        try:
            yield tree
        finally:
            tree.close()

    @cached_property
    def _ignore(self) -> IgnoreFile | None:
        return None if self._source.ignore is None else IgnoreFile.parse(self._source.ignore)

    @cached_property
    def _archive(self) -> _ArchiveNames:
        assert self._source.toc is not None
        return _ArchiveNames(View([Toc.open(self._source.toc)]))


def matched(tree: FileTree, source: str) -> Sequence[Entry | None]:
    """The entries that a source matches, their links followed; None for a path that does not exist. Raises CopyError."""
    return [tree.lookup(follow(tree, path)) for path in matches(source, tree)]


def matches_parents(tree: FileTree, source: str) -> bool:
    """Whether a source of COPY --parents matches anything. Raises CopyError."""
    before, pattern = split_pivot(source)
    if not pattern:
        return True
    included = PathFilter(IgnoreFile.of(["\\" + pattern if pattern.startswith("!") else pattern]))
    tops = (tree.lookup(follow(tree, path)) for path in matches(before, tree))
    directories = [top for top in tops if top is not None and top.kind is Kind.DIRECTORY]
    return any(found.chosen for top in directories for found in walk(tree, top, included))


class _ArchiveNames:
    """A context that is an archive, as a FileTree whose files seem empty."""

    allows_devices = False

    def __init__(self, view: View) -> None:
        self._view = view

    def lookup(self, path: bytes) -> Entry | None:
        return self._view.lookup(path) if path else ROOT

    def readdir(self, path: bytes) -> list[Entry]:
        return self._view.readdir(path)

    def identity(self, entry: Entry) -> None:
        return None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        return iter(())


class _DirectoryNames(ContextTree):
    """A context directory whose entries have a kind, and no status."""

    def __init__(self, root: str, ignore: IgnoreFile | None, listed: dict[bytes, dict[bytes, Entry]]) -> None:
        super().__init__(root, ignore)
        self._listed = listed

    def _scan(self, path: bytes) -> tuple[dict[bytes, Entry], list[bytes]]:
        found: dict[bytes, Entry] = {}
        undecided = []
        fd = self._open(path)
        try:
            with os.scandir(fd) as listed:
                for item in listed:
                    name = os.fsencode(item.name)
                    child = path + b"/" + name if path else name
                    if self._ignore is not None and self._ignore.excludes(os.fsdecode(child)):
                        if not item.is_dir(follow_symlinks=False) or not self._ignore.may_contain_included(
                            os.fsdecode(child)
                        ):
                            continue
                        undecided.append(name)
                    if item.is_symlink():
                        found[name] = Entry(child, Kind.SYMLINK, 0o777, link=os.readlink(name, dir_fd=fd))
                    else:
                        found[name] = Entry(child, Kind.DIRECTORY if item.is_dir() else Kind.FILE, 0)
        except OSError as error:
            raise CopyError(f"cannot read the directory {show(path)} of the context: {error.strerror}") from error
        finally:
            os.close(fd)
        return found, undecided
