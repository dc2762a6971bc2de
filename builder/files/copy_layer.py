"""The layer and the content key of a COPY, from its planned entries."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from pybuild.builder.files.copy import PlannedEntry
from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.layers.write import same_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pybuild.store.formats.toc import Links
    from pybuild.store.layers.view import View


def content_lines(
    planned: Iterable[PlannedEntry], digests: Mapping[bytes, bytes] = MappingProxyType({})
) -> Iterator[bytes]:
    """The text of the content key, one line for each entry: all of its fields except mtime and offset in the tar.

    `digests` has the content digests, by path, that entries lack. Each line is JSON, formatted here because the json
    module takes three times as long; digits and hexadecimal need no escapes.
    """
    for entry, _, _ in planned:
        path, kind, mode, uid, gid, _, size, link, hardlink, rdev, attributes, sha256, _, _ = entry
        xattrs = ",".join(f'["{key.hex()}","{value.hex()}"]' for key, value in attributes) if attributes else ""
        line = (
            f'["{path.hex()}",{int(kind)},{mode},{uid},{gid},{size},'
            f'"{link.hex()}","{hardlink.hex()}",{rdev},[{xattrs}],"{(digests.get(path) or sha256).hex()}"]\n'
        )
        yield line.encode("ascii")


def digests_of(
    planned: Iterable[PlannedEntry], written: Mapping[bytes, bytes] = MappingProxyType({})
) -> dict[bytes, bytes]:
    """Path -> sha256 of the content, for all files. Reads those with a digest neither in `written` nor in their entry."""
    found: dict[bytes, bytes] = {}
    for item in planned:
        entry = item.entry
        sha256 = written.get(entry.path) or entry.sha256
        if not sha256 and item.source is not None and entry.kind is Kind.FILE:
            sha256 = found[entry.hardlink] if entry.hardlink else _digest(item)
        if sha256:
            found[entry.path] = sha256
    return found


def with_digests(planned: list[PlannedEntry], digests: Mapping[bytes, bytes] | None = None) -> list[PlannedEntry]:
    """The entries with these digests. Without `digests`, `digests_of` finds them."""
    found = digests_of(planned) if digests is None else digests
    return [
        item._replace(entry=item.entry.with_content(found[item.entry.path])) if item.entry.path in found else item
        for item in planned
    ]


def changed(planned: list[PlannedEntry], below: View) -> list[PlannedEntry]:
    """The entries that the layer must hold: those that differ from the layers below, and their parent directories.

    Content is read and compared only if all other fields are equal.
    """
    needed: dict[bytes, PlannedEntry] = {}
    for item in planned:
        if not _same(item, below.lookup(item.entry.path)):
            needed[item.entry.path] = item
    directories = {item.entry.path: item for item in planned if item.entry.kind is Kind.DIRECTORY}
    for path in list(needed):
        while (path := parent_of(path)) and path not in needed:
            above = directories.get(path)
            entry = above.entry if above is not None else below.lookup(path)
            assert entry is not None, path
            needed[path] = PlannedEntry(entry._replace(opaque=False), None, None)
    return _relinked(sorted(needed.values(), key=lambda item: sort_key(item.entry.path)))


def links_across(planned: Iterable[PlannedEntry], held: Iterable[PlannedEntry]) -> Links:
    """The hard links that the layer of a COPY does not hold: of each file, the names that `changed` dropped and another."""
    names: dict[bytes, list[bytes]] = {}
    for entry, _, _ in planned:
        if entry.hardlink:
            names.setdefault(entry.hardlink, [entry.hardlink]).append(entry.path)
    if not names:
        return ()
    in_layer = {item.entry.path for item in held}
    groups = []
    for group in names.values():
        first = next((path for path in group if path in in_layer), None)
        links = tuple(path for path in group if path == first or path not in in_layer)
        if len(links) > 1:
            groups.append(links)
    return tuple(groups)


def _relinked(items: list[PlannedEntry]) -> list[PlannedEntry]:
    """If the first name of a file is not in the layer, its next name becomes the file."""
    names: dict[bytes, bytes] = {}
    result = []
    for item in items:
        entry = item.entry
        if entry.hardlink:
            first = names.setdefault(entry.hardlink, entry.path)
            item = item._replace(entry=entry._replace(hardlink=b"" if first == entry.path else first))
        else:
            names[entry.path] = entry.path
        result.append(item)
    return result


def _same(item: PlannedEntry, before: Entry | None) -> bool:
    entry = item.entry
    if before is None or not same_metadata(entry, before):
        return False
    if entry.kind is not Kind.FILE or not entry.size:
        return True
    return (entry.sha256 or _digest(item)) == before.sha256


def _digest(item: PlannedEntry) -> bytes:
    """The sha256 of the content of a planned file."""
    source, tree = item.source, item.tree
    assert source is not None and tree is not None, item.entry.path
    if source.sha256:
        return source.sha256
    hasher = hashlib.sha256()
    for chunk in tree.chunks(source) if source.size else ():
        hasher.update(chunk)
    return hasher.digest()
