"""The sources of a COPY as paths and patterns: which paths of a tree they match, and which paths below are copied."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pybuild.builder.errors import CopyError
from pybuild.parser import IgnoreFile, has_wildcard, match_pattern, suggest
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.view import LinkLoop, resolve
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.files.tree import FileTree
    from pybuild.store.formats.toc import Entry

_OUTSIDE = (
    "`..` does not lead out of the context: build with a directory above it, or give the other one a name with "
    "--build-context NAME=DIRECTORY and COPY --from=NAME"
)
_COMPARED = 1000  # names in a directory that are compared with a mistyped one


@frozen
class PathFilter:
    """Which paths below a source are copied. Paths are relative to the source; without patterns all are copied."""

    include: IgnoreFile | None = None  # the pattern of --parents
    exclude: IgnoreFile | None = None  # the patterns of --exclude

    def includes(self, path: bytes) -> bool:
        """Whether a path is copied."""
        if self.include is None and self.exclude is None:
            return True
        text = path.decode("utf-8", "surrogateescape")
        if self.include is not None and not self.include.excludes(text):
            return False
        return self.exclude is None or not self.exclude.excludes(text)

    def may_include_below(self, directory: bytes) -> bool:
        """Whether a path below a directory can be copied although the directory itself is not."""
        text = directory.decode("utf-8", "surrogateescape")
        if self.include is not None and not self.include.excludes(text) and not self.include.matches_below(text):
            return False
        return self.exclude is None or not self.exclude.excludes(text) or self.exclude.may_contain_included(text)


class FoundEntry(NamedTuple):
    """An entry below a source. If it is not `chosen`, it is a directory that is copied only because of paths below it."""

    entry: Entry
    path: bytes  # relative to the source
    chosen: bool


class _Level:
    """A directory on the path from the source down to the current entry."""

    def __init__(self, entry: Entry, path: bytes, tree: FileTree, *, yielded: bool) -> None:
        self.entry = entry
        self.path = path
        self.names = iter(tree.readdir(entry.path))
        self.yielded = yielded


def walk(tree: FileTree, top: Entry, path_filter: PathFilter) -> Iterator[FoundEntry]:
    """The entries below a directory that are copied, each directory before its contents."""
    everything = path_filter.include is None and path_filter.exclude is None
    levels = [_Level(top, b"", tree, yielded=True)]
    while levels:
        level = levels[-1]
        entry = next(level.names, None)
        if entry is None:
            levels.pop()
            continue
        name = entry.path.rpartition(b"/")[2]
        path = level.path + b"/" + name if level.path else name
        chosen = everything or path_filter.includes(path)
        if chosen:
            if not level.yielded:
                first = len(levels)
                while not levels[first - 1].yielded:
                    first -= 1
                for above in levels[first:]:
                    above.yielded = True
                    yield FoundEntry(above.entry, above.path, False)
            yield FoundEntry(entry, path, True)
        if entry.kind is Kind.DIRECTORY and (chosen or path_filter.may_include_below(path)):
            levels.append(_Level(entry, path, tree, yielded=chosen))


def split_pivot(source: str) -> tuple[str, str]:
    """A source of --parents, split at the first `/./`: the directory that is cut off, and the pattern of the paths to copy.

    Without `/./` nothing is cut off. The pattern is normalized.
    """
    before, pivot, after = source.partition("/./")
    if not pivot:
        before, after = "", source
    return before, b"/".join(clean_parts(after)).decode("utf-8", "surrogateescape")


def clean_parts(source: str) -> list[bytes]:
    """The names of a path, without `.`; `..` removes the name before it, and links are not followed."""
    clean: list[bytes] = []
    for part in source.encode("utf-8", "surrogateescape").split(b"/"):
        if part == b"..":
            del clean[-1:]
        elif part not in (b"", b"."):
            clean.append(part)
    return clean


def _leads_out(source: str) -> bool:
    """Whether a `..` in a path has no name before it to remove."""
    depth = 0
    for part in source.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def matches(source: str, tree: FileTree) -> Iterator[bytes]:
    """The paths that a source matches, in order. A pattern can match nothing.

    The names before the first wildcard are a plain path: its links are followed. Links that later names match are not
    followed. Raises CopyError if the plain path does not exist.
    """
    clean = clean_parts(source)
    patterns = [part.decode("utf-8", "surrogateescape") for part in clean]
    plain = next((position for position, text in enumerate(patterns) if has_wildcard(text)), None)
    if plain is None:
        path = b"/".join(clean)
        if _leads_out(source) and tree.lookup(follow(tree, path)) is None:
            raise CopyError(f"{show(path)}: not found", hint=_OUTSIDE)
        yield path
        return
    start = follow(tree, b"/".join(clean[:plain]))
    if tree.lookup(start) is None:
        raise not_found(tree, b"/".join(clean[:plain]))
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
    """A path with its links followed inside the tree. Raises CopyError for a loop of links."""
    try:
        return resolve(tree.lookup, path)
    except LinkLoop:
        raise CopyError(f"{show(path)}: too many levels of symbolic links") from None


def source_entry(tree: FileTree, path: bytes) -> Entry:
    """The entry of a source; if the path is a link, that of its target inside the tree. Raises CopyError."""
    entry = tree.lookup(follow(tree, path))
    if entry is None:
        raise not_found(tree, path)
    return entry


def not_found(tree: FileTree, path: bytes) -> CopyError:
    """The error for a path that does not exist, or that a broken link is on the way to."""
    parts = path.split(b"/")
    for length in range(1, len(parts) + 1):
        entry = tree.lookup(b"/".join(parts[:length]))
        if entry is not None and entry.kind is Kind.SYMLINK and tree.lookup(follow(tree, entry.path)) is None:
            link = "it" if entry.path == path else show(entry.path)
            return CopyError(
                f"{show(path)}: not found: {link} is a symbolic link to {show(entry.link)}, which is not in the source",
                hint="COPY follows a link that a source names; it copies the link itself with the directory that holds it",
            )
    hint = "it does not exist in the source, or an ignore file excludes it"
    if near := _similar(tree, path):
        hint = f"did you mean {show(near)}? {hint}"
    return CopyError(f"{show(path)}: not found", hint=hint)


def _similar(tree: FileTree, path: bytes) -> bytes | None:
    """The path beside one that does not exist whose name is nearest to its own; None if none is near."""
    parent, _, name = path.rpartition(b"/")
    try:
        directory = resolve(tree.lookup, parent)
    except LinkLoop:
        return None
    if not _is_directory(tree, directory):
        return None
    entries = islice(tree.readdir(directory), _COMPARED)
    known = {entry.path.rpartition(b"/")[2].decode("utf-8", "surrogateescape"): entry.path for entry in entries}
    near = suggest(name.decode("utf-8", "surrogateescape"), known)
    return None if near is None else known[near]


def _is_directory(tree: FileTree, path: bytes) -> bool:
    entry = tree.lookup(path)
    return entry is not None and entry.kind is Kind.DIRECTORY
