"""What the sources of a COPY match in a context, by names and kinds alone: for the checks, which need no more.

Listing a directory for a COPY reads the status and the attributes of each file; this takes one getdents(2).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.builder.errors import CopyError
from pybuild.builder.files.context_directory import ContextTree
from pybuild.builder.files.copy_patterns import PathFilter, follow, matches, split_pivot, walk
from pybuild.parser import IgnoreFile
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.files.context_source import ContextSource, TarTree


@contextmanager
def opened_names(source: ContextSource) -> Iterator[ContextTree | TarTree]:
    """The tree of a context, with kinds and names only. Raises BuildError, OSError, InvalidImage."""
    if source.toc is not None:
        tree: ContextTree | TarTree = source.open()
    else:
        tree = _NamesTree(source.root, None if source.ignore is None else IgnoreFile.parse(source.ignore))
    try:
        yield tree
    finally:
        tree.close()


def matched(tree: ContextTree | TarTree, source: str) -> Sequence[Entry | None]:
    """The entries that a source matches, their links followed; None for a path that does not exist. Raises CopyError."""
    return [tree.lookup(follow(tree, path)) for path in matches(source, tree)]


def matches_parents(tree: ContextTree | TarTree, source: str) -> bool:
    """Whether a source of COPY --parents matches anything. Raises CopyError."""
    before, pattern = split_pivot(source)
    if not pattern:
        return True
    included = PathFilter(IgnoreFile.of(["\\" + pattern if pattern.startswith("!") else pattern]))
    tops = (tree.lookup(follow(tree, path)) for path in matches(before, tree))
    directories = [top for top in tops if top is not None and top.kind is Kind.DIRECTORY]
    return any(found.chosen for top in directories for found in walk(tree, top, included))


class _NamesTree(ContextTree):
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
