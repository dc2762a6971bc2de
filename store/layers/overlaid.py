"""All that the layers of an image have of each path: in one pass over their tables of contents, in order.

`View` answers single questions; to ask it for half a million paths takes most of a minute. This pass takes seconds, and
its answers are the same: what `layer_differences` finds in each layer, and what `hidden_files` finds hidden.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of, sort_key
from pybuild.store.layers.difference import Change, compared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VISIBLE = -1  # of `hidden_by`: no later layer hides it


class Version(NamedTuple):
    """What one layer does to a path. Layers are numbered from 0, the lowest."""

    layer: int
    change: Change
    entry: Entry | None  # None: the layer deletes the path
    hidden_by: int = VISIBLE  # the layer that replaces or deletes it, or a directory that it is in


class Overlaid(NamedTuple):
    """A path and what the layers do to it, the lowest first. Directories that a layer has only as parents do not count."""

    path: bytes
    versions: list[Version]


class _Directory(NamedTuple):
    """What holds for everything in a directory."""

    path: bytes
    cuts: tuple[int, ...]  # layers that hide all that lower layers have here, in order
    opaque: frozenset[int]  # those of them that replace the directory by another one: what they lack is deleted


_OUTSIDE = _Directory(b"", (), frozenset())


def overlaid(tables: Sequence[Toc]) -> Iterator[Overlaid]:
    """Each path that a layer adds, changes or deletes. `tables`: of the layers, the lowest first. Raises InvalidImage."""
    rows = [(sort_key(entry.path), number, entry) for number, toc in enumerate(tables) for entry in toc]
    rows.sort(key=itemgetter(0, 1))  # several sorted runs: the sort only merges them
    above = [_OUTSIDE]
    for _, group in groupby(rows, key=itemgetter(0)):
        entries = [(number, entry) for _, number, entry in group]
        path = entries[0][1].path
        if path:
            parent = parent_of(path)
            while above[-1].path != parent:
                above.pop()
        versions, directory = _versions(entries, above[-1])
        if directory is not None:
            if path:
                above.append(directory)
            else:
                above[0] = directory
        if versions:
            yield Overlaid(path, versions)


def visible_entries(tables: Sequence[Toc]) -> Iterator[Entry]:
    """The root filesystem that the layers make, in order. `tables`: of the layers, the lowest first. Raises InvalidImage."""
    for each in overlaid(tables):
        last = each.versions[-1]
        if last.entry is not None and last.hidden_by == VISIBLE:
            yield last.entry


def _versions(entries: list[tuple[int, Entry]], parent: _Directory) -> tuple[list[Version], _Directory | None]:
    """What the layers do to the path of these entries, and what holds for its content; None if it has never any."""
    if len(entries) == 1 and not parent.cuts:  # nearly all paths of nearly all images
        return _only_version(*entries[0])
    versions: list[Version] = []
    present: Entry | None = None  # what is there up to this layer
    cuts = list(parent.cuts)
    opaque_here = set()
    for number, found in _with_cuts(entries, parent.cuts):
        before, entry = present, found
        if entry is None:  # the parent is cut, and the layer has nothing here
            if before is not None:
                versions[-1] = versions[-1]._replace(hidden_by=number)
                if number in parent.opaque:
                    versions.append(Version(number, Change.DELETED, None))
            present = None
            continue
        was_directory = before is not None and before.kind is Kind.DIRECTORY
        if entry.kind is Kind.WHITEOUT:
            if before is not None:
                versions[-1] = versions[-1]._replace(hidden_by=number)
                versions.append(Version(number, Change.DELETED, None))
            present = None
        else:
            if before is None:
                versions.append(Version(number, Change.ADDED, entry))
            elif entry.kind is not Kind.DIRECTORY or compared(entry) != compared(before):
                versions[-1] = versions[-1]._replace(hidden_by=number)
                versions.append(Version(number, Change.CHANGED, entry))
            present = entry
            if entry.opaque or (entry.kind is Kind.DIRECTORY and number in parent.opaque):
                opaque_here.add(number)
        if (was_directory and (entry.kind is not Kind.DIRECTORY)) or number in opaque_here:
            cuts.append(number)
    if all(entry.kind is not Kind.DIRECTORY for _, entry in entries):
        return versions, None
    return versions, _Directory(entries[0][1].path, tuple(sorted(set(cuts))), frozenset(opaque_here))


def _only_version(number: int, entry: Entry) -> tuple[list[Version], _Directory | None]:
    """The same for the only entry of a path, in a directory that no layer hides."""
    if entry.kind is Kind.WHITEOUT:
        return [], None
    opaque = (number,) if entry.opaque else ()
    inside = _Directory(entry.path, opaque, frozenset(opaque)) if entry.kind is Kind.DIRECTORY else None
    return [Version(number, Change.ADDED, entry)], inside


def _with_cuts(entries: list[tuple[int, Entry]], cuts: Iterable[int]) -> list[tuple[int, Entry | None]]:
    """The entries, and None for each cut at which there is none, in the order of the layers."""
    found: dict[int, Entry | None] = {**dict.fromkeys(cuts), **dict(entries)}
    return sorted(found.items(), key=itemgetter(0))
