"""The differences between two root filesystems, or between a layer and the layers below it, by tables of contents only.

Times are ignored, because every build gives files new ones. A hard link is compared like a separate file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, sort_key

if TYPE_CHECKING:
    from pybuild.store.layers.view import View


class Change(Enum):
    """What happened to a path. The values are docker diff's letters."""

    ADDED = "A"
    CHANGED = "C"
    DELETED = "D"


class Difference(NamedTuple):
    """A path with its entry before and after; None if it does not exist there."""

    path: bytes
    before: Entry | None
    after: Entry | None

    @property
    def change(self) -> Change:
        if self.before is None:
            return Change.ADDED
        return Change.DELETED if self.after is None else Change.CHANGED


def differences(before: View, after: View) -> Iterator[Difference]:
    """All paths that differ, in the order of their components, including those in a removed directory."""
    root, other_root = before.lookup(b""), after.lookup(b"")
    assert root is not None and other_root is not None
    if compared(root) != compared(other_root):
        yield Difference(b"", root, other_root)
    yield from differences_in_order(before.walk(b""), after.walk(b""))


def differences_in_order(old: Iterator[Entry], new: Iterator[Entry]) -> Iterator[Difference]:
    """The paths that differ between two sequences of entries, both in the order of `sort_key`, each path once."""
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and sort_key(left.path) < sort_key(right.path)):
            assert left is not None
            yield Difference(left.path, left, None)
            left = next(old, None)
        elif left is None or left.path != right.path:
            yield Difference(right.path, None, right)
            right = next(new, None)
        else:
            if compared(left) != compared(right):
                yield Difference(left.path, left, right)
            left, right = next(old, None), next(new, None)


def differences_at(
    paths: Iterable[bytes], before: Callable[[bytes], Entry | None], after: Callable[[bytes], Entry | None]
) -> Iterator[Difference]:
    """The differences at `paths`, in their order; each lookup returns the entry of a path, or None."""
    for path in paths:
        old, new = before(path), after(path)
        if (old and compared(old)) != (new and compared(new)):
            yield Difference(path, old, new)


def layer_differences(below: View, layer: Iterable[Entry]) -> Iterator[Difference]:
    """The differences that a layer makes, in order, except for directories that it contains only as parents.

    A directory that is removed is one difference. If a layer replaces a directory by a new one, that is a difference for
    each name that the new one lacks.
    """
    entries = list(layer)
    opaque = [entry.path for entry in entries if entry.opaque]
    if opaque:
        gone = _gone(below, {entry.path: entry for entry in entries}, opaque)
        yield from sorted([*_entry_differences(below, entries), *gone], key=lambda found: sort_key(found.path))
    else:
        yield from _entry_differences(below, entries)


def _entry_differences(below: View, entries: Iterable[Entry]) -> Iterator[Difference]:
    for entry in entries:
        before = below.lookup(entry.path) if entry.path else None
        if entry.kind is Kind.WHITEOUT:
            if before is not None:
                yield Difference(entry.path, before, None)
        elif before is None or entry.kind is not Kind.DIRECTORY or compared(entry) != compared(before):
            yield Difference(entry.path, before, entry)


def _gone(below: View, layer: dict[bytes, Entry], opaque: Iterable[bytes]) -> Iterator[Difference]:
    """What is below opaque directories and not in them any more. Each of them is looked at once."""
    pending = list(opaque)
    done: set[bytes] = set()
    while pending:
        directory = pending.pop()
        if directory in done:
            continue
        done.add(directory)
        for before in below.readdir(directory):
            after = layer.get(before.path)
            if after is None:
                yield Difference(before.path, before, None)
            elif before.kind is after.kind is Kind.DIRECTORY:
                pending.append(before.path)


def compared(entry: Entry) -> tuple[object, ...]:
    """The fields of an entry that are compared: those that make a difference."""
    return (
        entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.link, entry.rdev, entry.xattrs, entry.sha256,
    )  # fmt: skip
