"""The files of a page as columns: a node for each path, and under it a row for each thing that a layer does to it.

Nodes stand in the order of their paths, a directory before what is in it, so names and depths say where they are.
pybuild/pages/static/tree.js reads these columns; it and this module number kinds and changes alike.
"""

from __future__ import annotations

import os
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from pybuild.pages.texts import shown_name
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.overlaid import VISIBLE
from pybuild.store.layers.sizes import content_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.pages.columns import Columns
    from pybuild.store.layers.overlaid import Overlaid, Version

_HARDLINK, _CAPABILITY, _ATTRIBUTES, _SHARED = 1, 2, 4, 8  # flags; _SHARED: other names of its content are visible
_CHANGES = "ACD"  # added, changed, deleted
_CAPABILITY_NAME = b"security.capability"


class FileSums(NamedTuple):
    """What the rows add up to. Sizes are bytes of content, before compression; each content counts once."""

    content: list[int]  # by layer: of all its files
    hidden: list[int]  # by layer: of those that later layers hide
    visible: list[tuple[bytes, int]]  # the files of the image
    repeated: int  # bytes of files with the content of another one


class _Nodes:
    """Columns of nodes while they grow. A directory that has no row itself gets a node for what is in it."""

    def __init__(self) -> None:
        self._depths: list[int] = []  # 0: the root
        self._names: list[str] = []
        self._rows: list[int] = []  # their numbers
        self._last: list[bytes] = []  # the components of the last path

    def add(self, path: bytes, rows: int) -> None:
        """Add the next path, in the order of components."""
        parts = path.split(b"/") if path else []
        if len(parts) > 1 and parts[:-1] != self._last[: len(parts) - 1]:
            common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, self._last, strict=False)))
            for depth in range(common, len(parts) - 1):
                self._append(depth + 1, parts[depth], 0)
        self._append(len(parts), parts[-1] if parts else b"", rows)
        self._last = parts

    def _append(self, depth: int, name: bytes, rows: int) -> None:
        self._depths.append(depth)
        self._names.append(shown_name(name))
        self._rows.append(rows)

    def put(self, columns: Columns) -> None:
        columns.numbers("depth", self._depths)
        columns.texts("names", self._names)
        columns.numbers("rows", self._rows)


class _Rows:
    """Columns of rows while they grow."""

    def __init__(self) -> None:
        self.layers: list[int] = []
        self.changes: list[int] = []
        self.attributes: list[int] = []  # indexes of `kinds_of`
        self.sizes: list[int] = []
        self.times: list[int] = []
        self.hidden_by: list[int] = []  # layer + 1; 0: visible
        self.copies: list[int] = []  # equal numbers: equal content; 0: there is no other
        self.links: list[int] = []  # indexes of `texts`; 0: none
        self.known: dict[tuple[int, int, int, int, int], int] = {}  # kind, mode, uid, gid, flags -> number
        self.texts: dict[str, int] = {"": 0}

    def add(self, version: Version, flags: int) -> int:
        """Add a row; return its number."""
        entry = version.entry
        kind = mode = uid = gid = size = time = link = 0
        if entry is not None:
            kind, mode, uid, gid, time = int(entry.kind), entry.mode, entry.uid, entry.gid, entry.mtime
            size, flags = content_size(entry), flags | _flags(entry)
            if text := _link(entry):
                link = self.texts.setdefault(text, len(self.texts))
        self.layers.append(version.layer)
        self.changes.append(_CHANGES.index(version.change.value))
        self.attributes.append(self.known.setdefault((kind, mode, uid, gid, flags), len(self.known)))
        self.sizes.append(size)
        self.times.append(time)
        self.hidden_by.append(version.hidden_by + 1)
        self.copies.append(0)
        self.links.append(link)
        return len(self.sizes) - 1

    def put(self, columns: Columns) -> None:
        for name, values in (
            ("layer", self.layers), ("change", self.changes), ("attribute", self.attributes), ("size", self.sizes),
            ("time", self.times), ("hidden", self.hidden_by), ("copy", self.copies), ("link", self.links),
        ):  # fmt: skip
            columns.numbers(name, values)
        for at, name in enumerate(("kind", "mode", "uid", "gid", "flags")):
            columns.numbers(name, [attributes[at] for attributes in self.known])
        columns.texts("links", list(self.texts))


def put_files(columns: Columns, paths: Iterable[Overlaid], layers: int) -> FileSums:
    """Add the columns of all paths; `layers` is the number of layers. Raises InvalidImage if a table is damaged."""
    rows = _Rows()
    nodes = _Nodes()
    sums = FileSums([0] * layers, [0] * layers, [], 0)
    shared = _Shared()
    first: dict[bytes, int] = {}  # digest of a visible content -> its row
    copies = repeated = 0
    for path, versions in paths:
        nodes.add(path, len(versions))
        for version in versions:
            row = rows.add(version, 0)
            entry = version.entry
            if entry is None or entry.kind is not Kind.FILE:
                continue
            size = rows.sizes[row]
            sums.content[version.layer] += size
            shared.see(path, version, row)
            if version.hidden_by != VISIBLE:
                sums.hidden[version.layer] += size
            elif size:
                sums.visible.append((path, size))
                known = first.setdefault(entry.sha256, row) if entry.sha256 else row
                if known != row:
                    copies += not rows.copies[known]
                    rows.copies[known] = rows.copies[row] = rows.copies[known] or copies
                    repeated += size
    known_attributes = list(rows.known)
    for row in shared.rows():
        sums.hidden[rows.layers[row]] -= rows.sizes[row]
        kind, mode, uid, gid, flags = known_attributes[rows.attributes[row]]
        attributes = (kind, mode, uid, gid, flags | _SHARED)
        rows.attributes[row] = rows.known.setdefault(attributes, len(rows.known))
    nodes.put(columns)
    rows.put(columns)
    return sums._replace(repeated=repeated)


class _Shared:
    """Finds hidden files whose content is still there under another name: nothing is gained without them."""

    def __init__(self) -> None:
        self._hidden: dict[tuple[int, bytes], int] = {}  # layer and first name of a hidden file -> its row
        self._linked: set[tuple[int, bytes]] = set()  # files with another name that is visible

    def see(self, path: bytes, version: Version, row: int) -> None:
        assert version.entry is not None
        if version.entry.hardlink:
            if version.hidden_by == VISIBLE:
                self._linked.add((version.layer, version.entry.hardlink))
        elif version.hidden_by != VISIBLE:
            self._hidden[version.layer, path] = row

    def rows(self) -> list[int]:
        return [row for file, row in self._hidden.items() if file in self._linked]


def _flags(entry: Entry) -> int:
    flags = _HARDLINK if entry.hardlink else 0
    for name, _ in entry.xattrs:
        flags |= _CAPABILITY if name == _CAPABILITY_NAME else _ATTRIBUTES
    return flags


def _link(entry: Entry) -> str:
    """The target of a link, from the root for another name of a file; the numbers of a device."""
    if entry.hardlink:
        return shown_name(b"/" + entry.hardlink)
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        return f"{os.major(entry.rdev)}:{os.minor(entry.rdev)}"
    return shown_name(entry.link)
