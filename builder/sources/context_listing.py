"""What a build can copy from a context, and which line of its ignore file excludes the rest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.files.context_directory import ContextTree
from pybuild.builder.files.ignore_file import read_ignore_file
from pybuild.builder.sources.recipe import parse_ignore_file, recipe_path
from pybuild.store.formats.toc import Kind, sort_key
from pybuild.values import frozen
from pybuild.values.limits import CONTEXT_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.files.context_source import ContextSource, TarTree
    from pybuild.parser import IgnoreLine
    from pybuild.store.formats.toc import Entry


@frozen
class Sent:
    """A file or directory that a COPY can find. A socket is copied as an empty file."""

    entry: Entry
    socket: bool


@frozen
class Excluded:
    """An excluded file or directory, with everything in it, and the line that excludes it."""

    entry: Entry
    line: IgnoreLine


@frozen
class Listing:
    """The content of a context. Both lists are sorted by path; the root is left out."""

    sent: tuple[Sent, ...]
    excluded: tuple[Excluded, ...]
    ignore_file: str | None  # its path, as messages show it

    @property
    def size(self) -> int:
        """Bytes of all files. A file with several names counts once for each."""
        return sum(sent.entry.size for sent in self.sent if sent.entry.kind is Kind.FILE)

    @property
    def exceeds(self) -> str | None:
        """The limit that the context exceeds, as text; None if it exceeds none."""
        return f"{CONTEXT_ENTRIES.shown()} entries" if len(self.sent) > CONTEXT_ENTRIES.value else None


def list_directory(context: str, recipe: str | None) -> Listing:
    """What a build of a directory can copy. `recipe`: a path, `-`, or None as for a build. Raises BuildError.

    The content of an excluded directory is listed only if an exception (`!`) includes some of it again.
    """
    found = read_ignore_file(context, recipe_path(context, recipe))
    ignore = None if found is None else parse_ignore_file(found)
    left_out: dict[bytes, Entry] = {}
    tree = ContextTree(context, ignore, left_out)
    try:
        sent = tuple(_everything(tree))
    finally:
        tree.close()
    excluded = []
    last_excluded = None
    for path in sorted(left_out, key=sort_key):
        if last_excluded is not None and path.startswith(last_excluded + b"/"):
            continue
        last_excluded = path
        line = ignore.explain(os.fsdecode(path)) if ignore is not None else None
        assert line is not None, "excluded, but by no line"
        excluded.append(Excluded(left_out[path], line))
    return Listing(sent, tuple(excluded), None if found is None else found.path)


def list_archive(source: ContextSource) -> Listing:
    """What a build can copy from an archive. Its ignore file has no effect. Raises BuildError."""
    tree = source.open()
    try:
        return Listing(tuple(_everything(tree)), (), None)
    finally:
        tree.close()


def _everything(tree: ContextTree | TarTree) -> Iterator[Sent]:
    pending = tree.readdir(b"")[::-1]
    while pending:
        entry = pending.pop()
        yield Sent(entry, tree.is_socket(entry))
        if entry.kind is Kind.DIRECTORY:
            pending += tree.readdir(entry.path)[::-1]
