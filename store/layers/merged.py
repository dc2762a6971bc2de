"""Which entries of several layers are visible, all at once: what `View` answers for one path at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.toc import Entry, Kind, parent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Merged(NamedTuple):
    """The visible entries of layers, by path; each comes with the number of its layer. Parents come before what is in them.

    `hiding` are the paths that hide what layers below these have there: removed names, files, opaque directories.
    """

    entries: dict[bytes, tuple[int, Entry]]
    hiding: set[bytes]


def merged(layers: Sequence[Iterable[Entry]]) -> Merged:
    """Merge layers, the topmost first, by the rules of the OCI image-spec (layer.md). Each layer is sorted."""
    found: dict[bytes, tuple[int, Entry]] = {}
    hiding: set[bytes] = set()
    for number, layer in enumerate(layers):
        hidden: set[bytes] = set()  # directories of this layer of which nothing is visible
        closed: list[bytes] = []
        for entry in layer:
            path = entry.path
            if hiding and path:
                parent = parent_of(path)
                if parent in hidden or parent in hiding or path in hiding:
                    if entry.kind is Kind.DIRECTORY:
                        hidden.add(path)
                    continue
            if entry.kind is not Kind.DIRECTORY or entry.opaque:
                closed.append(path)
            if entry.kind is not Kind.WHITEOUT and path not in found:
                found[path] = number, entry
        hiding.update(closed)
        if b"" in hiding:  # an opaque root
            break
    return Merged(found, hiding)
