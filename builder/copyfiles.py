"""COPY, decided: which entries appear in the image, from which files of the source.

Pure in what it decides: it asks a FileTree for rows and a View for what lies at the destination, and returns planned
entries. The rules are those of BuildKit's file copier, with its documented behaviour where code and documentation
disagree; each is named where it is applied.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import CopyError
from parser import has_wildcard, match_pattern
from store.layers import KEPT_XATTR
from store.tarformat import show
from store.toc import Entry, Kind, parent_of, sort_key
from store.view import LinkLoop, resolve
from store.whiteout import refuse_reserved

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from builder.filetree import FileTree
    from store.view import View


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY with all its text expanded."""

    sources: tuple[str, ...]  # paths or patterns, relative to the root of the source tree
    dest: str  # absolute; a trailing slash says that it is a directory
    owner: tuple[int, int] | None  # --chown: uid and gid; None keeps those of the source
    mode: int | None  # --chmod


class Planned(NamedTuple):
    """An entry of the image, and the row of the source that it comes from (None for a directory made on the way)."""

    entry: Entry
    source: Entry | None


def plan_copy(request: CopyRequest, tree: FileTree, below: View) -> list[Planned]:
    """All entries that the COPY puts into the image, sorted; those that lie there already are still among them.

    Raises CopyError where source and destination do not fit, UnsafePath for names that no layer can hold.
    """
    plan = _Plan(request, tree, below)
    matches = [match for source in request.sources for match in _matches(source, tree)]
    if plan.many_onto_one_file(matches):
        raise CopyError(
            f"several files cannot be copied onto {request.dest}, which is no directory",
            hint="end the destination with a slash to make it one",
        )
    for path in matches:
        plan.copy(path)
    return plan.entries()


def content_fields(planned: Iterable[Planned]) -> Iterator[tuple[object, ...]]:
    """What the key of a COPY is made of: everything of the entries but their times and places in a tar.

    The content digests must be known.
    """
    for entry, _ in planned:
        yield (
            entry.path, int(entry.kind), entry.mode, entry.uid, entry.gid, entry.size, entry.link, entry.hardlink, entry.rdev,
            entry.xattrs, entry.sha256,
        )  # fmt: skip


def with_digests(planned: Iterable[Planned], tree: FileTree) -> list[Planned]:
    """Read every file and fill in the digest of its content."""
    known: dict[bytes, bytes] = {}
    result = []
    for entry, source in planned:
        if entry.kind is Kind.FILE and source is not None and not entry.sha256:
            if entry.hardlink:
                entry = entry._replace(sha256=known[entry.hardlink])
            else:
                entry = entry._replace(sha256=source.sha256 or _digest(tree, source))
        known[entry.path] = entry.sha256
        result.append(Planned(entry, source))
    return result


def changed(planned: list[Planned], tree: FileTree, below: View) -> list[Planned]:
    """What of the plan a layer has to hold: rows that differ from those below, and the directories above them.

    Content is compared, and so read, only where all else is equal.
    """
    kept: dict[bytes, Planned] = {}
    for item in planned:
        if not _same(item, below.lookup(item.entry.path), tree):
            kept[item.entry.path] = item
    directories = {item.entry.path: item for item in planned if item.entry.kind is Kind.DIRECTORY}
    for path in list(kept):
        while (path := parent_of(path)) and path not in kept:
            above = directories.get(path)
            entry = above.entry if above is not None else below.lookup(path)
            assert entry is not None, path
            kept[path] = Planned(entry._replace(opaque=False), None)
    return _relinked(sorted(kept.values(), key=lambda item: sort_key(item.entry.path)))


def _relinked(items: list[Planned]) -> list[Planned]:
    """Where the first name of a file was dropped, the next one becomes the file."""
    names: dict[bytes, bytes] = {}
    result = []
    for entry, source in items:
        if entry.hardlink:
            first = names.setdefault(entry.hardlink, entry.path)
            entry = entry._replace(hardlink=b"" if first == entry.path else first)
        else:
            names[entry.path] = entry.path
        result.append(Planned(entry, source))
    return result


def _same(item: Planned, before: Entry | None, tree: FileTree) -> bool:
    entry = item.entry
    if before is None or before.kind is not entry.kind:
        return False
    kept = tuple(pair for pair in before.xattrs if pair[0] == KEPT_XATTR)
    if (entry.uid, entry.gid, entry.xattrs) != (before.uid, before.gid, kept):
        return False
    match entry.kind:
        case Kind.DIRECTORY:
            return entry.mode == before.mode
        case Kind.SYMLINK:
            return (entry.mtime, entry.link) == (before.mtime, before.link)
        case _:
            if (entry.mode, entry.mtime, entry.size, entry.rdev) != (
                before.mode,
                before.mtime,
                before.size,
                before.rdev,
            ):
                return False
    if entry.kind is not Kind.FILE or not entry.size:
        return True
    assert item.source is not None
    return (entry.sha256 or item.source.sha256 or _digest(tree, item.source)) == before.sha256


def _digest(tree: FileTree, source: Entry) -> bytes:
    hasher = hashlib.sha256()
    for chunk in tree.chunks(source) if source.size else ():
        hasher.update(chunk)
    return hasher.digest()


def _matches(source: str, tree: FileTree) -> Iterator[bytes]:
    """The paths that a source stands for, in order. A pattern may match nothing, a plain path must exist.

    What stands before the first wildcard is a plain path, whose links are followed; a link that a pattern matches is one
    only at the end.
    """
    clean: list[bytes] = []
    for part in source.encode("utf-8", "surrogateescape").split(b"/"):
        if part == b"..":
            del clean[-1:]
        elif part not in (b"", b"."):
            clean.append(part)
    patterns = [part.decode("utf-8", "surrogateescape") for part in clean]
    plain = next((position for position, text in enumerate(patterns) if has_wildcard(text)), None)
    if plain is None:
        yield b"/".join(clean)
        return
    start = _resolve(tree, b"/".join(clean[:plain]))
    if tree.lookup(start) is None:
        raise _not_found(b"/".join(clean[:plain]))
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


def _resolve(tree: FileTree, path: bytes) -> bytes:
    try:
        return resolve(tree.lookup, path)
    except LinkLoop:
        raise CopyError(f"{show(path)}: too many levels of symbolic links") from None


def _not_found(path: bytes) -> CopyError:
    return CopyError(f"{show(path)}: not found", hint="it does not exist in the source, or an ignore file excludes it")


def _is_directory(tree: FileTree, path: bytes) -> bool:
    entry = tree.lookup(path)
    return entry is not None and entry.kind is Kind.DIRECTORY


class _Plan:
    """The entries decided so far."""

    def __init__(self, request: CopyRequest, tree: FileTree, below: View) -> None:
        self._request = request
        self._tree = tree
        self._below = below
        self._found: dict[bytes, Planned] = {}
        self._files: dict[bytes, Hashable] = {}  # target -> what all names of its source file have in common
        dest = request.dest.encode("utf-8", "surrogateescape")
        self._wants_directory = dest.endswith(b"/") or dest.rpartition(b"/")[2] in (b".", b"..")
        self._dest = self._resolve_dest(dest)

    def many_onto_one_file(self, matches: list[bytes]) -> bool:
        """Whether more than one file would land on one name: an error here, last-wins in BuildKit."""
        at = self._lookup(self._dest)
        if self._wants_directory or (at is not None and at.kind is Kind.DIRECTORY):
            return False
        return sum(self._source(path).kind is not Kind.DIRECTORY for path in matches) > 1

    def copy(self, path: bytes) -> None:
        """One source."""
        source = self._source(path)
        at = self._lookup(self._dest)
        if source.kind is Kind.DIRECTORY:
            self._copy_contents(source, at)
            return
        target = self._dest
        if self._wants_directory or (at is not None and at.kind is Kind.DIRECTORY):
            name = path.rpartition(b"/")[2] or source.path.rpartition(b"/")[2]
            target = target + b"/" + name if target else name
        self._make_parents(target, source.mtime)
        self._put(target, source)

    def entries(self) -> list[Planned]:
        """All of it, sorted; of several names of one file the first is the file, the others are links to it."""
        first: dict[Hashable, bytes] = {}
        result = []
        for entry, source in sorted(self._found.values(), key=lambda item: sort_key(item.entry.path)):
            identity = self._files.get(entry.path)
            if identity is not None:
                name = first.setdefault(identity, entry.path)
                entry = entry._replace(hardlink=name if name != entry.path else b"")
            result.append(Planned(entry, source))
        return result

    def _source(self, path: bytes) -> Entry:
        """The row of a source; a link that is named directly is followed, inside the source's root."""
        entry = self._tree.lookup(_resolve(self._tree, path))
        if entry is None:
            raise _not_found(path)
        return entry

    def _resolve_dest(self, dest: bytes) -> bytes:
        """The destination with the image's links followed: all but the last name, and that one if it is a directory."""
        try:
            resolved = self._below.resolve(dest)
            at = self._below.lookup(resolved)
            if self._wants_directory or (at is not None and at.kind is Kind.DIRECTORY):
                return resolved
            return self._below.resolve(dest, follow_last=False)
        except LinkLoop:
            raise CopyError(f"{self._request.dest}: too many levels of symbolic links in the image") from None

    def _lookup(self, path: bytes) -> Entry | None:
        planned = self._found.get(path)
        return planned.entry if planned is not None else self._below.lookup(path)

    def _owner(self, source: Entry | None) -> tuple[int, int]:
        if self._request.owner is not None:
            return self._request.owner
        return (source.uid, source.gid) if source is not None else (0, 0)

    def _make_parents(self, path: bytes, mtime: int) -> None:
        """The directories above a target: 0755, of root or of --chown. Their time is the source's, for want of a better."""
        missing = []
        while path := parent_of(path):
            entry = self._lookup(path)
            if entry is not None and entry.kind is Kind.DIRECTORY:
                break
            if entry is not None:
                raise CopyError(f"cannot copy to non-directory: {show(b'/' + path)}")
            missing.append(path)
        for directory in reversed(missing):
            refuse_reserved(directory)
            uid, gid = self._owner(None)
            self._found[directory] = Planned(Entry(directory, Kind.DIRECTORY, 0o755, uid, gid, mtime), None)

    def _copy_contents(self, source: Entry, at: Entry | None) -> None:
        """A directory gives its contents, never itself. A destination that exists keeps its mode and owner."""
        target = self._dest
        if at is None:
            self._make_parents(target, source.mtime)
            refuse_reserved(target)
            uid, gid = self._owner(None)
            mode = 0o755 if self._request.mode is None else self._request.mode
            self._found[target] = Planned(Entry(target, Kind.DIRECTORY, mode, uid, gid, source.mtime), None)
        elif at.kind is not Kind.DIRECTORY:
            raise CopyError(f"cannot copy to non-directory: {show(b'/' + target)}")
        pending = [(source.path, target)]
        while pending:
            directory, into = pending.pop()
            for entry in self._tree.readdir(directory):
                name = entry.path.rpartition(b"/")[2]
                here = into + b"/" + name if into else name
                self._put(here, entry)
                if entry.kind is Kind.DIRECTORY:
                    pending.append((entry.path, here))

    def _put(self, target: bytes, source: Entry) -> None:
        """One row of the source at one place of the image."""
        refuse_reserved(target)
        at = self._lookup(target)
        if at is not None and source.kind is Kind.DIRECTORY and at.kind is not Kind.DIRECTORY:
            raise CopyError(f"cannot copy to non-directory: {show(b'/' + target)}")
        if at is not None and source.kind is not Kind.DIRECTORY and at.kind is Kind.DIRECTORY:
            raise CopyError(f"cannot replace the directory {show(b'/' + target)} with a file")
        if source.kind in (Kind.CHAR, Kind.BLOCK) and not self._tree.gives_devices:
            raise CopyError(f"{show(source.path)} is a device, which a context cannot give")
        uid, gid = self._owner(source)
        mode = source.mode
        if self._request.mode is not None and source.kind is not Kind.SYMLINK:
            mode = self._request.mode
        self._files.pop(target, None)
        if source.kind is not Kind.DIRECTORY and (identity := self._tree.identity(source)) is not None:
            self._files[target] = identity
        xattrs = tuple(pair for pair in source.xattrs if pair[0] == KEPT_XATTR)
        self._found[target] = Planned(
            Entry(
                target, source.kind, mode, uid, gid, source.mtime, source.size, source.link, b"", source.rdev, xattrs,
                source.sha256,
            ),
            source,
        )  # fmt: skip
