"""What an image carries for nothing: bytes that a later layer overwrites or deletes, and files that are there twice.

Tables of contents are all that this reads. A hidden file counts if no name of it is visible any more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of
from pybuild.store.layers.difference import layer_differences
from pybuild.store.layers.sizes import content_size, listed_in_layer
from pybuild.store.layers.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.store.layers.sizes import ListedChange


class HiddenFile(NamedTuple):
    """A file of a layer that a later layer hides. Layers are numbered from 0, the lowest."""

    path: bytes
    size: int  # bytes; 0 as long as other names of the file are visible
    layer: int  # that has the file
    hidden_by: int  # the layer that hides it
    cause: bytes  # the path that this layer changes or removes: `path`, or a directory that it is in
    deleted: bool  # whether the path is gone there, or else another file


class LayerChanges(NamedTuple):
    """The changes of one layer, in the order of their paths, and the bytes of its files."""

    lines: list[ListedChange]
    content: int  # of all its files
    hidden: int  # of those that later layers hide


class RepeatedFile(NamedTuple):
    """A file of the image with the content of another one."""

    path: bytes
    size: int  # bytes
    same_as: bytes  # the first path, in order, with this content


def hidden_files(tables: Sequence[Toc]) -> Iterator[HiddenFile]:
    """What the layers of an image hide of each other, layer by layer. `tables`: of its layers, the lowest first."""
    for toc in tables:
        toc.index_paths()
    numbers = {id(toc): number for number, toc in enumerate(tables)}
    names = [_names(toc) for toc in tables]
    for number, toc in enumerate(tables):
        if not number:
            continue
        below = View(tables[:number][::-1])
        causes: dict[bytes, bytes] = {}
        seen: set[bytes] = set()
        for path in _hidden_paths(toc, below):
            located = below.locate(path)
            if located is None or path in seen:
                continue
            seen.add(path)
            layer, hidden = numbers[id(located[0])], located[1]
            after = toc.find(path)
            deleted = after is None or after.kind is Kind.WHITEOUT
            size = _size_if_last(hidden, names[layer])
            yield HiddenFile(path, size, layer, number, _cause(path, toc, causes), deleted)


def _cause(path: bytes, toc: Toc, known: dict[bytes, bytes]) -> bytes:
    """The path, or the topmost directory that it is in and that is not one any more. `known`: those of directories."""
    climbed = [path]
    while (above := parent_of(climbed[-1])) and above not in known:
        entry = toc.find(above)
        if entry is not None and entry.kind is Kind.DIRECTORY:
            known[above] = b""  # it is still a directory
            break
        climbed.append(above)
    cause = known.get(above, b"") or climbed[-1]
    for directory in climbed[1:]:
        known[directory] = cause
    return cause


def _hidden_paths(toc: Toc, below: View) -> Iterator[bytes]:
    """The files of the layers below that a layer hides; some can come twice."""
    walked: bytes | None = None  # the last directory whose old content came, with a slash
    for entry in toc:
        if walked is not None and entry.path.startswith(walked):
            continue
        before = below.lookup(entry.path)
        if before is None:
            continue
        if before.kind is Kind.FILE:
            yield entry.path
        elif before.kind is Kind.DIRECTORY and (entry.kind is not Kind.DIRECTORY or entry.opaque):
            yield from (found.path for found in below.walk(entry.path) if found.kind is Kind.FILE)
            walked = entry.path + b"/" if entry.path else b""


def _names(toc: Toc) -> dict[bytes, tuple[int, int]]:
    """The groups of hard links of a layer: first name -> the number of names, and the bytes of the file."""
    groups: dict[bytes, tuple[int, int]] = {}
    for entry in toc:
        if entry.hardlink:
            count, _ = groups.get(entry.hardlink, (1, 0))
            groups[entry.hardlink] = (count + 1, entry.size)
    return groups


def _size_if_last(hidden: Entry, groups: dict[bytes, tuple[int, int]]) -> int:
    """The bytes that become useless with this name of a file: all of them if it was the last one, else 0."""
    first = hidden.hardlink or hidden.path
    if first not in groups:
        return content_size(hidden)
    count, size = groups[first]
    groups[first] = (count - 1, size)
    return 0 if count > 1 else size


def repeated_files(view: View) -> Iterator[RepeatedFile]:
    """The files of a root filesystem that have the content of an earlier one, and are not the same file."""
    first: dict[bytes, bytes] = {}
    for entry in view.walk(b""):
        if content_size(entry) and entry.sha256:
            same_as = first.setdefault(entry.sha256, entry.path)
            if same_as != entry.path:
                yield RepeatedFile(entry.path, entry.size, same_as)


def layer_changes(tables: Sequence[Toc]) -> Iterator[LayerChanges]:
    """What each layer changes, the lowest first."""
    hides: defaultdict[int, defaultdict[bytes, int]] = defaultdict(lambda: defaultdict(int))
    hidden: defaultdict[int, int] = defaultdict(int)
    for found in hidden_files(tables):
        hides[found.hidden_by][found.cause] += found.size
        hidden[found.layer] += found.size
    for number, toc in enumerate(tables):
        lines = listed_in_layer(layer_differences(View(tables[:number][::-1]), toc), hides[number])
        yield LayerChanges(lines, sum(content_size(entry) for entry in toc), hidden[number])
