"""A layer's tar, or any other -> its table of contents -> a tree.

`read_layer` turns the members of a tar into entries that are safe by construction: relative paths without "..", every
parent present and a directory, links resolved, one entry a path. `make_tree` then makes exactly these entries, and so
never meets a name that came out of the archive unchecked.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import InvalidImage, UnsafePath
from pybuild.store.formats import tar, whiteout
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import MAX_PATH, Entry, Kind, parent_of, sort_key
from pybuild.store.layers.view import ROOT, LinkLoop, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.formats.tar import Member
    from pybuild.store.system.streams import Readable

MAX_ENTRIES = 5_000_000
MAX_DEPTH = 4096  # components of one path
_MAX_NAME = 255  # bytes of one component, NAME_MAX of every file system of Linux
_MAX_LINK = 4095  # bytes of a symbolic link's target, which symlink(2) takes
_MAX_XATTR = 65_536  # bytes of an attribute's value, XATTR_SIZE_MAX
_MAX_IMPLIED = 64 << 20  # bytes of all paths that the archive implies and does not spend a header on

_KINDS = {
    tar.REGULAR: Kind.FILE,
    tar.DIRECTORY: Kind.DIRECTORY,
    tar.SYMLINK: Kind.SYMLINK,
    tar.CHAR: Kind.CHAR,
    tar.BLOCK_DEVICE: Kind.BLOCK,
    tar.FIFO: Kind.FIFO,
}


def clean_path(name: bytes) -> bytes:
    """The path of a member, relative and without "." and "//"; raises UnsafePath where it would leave the root."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UnsafePath(f"entry {show(name)}: leaves the root", hint="the layer is damaged or hostile")
    if len(name) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise UnsafePath(f"entry {show(name)}: longer than {MAX_PATH} bytes or {MAX_DEPTH} components")
    if parts and len(max(parts, key=len)) > _MAX_NAME:
        raise UnsafePath(f"entry {show(name)}: a component of more than {_MAX_NAME} bytes")
    return b"/".join(parts)


class LowerLayers(Protocol):
    """What a tar is put on."""

    def lookup(self, path: bytes) -> Entry | None:
        """The row at a path, no link followed; None where there is nothing."""
        ...


def read_layer(stream: Readable, below: LowerLayers) -> list[Entry]:
    """Read a whole tar and return its entries, sorted. `below` is what the lower layers make.

    Content is hashed on the way. Parents that the tar leaves out are taken from `below`; where a parent is a symbolic
    link there, the entry goes where the link leads, inside the root. Raises InvalidImage or UnsafePath.
    """
    return _read(stream, _LayerReader(below))


def read_archive(stream: Readable, below: LowerLayers, owner: tuple[int, int] | None) -> list[Entry]:
    """As `read_layer`, for a tar that is unpacked onto `below` as tar(1) would: it removes nothing by its names.

    A directory where there is a link to one goes where the link leads. Members belong to `owner` if there is one;
    directories that the tar leaves out do not.
    """
    return _read(stream, _ArchiveReader(below, owner))


def _read(stream: Readable, layer: _LayerReader) -> list[Entry]:
    reader = tar.TarReader(stream)
    for member in reader:
        entry = layer.place(member)
        if entry.kind is Kind.FILE and not entry.hardlink:
            hasher = hashlib.sha256()
            for chunk in reader.data():
                hasher.update(chunk)
            entry = entry._replace(sha256=hasher.digest())
        layer.add(entry)
    return layer.entries()


class _LayerReader:
    """The entries of one layer so far. Whiteouts are kept apart: an entry of the same layer always survives them."""

    def __init__(self, below: LowerLayers) -> None:
        self._below = below
        self._found: dict[bytes, Entry] = {}
        self._removed: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._implied = 0
        self._inside_of: dict[bytes, set[bytes]] | None = None  # directory -> what was put into it, once asked for

    def place(self, member: Member) -> Entry:
        """The entry that a member means."""
        path = clean_path(member.name)
        kind = Kind.FILE if member.type == tar.HARDLINK else _KINDS[member.type]
        if not path:
            if kind is not Kind.DIRECTORY or member.type == tar.HARDLINK:
                raise UnsafePath(f"entry {show(member.name)}: may not change the type of the root")
        else:
            path = self._inside(path, member.name)
        if whiteout.PREFIX in path:
            for part in path.split(b"/")[:-1]:
                whiteout.refuse_reserved(part)
        name = path.rpartition(b"/")[2]
        if name == whiteout.OPAQUE:
            return Entry(parent_of(path), Kind.WHITEOUT, opaque=True)
        removed = whiteout.removed_name(name)
        if removed is not None:
            parent = parent_of(path)
            return Entry(parent + b"/" + removed if parent else removed, Kind.WHITEOUT)
        if member.type == tar.HARDLINK:
            return self._hardlink(path, member)
        rdev = 0
        if kind in (Kind.CHAR, Kind.BLOCK):
            if kind is Kind.CHAR and member.devmajor == member.devminor == 0:
                raise UnsafePath(f"entry {show(path)}: a device 0:0 means a removal to overlayfs and cannot be stored")
            rdev = os.makedev(member.devmajor, member.devminor)
        if kind is Kind.SYMLINK and not 0 < len(member.linkname) <= _MAX_LINK:
            raise UnsafePath(f"entry {show(path)}: a link target of no or of more than {_MAX_LINK} bytes")
        for key, value in member.xattrs:
            if not 0 < len(key) <= _MAX_NAME or b"\0" in key or len(value) > _MAX_XATTR:
                raise UnsafePath(f"entry {show(path)}: attribute {show(key[:80])} is longer than any file can have")
            if key.startswith((b"trusted.overlay.", b"user.overlay.")):
                raise UnsafePath(f"entry {show(path)}: attribute {show(key)} would control overlayfs")
        return Entry(
            path, kind, member.mode, member.uid, member.gid, member.mtime, member.size, member.linkname, b"", rdev,
            member.xattrs, b"", member.offset if kind is Kind.FILE else -1,
        )  # fmt: skip

    def add(self, entry: Entry) -> None:
        """Keep an entry; the last one of a path wins, as when a tar is unpacked."""
        if len(self._found) + len(self._removed) >= MAX_ENTRIES:
            raise InvalidImage(f"more than the limit of {MAX_ENTRIES} entries")
        self._make_parents(entry.path)
        if entry.kind is Kind.WHITEOUT:
            if entry.opaque:
                self._directory(entry.path)
                self._opaque.add(entry.path)
            else:
                self._removed.add(entry.path)
                self._note(entry.path)
            return
        before = self._found.get(entry.path)
        if before is not None and before.kind is Kind.DIRECTORY and entry.kind is not Kind.DIRECTORY:
            self._empty(entry.path)
        self._found[entry.path] = entry
        self._note(entry.path)

    def entries(self) -> list[Entry]:
        """All entries in order."""
        found = dict(self._found)
        opaque = set(self._opaque)
        for path in self._removed:
            # What was removed below and is a directory of this layer has nothing of the old one in it.
            if path in found and found[path].kind is Kind.DIRECTORY:
                opaque.add(path)
        for path in opaque:
            found[path] = found[path]._replace(opaque=True)
        for path in self._removed:
            # Below an opaque directory nothing is left to remove, and overlayfs would list the marker.
            if parent_of(path) not in opaque:
                found.setdefault(path, Entry(path, Kind.WHITEOUT))
        return sorted(_repair_links(found), key=lambda entry: sort_key(entry.path))

    def _inside(self, path: bytes, shown: bytes) -> bytes:
        """The path with its parent's links resolved: those of this layer, then those of the layers below."""
        parent, slash, name = path.rpartition(b"/")
        if not slash or self._is_directory(parent):
            return path
        try:
            resolved = resolve(self._lookup, parent)
        except LinkLoop:
            raise UnsafePath(f"entry {show(shown)}: too many levels of symbolic links") from None
        return resolved + b"/" + name if resolved else name

    def _lookup(self, path: bytes) -> Entry | None:
        """What is at a path when this layer, as far as it was read, lies on those below."""
        return self._found.get(path) or self._from_below(path)

    def _from_below(self, path: bytes) -> Entry | None:
        """What the layers below have at a path, unless this one has removed it."""
        if path in self._removed:
            return None
        step = path
        while step and (self._removed or self._opaque):
            step = parent_of(step)
            if step in self._removed or step in self._opaque:
                return None
        return self._below.lookup(path)

    def _empty(self, path: bytes) -> None:
        """A file takes the place of a directory, and of all that the archive put into it before."""
        if self._inside_of is None:
            # Few layers need it; it makes the work depend on what goes away, not on the size of the layer.
            self._inside_of = {}
            for known in (*self._found, *self._removed):
                self._note(known)
        pending = [path]
        while pending:
            directory = pending.pop()
            self._opaque.discard(directory)
            for gone in self._inside_of.pop(directory, ()):
                self._found.pop(gone, None)
                self._removed.discard(gone)
                pending.append(gone)

    def _note(self, path: bytes) -> None:
        if self._inside_of is not None:
            self._inside_of.setdefault(parent_of(path), set()).add(path)

    def _is_directory(self, path: bytes) -> bool:
        entry = self._found.get(path)
        return entry is not None and entry.kind is Kind.DIRECTORY

    def _make_parents(self, path: bytes) -> None:
        missing = []
        shown = path
        while (path := parent_of(path)) and not self._is_directory(path):
            missing.append(path)
            self._implied += len(path)
        if self._implied > _MAX_IMPLIED:
            raise InvalidImage(f"entry {show(shown)}: more than {_MAX_IMPLIED} bytes of parents without an entry")
        for directory in reversed(missing):
            self._directory(directory)

    def _directory(self, path: bytes) -> None:
        """Make sure that a parent is an entry, as the layers below have it or else 0755 root."""
        if self._is_directory(path):
            return
        if path in self._found:
            raise UnsafePath(f"entry {show(path)}: is no directory, yet the layer puts entries below it")
        below = self._from_below(path)
        if below is None or below.kind is not Kind.DIRECTORY:
            below = ROOT
        self._found[path] = below._replace(path=path, opaque=False)
        self._note(path)

    def _hardlink(self, path: bytes, member: Member) -> Entry:
        target = clean_path(member.linkname)
        target = self._inside(target, member.linkname) if target else target
        source = self._found.get(target)
        if source is None or source.kind is Kind.DIRECTORY or target == path:
            raise UnsafePath(
                f"entry {show(path)}: hard link to {show(member.linkname)}, which is no file of this layer before it"
            )
        return source._replace(path=path, hardlink=source.hardlink or target)


class _ArchiveReader(_LayerReader):
    """The entries of an archive that is no layer."""

    def __init__(self, below: LowerLayers, owner: tuple[int, int] | None) -> None:
        super().__init__(below)
        self._owner = owner

    def place(self, member: Member) -> Entry:
        path = clean_path(member.name)
        for part in path.split(b"/"):
            whiteout.refuse_reserved(part)
        if member.type == tar.DIRECTORY and path and not self._is_directory(path):
            try:
                member = member._replace(name=resolve(self._lookup, path))
            except LinkLoop:
                raise UnsafePath(f"entry {show(member.name)}: too many levels of symbolic links") from None
        if self._owner is not None:
            member = member._replace(uid=self._owner[0], gid=self._owner[1])
        return super().place(member)

    def add(self, entry: Entry) -> None:
        before = self._found.get(entry.path)
        if entry.kind is Kind.DIRECTORY and before is not None and before.kind is not Kind.DIRECTORY:
            below = self._below.lookup(entry.path)
            if below is not None and below.kind is Kind.DIRECTORY:
                # What was in there is gone, and a layer of plain entries cannot say so.
                raise UnsafePath(
                    f"entry {show(entry.path)}: a directory of the image, made a file and again a directory"
                )
        super().add(entry)

    def _directory(self, path: bytes) -> None:
        below = None if path in self._found else self._from_below(path)
        if below is not None and below.kind is not Kind.DIRECTORY:
            raise UnsafePath(f"entry {show(path)}: is no directory in the image, yet entries lie below it")
        super()._directory(path)


def _repair_links(found: dict[bytes, Entry]) -> Iterable[Entry]:
    """The first name in order becomes the file of each hard-link group, whatever the archive called it.

    A later entry may have replaced the name that others link to; they keep the old file, as on a real disk.
    """
    groups: dict[tuple[bytes, Entry], bytes] = {}
    linked = {entry.hardlink for entry in found.values() if entry.hardlink}
    for path in sorted(found, key=sort_key):
        entry = found[path]
        if not entry.hardlink and path not in linked:
            yield entry
            continue
        key = (entry.hardlink or path, entry._replace(path=b"", hardlink=b""))
        first = groups.setdefault(key, path)
        yield entry._replace(hardlink=b"" if first == path else first)
