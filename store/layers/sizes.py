"""How many bytes the differences of a layer, or of two images, make up: sorted, and summed by directory.

A size is that of a file's content in bytes, as its layer holds it before compression. Each content counts once: of a
group of hard links the first name has the size, and the others have 0. So sizes can be added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, sort_key
from pybuild.store.layers.difference import Change

if TYPE_CHECKING:
    from pybuild.store.layers.difference import Difference


class ListedChange(NamedTuple):
    """A line of a listing: a path, or all that is below a directory. Sizes are in bytes."""

    path: bytes  # relative to the root; a sum ends in b"/", that of the root is b"/"
    change: Change  # of a sum: that of all its paths, or CHANGED
    size: int  # what there is afterwards
    growth: int  # how much more that is than before
    hides: int  # of lower layers, which this change makes useless
    paths: int  # how many this line stands for
    difference: Difference | None  # None for a sum


def content_size(entry: Entry | None) -> int:
    """The bytes that a layer holds for an entry; 0 for another name of a file, and for what is not a file."""
    return entry.size if entry is not None and entry.kind is Kind.FILE and not entry.hardlink else 0


def listed(differences: Iterable[Difference]) -> list[ListedChange]:
    """A line for each difference of two images."""
    lines = []
    for found in differences:
        size = content_size(found.after)
        growth = size - content_size(found.before)
        lines.append(ListedChange(found.path, found.change, size, growth, 0, 1, found))
    return lines


def listed_in_layer(differences: Iterable[Difference], hides: Mapping[bytes, int]) -> list[ListedChange]:
    """A line for each difference that a layer makes. `hides`: path -> the bytes of lower layers that it hides there."""
    lines = []
    for found in differences:
        size, hidden = content_size(found.after), hides.get(found.path, 0)
        lines.append(ListedChange(found.path, found.change, size, size - hidden, hidden, 1, found))
    return lines


def by_directory(lines: Iterable[ListedChange], depth: int) -> list[ListedChange]:
    """The lines with at most `depth` components; all that is deeper is added to its directory of that depth."""
    sums: dict[bytes, ListedChange] = {}
    for line in lines:
        path = shortened(line.path, depth)
        known = sums.get(path.rstrip(b"/"))
        if known is None:
            sums[path.rstrip(b"/")] = line if path == line.path else line._replace(path=path, difference=None)
            continue
        sums[path.rstrip(b"/")] = ListedChange(
            path if path.endswith(b"/") else known.path,
            known.change if known.change is line.change else Change.CHANGED,
            known.size + line.size,
            known.growth + line.growth,
            known.hides + line.hides,
            known.paths + line.paths,
            None,
        )
    return list(sums.values())


def shortened(path: bytes, depth: int) -> bytes:
    """The path if it has at most `depth` components, else the directory of that depth that it is in, with b"/"."""
    parts = path.split(b"/", depth)
    return path if len(parts) <= depth or not path else b"/".join(parts[:depth]) + b"/"


def by_path(line: ListedChange) -> tuple[int, bytes]:
    """The key that sorts lines by the components of their paths."""
    return 0, sort_key(line.path)


def largest_in_layer(line: ListedChange) -> tuple[int, bytes]:
    """The key that sorts the lines of a layer: those with most bytes, of its own or hidden ones, come first."""
    return -max(line.size, line.hides), sort_key(line.path)


def largest_growth(line: ListedChange) -> tuple[int, bytes]:
    """The key that sorts the differences of two images: those with most bytes more or less come first."""
    return -abs(line.growth), sort_key(line.path)
