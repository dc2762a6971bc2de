"""What somebody else says a layer holds: a table of contents that was not made here from the layer's bytes.

Such a table can answer questions, for instance where a COPY puts its files. It never becomes a tree, and none of its
digests is trusted. It has to pass the rules that the members of a tar have to pass: `read_claimed_table` turns its rows into
members and reads these, so a row outside of the root, below a link, or with an attribute of overlayfs is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, UnsafePath
from pybuild.store.formats import tar, whiteout
from pybuild.store.formats.tar import Member
from pybuild.store.formats.toc import Kind, sort_key
from pybuild.store.layers.read import LayerEntries
from pybuild.store.layers.write import stored_xattrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.formats.toc import Entry, Toc
    from pybuild.store.layers.read import LowerLayers

_TYPES = {
    Kind.FILE: tar.REGULAR,
    Kind.DIRECTORY: tar.DIRECTORY,
    Kind.SYMLINK: tar.SYMLINK,
    Kind.CHAR: tar.CHAR,
    Kind.BLOCK: tar.BLOCK_DEVICE,
    Kind.FIFO: tar.FIFO,
}
_MODES = 0o7777
_DIGEST = 32  # bytes
_NO_ID = 0xFFFFFFFF  # (uid_t)-1 means "unchanged" to chown(2)
_NO_TIME = 10**18  # seconds: a PAX time has at most 18 digits
_DEVICE_BITS = 32  # of a device number: 12 and 20, the widths of Linux's dev_t


def read_claimed_table(table: Toc, below: LowerLayers) -> list[Entry]:
    """The sorted entries of a table that somebody else made, as a tar with these members would give them.

    Raises InvalidImage or UnsafePath.
    """
    table.check_layout()
    layer = LayerEntries(below)
    for row in table:
        for member in _members(row):
            entry = layer.entry_of(member)
            if entry is None or entry.path != row.path:
                raise InvalidImage(f"the row {tar.show(row.path)} would be at another place")
            layer.add(entry)
            if entry.kind is Kind.FILE and not entry.hardlink:
                if len(row.sha256) != _DIGEST:
                    raise InvalidImage(f"the row {tar.show(row.path)} has no digest")
                layer.add_digest(entry, row.sha256)
    return layer.entries()


def claimed_digest(entries: Iterable[Entry]) -> str:
    """The digest of what entries say that matters to steps above: all but times, and where content is in a tar.

    Of attributes only what a layer stores: the table of a COPY also has others, of the directories below.
    """
    hasher = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: sort_key(entry.path)):
        fields = [
            entry.path.hex(), int(entry.kind), entry.mode, entry.uid, entry.gid, entry.size, entry.link.hex(),
            entry.hardlink.hex(), entry.rdev, [[key.hex(), value.hex()] for key, value in stored_xattrs(entry)],
            entry.sha256.hex(), entry.opaque,
        ]  # fmt: skip
        hasher.update(json.dumps(fields).encode("ascii") + b"\n")
    return hasher.hexdigest()


def _members(row: Entry) -> Iterator[Member]:
    """The members of a tar that a row stands for."""
    if not 0 <= row.mode <= _MODES or not 0 <= row.size < 1 << 62:
        raise InvalidImage(f"the row {tar.show(row.path)} has a mode or a size that none can have")
    if max(row.uid, row.gid) >= _NO_ID or abs(row.mtime) >= _NO_TIME or row.rdev >> _DEVICE_BITS:
        raise InvalidImage(f"the row {tar.show(row.path)} has an owner, a time or a device number that none can have")
    if any(b"\0" in name for name in (row.path, row.link, row.hardlink)) or any(b"=" in key for key, _ in row.xattrs):
        raise UnsafePath(f"the row {tar.show(row.path)} has a name that no tar can hold")
    if any(one[0] >= other[0] for one, other in pairwise(row.xattrs)):
        raise InvalidImage(f"the row {tar.show(row.path)} has attributes twice, or out of order")
    if row.kind is Kind.WHITEOUT:
        yield _member(row, whiteout.marker(row.path), tar.REGULAR, b"")
        return
    if row.hardlink:
        yield _member(row, row.path, tar.HARDLINK, row.hardlink)
        return
    yield _member(row, row.path, _TYPES[row.kind], row.link)
    if row.opaque:
        yield _member(row, (row.path + b"/" if row.path else b"") + whiteout.OPAQUE, tar.REGULAR, b"")


def _member(row: Entry, name: bytes, kind: bytes, link: bytes) -> Member:
    major, minor = os.major(row.rdev), os.minor(row.rdev)
    return Member(
        name, kind, row.mode, row.uid, row.gid, row.size, row.mtime, link, major, minor, row.xattrs, -1,
    )  # fmt: skip
