"""Of the entries that a COPY plans: which ones its layer has to hold, and what its key is made of."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from pybuild.builder.files.copy import PlannedEntry
from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.layers.write import same_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pybuild.store.layers.view import View


def content_lines(
    planned: Iterable[PlannedEntry], digests: Mapping[bytes, bytes] = MappingProxyType({})
) -> Iterator[bytes]:
    """What the key of a COPY is made of: everything of the entries but their times and places in a tar.

    `digests` has those content digests, by path, that entries lack. A line is JSON, made without its encoder, which takes three
    times as long: digits and hexadecimal need no escapes.
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
    """The digest of every file's content, by path: as a layer was `written` with it, or as it is known, or read."""
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
    """The same with these digests in the entries of files, or with those that `digests_of` finds."""
    found = digests_of(planned) if digests is None else digests
    return [
        item._replace(entry=item.entry.with_content(found[item.entry.path])) if item.entry.path in found else item
        for item in planned
    ]


def changed(planned: list[PlannedEntry], below: View) -> list[PlannedEntry]:
    """What of the plan a layer has to hold: rows that differ from those below, and the directories above them.

    Content is compared, and so read, only where all else is equal.
    """
    kept: dict[bytes, PlannedEntry] = {}
    for item in planned:
        if not _same(item, below.lookup(item.entry.path)):
            kept[item.entry.path] = item
    directories = {item.entry.path: item for item in planned if item.entry.kind is Kind.DIRECTORY}
    for path in list(kept):
        while (path := parent_of(path)) and path not in kept:
            above = directories.get(path)
            entry = above.entry if above is not None else below.lookup(path)
            assert entry is not None, path
            kept[path] = PlannedEntry(entry._replace(opaque=False), None, None)
    return _relinked(sorted(kept.values(), key=lambda item: sort_key(item.entry.path)))


def _relinked(items: list[PlannedEntry]) -> list[PlannedEntry]:
    """Where the first name of a file was dropped, the next one becomes the file."""
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
