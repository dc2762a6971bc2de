"""What the sources of a COPY stand for: paths and patterns in a tree, and which of what lies below them comes along."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pybuild.builder.errors import CopyError
from pybuild.parser import IgnoreFile, has_wildcard, match_pattern
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.view import LinkLoop, resolve
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.files.tree import FileTree
    from pybuild.store.formats.toc import Entry


@frozen
class PathFilter:
    """Which paths below a source are wanted. Paths are relative to it; without patterns all of them are."""

    include: IgnoreFile | None = None  # of --parents
    exclude: IgnoreFile | None = None

    def takes(self, path: bytes) -> bool:
        """Whether a path is copied."""
        if self.include is None and self.exclude is None:
            return True
        text = path.decode("utf-8", "surrogateescape")
        if self.include is not None and not self.include.excludes(text):
            return False
        return self.exclude is None or not self.exclude.excludes(text)

    def may_take_below(self, directory: bytes) -> bool:
        """Whether something below a directory that is not taken may be."""
        text = directory.decode("utf-8", "surrogateescape")
        if self.include is not None and not self.include.excludes(text) and not self.include.matches_below(text):
            return False
        return self.exclude is None or not self.exclude.excludes(text) or self.exclude.may_contain_included(text)


class FoundRow(NamedTuple):
    """A row below a source; one that is not `chosen` is a directory that only comes along for what lies in it."""

    entry: Entry
    path: bytes  # relative to the source
    chosen: bool


class _Level:
    """A directory on the way down."""

    def __init__(self, entry: Entry, path: bytes, tree: FileTree, *, given: bool) -> None:
        self.entry = entry
        self.path = path
        self.names = iter(tree.readdir(entry.path))
        self.given = given


def walk(tree: FileTree, top: Entry, choice: PathFilter) -> Iterator[FoundRow]:
    """What is chosen of all that lies below a directory, each directory before what is in it."""
    everything = choice.include is None and choice.exclude is None
    levels = [_Level(top, b"", tree, given=True)]
    while levels:
        level = levels[-1]
        entry = next(level.names, None)
        if entry is None:
            levels.pop()
            continue
        name = entry.path.rpartition(b"/")[2]
        path = level.path + b"/" + name if level.path else name
        chosen = everything or choice.takes(path)
        if chosen:
            if not level.given:
                waiting = len(levels)
                while not levels[waiting - 1].given:
                    waiting -= 1
                for above in levels[waiting:]:
                    above.given = True
                    yield FoundRow(above.entry, above.path, False)
            yield FoundRow(entry, path, True)
        if entry.kind is Kind.DIRECTORY and (chosen or choice.may_take_below(path)):
            levels.append(_Level(entry, path, tree, given=chosen))


def split_pivot(source: str) -> tuple[str, str]:
    """A source of --parents: the directory that stays behind, and the pattern of what comes along, both clean.

    They are parted by the first `/./`; without one, all of the path comes along.
    """
    before, pivot, behind = source.partition("/./")
    if not pivot:
        before, behind = "", source
    return before, b"/".join(clean_parts(behind)).decode("utf-8", "surrogateescape")


def clean_parts(source: str) -> list[bytes]:
    """The names of a path, without `.`; `..` takes the name before it away, as text."""
    clean: list[bytes] = []
    for part in source.encode("utf-8", "surrogateescape").split(b"/"):
        if part == b"..":
            del clean[-1:]
        elif part not in (b"", b"."):
            clean.append(part)
    return clean


def matches(source: str, tree: FileTree) -> Iterator[bytes]:
    """The paths that a source stands for, in order. A pattern may match nothing, a plain path must exist.

    What stands before the first wildcard is a plain path, whose links are followed; a link that a pattern matches is one
    only at the end.
    """
    clean = clean_parts(source)
    patterns = [part.decode("utf-8", "surrogateescape") for part in clean]
    plain = next((position for position, text in enumerate(patterns) if has_wildcard(text)), None)
    if plain is None:
        yield b"/".join(clean)
        return
    start = follow(tree, b"/".join(clean[:plain]))
    if tree.lookup(start) is None:
        raise not_found(b"/".join(clean[:plain]))
    found = [start]
    for pattern in patterns[plain:]:
        found = [
            entry.path
            for directory in found
            if _is_directory(tree, directory)
            for entry in tree.readdir(directory)
            if match_pattern(pattern, entry.path.rpartition(b"/")[2].decode("utf-8", "surrogateescape"))
        ]
    yield from found


def follow(tree: FileTree, path: bytes) -> bytes:
    """A path with its links followed inside the tree. Raises CopyError where they go round in circles."""
    try:
        return resolve(tree.lookup, path)
    except LinkLoop:
        raise CopyError(f"{show(path)}: too many levels of symbolic links") from None


def source_row(tree: FileTree, path: bytes) -> Entry:
    """The row of a source; a link that is named directly is followed, inside the source's root."""
    entry = tree.lookup(follow(tree, path))
    if entry is None:
        raise not_found(path)
    return entry


def not_found(path: bytes) -> CopyError:
    return CopyError(f"{show(path)}: not found", hint="it does not exist in the source, or an ignore file excludes it")


def _is_directory(tree: FileTree, path: bytes) -> bool:
    entry = tree.lookup(path)
    return entry is not None and entry.kind is Kind.DIRECTORY
