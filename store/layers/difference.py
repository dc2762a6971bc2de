"""What differs between two root filesystems, or between a layer and what lies below it; read from tables of contents only.

Times do not count: every build gives files new ones. A hard link is compared as the file that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, sort_key

if TYPE_CHECKING:
    from pybuild.store.layers.view import View


class Change(Enum):
    """What became of a path."""

    ADDED = "A"
    CHANGED = "C"
    DELETED = "D"


class Difference(NamedTuple):
    """A path with its row before and after; None where it was, or is, not there."""

    path: bytes
    before: Entry | None
    after: Entry | None

    @property
    def change(self) -> Change:
        if self.before is None:
            return Change.ADDED
        return Change.DELETED if self.after is None else Change.CHANGED


def differences(before: View, after: View) -> Iterator[Difference]:
    """All paths that differ, in the order of their components; what a removed directory held is there too."""
    root, other_root = before.lookup(b""), after.lookup(b"")
    assert root is not None and other_root is not None
    if _look(root) != _look(other_root):
        yield Difference(b"", root, other_root)
    old, new = before.walk(b""), after.walk(b"")
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
            if _look(left) != _look(right):
                yield Difference(left.path, left, right)
            left, right = next(old, None), next(new, None)


def differences_at(
    paths: Iterable[bytes], before: Callable[[bytes], Entry | None], after: Callable[[bytes], Entry | None]
) -> Iterator[Difference]:
    """What differs at these paths, which are given in order, between what two lookups answer."""
    for path in paths:
        old, new = before(path), after(path)
        if (old and _look(old)) != (new and _look(new)):
            yield Difference(path, old, new)


def layer_differences(below: View, layer: Iterable[Entry]) -> Iterator[Difference]:
    """What a layer does to those below it; a directory that it only names is not worth a line."""
    for entry in layer:
        before = below.lookup(entry.path) if entry.path else None
        if entry.kind is Kind.WHITEOUT:
            if before is not None:
                yield Difference(entry.path, before, None)
        elif before is None or entry.kind is not Kind.DIRECTORY or _look(entry) != _look(before):
            yield Difference(entry.path, before, entry)


def _look(entry: Entry) -> tuple[object, ...]:
    """All of a row that counts."""
    return (
        entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.link, entry.rdev, entry.xattrs, entry.sha256,
    )  # fmt: skip
