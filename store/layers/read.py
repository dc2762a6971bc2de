"""Reading the tar of a layer, or of any archive, into the entries of a table of contents.

`read_layer` turns the members of a tar into safe entries: paths are relative and without "..", every parent exists and
is a directory, links in paths are resolved, and each path has one entry. `make_tree` gets only these entries, so it
never sees an unchecked name from the archive.
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
from pybuild.values.limits import IMPLIED_BYTES, LAYER_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.store.formats.tar import Member
    from pybuild.store.system.streams import Readable

MAX_DEPTH = 4096  # components of one path
_MAX_NAME = 255  # bytes of one component: NAME_MAX of Linux filesystems
_MAX_LINK = 4095  # bytes of the target of a symbolic link, the limit of symlink(2)
_MAX_XATTR = 65_536  # bytes of the value of an attribute: XATTR_SIZE_MAX

_KINDS = {
    tar.REGULAR: Kind.FILE,
    tar.DIRECTORY: Kind.DIRECTORY,
    tar.SYMLINK: Kind.SYMLINK,
    tar.CHAR: Kind.CHAR,
    tar.BLOCK_DEVICE: Kind.BLOCK,
    tar.FIFO: Kind.FIFO,
}


def clean_path(name: bytes) -> bytes:
    """The path of a member, relative and without "." and "//". Raises UnsafePath for ".." and for too long paths."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UnsafePath(f"entry {show(name)}: leaves the root", hint="the layer is damaged or hostile")
    if len(name) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise UnsafePath(f"entry {show(name)}: longer than {MAX_PATH} bytes or {MAX_DEPTH} components")
    if parts and len(max(parts, key=len)) > _MAX_NAME:
        raise UnsafePath(f"entry {show(name)}: a component of more than {_MAX_NAME} bytes")
    return b"/".join(parts)


class LowerLayers(Protocol):
    """The merged layers below the one that is read."""

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at a path, without following links, or None."""
        ...


class Receiver(Protocol):
    """Takes the entries of a layer while it is read, in the order of its tar, each after it has been placed and checked.

    So every parent comes before what is in it. A directory can come again, with other metadata. Whiteouts, and which
    directories are opaque, are known at the end only.
    """

    def entry(self, entry: Entry) -> None:
        """The next entry. If it is a file and not a hard link, its content follows."""
        ...

    def content(self, data: bytes) -> None:
        """The next bytes of the last file."""
        ...

    def replaced(self) -> None:
        """An entry that came before is replaced by the next one, and one of the two is not a directory."""
        ...

    def finish(self, entries: Sequence[Entry]) -> None:
        """All entries of the layer as they are in the end, sorted."""
        ...


def read_layer(stream: Readable, below: LowerLayers, receiver: Receiver | None = None) -> list[Entry]:
    """Read a whole tar of a layer and return its sorted entries, with the digests of their content.

    Parents that the tar does not contain are copied from `below`. If a parent is a symbolic link there, the link is
    followed inside the root. Raises InvalidImage or UnsafePath.
    """
    return _read(stream, LayerEntries(below, receiver))


def read_archive(stream: Readable, below: LowerLayers, owner: tuple[int, int] | None) -> list[Entry]:
    """Read a tar as tar(1) would unpack it onto `below`; names of whiteouts are refused.

    A directory member follows a symbolic link to a directory at its path. With `owner`, a (uid, gid), all members get
    that owner, but not the parents that the tar does not contain. A directory without a date, because the tar does not
    contain it and `below` does not have it, gets the newest date below it. Raises InvalidImage or UnsafePath.
    """
    return _read(stream, _ArchiveReader(below, owner))


def _read(stream: Readable, layer: LayerEntries) -> list[Entry]:
    reader, receiver = tar.TarReader(stream), layer.receiver
    for member in reader:
        entry = layer.entry_of(member)
        if entry is None:
            continue
        layer.add(entry)
        if entry.kind is Kind.FILE and not entry.hardlink:
            hasher = hashlib.sha256()
            for chunk in reader.data():
                hasher.update(chunk)
                receiver.content(chunk)
            layer.add_digest(entry, hasher.digest())
    entries = layer.entries()
    receiver.finish(entries)
    return entries


class _NoReceiver:
    """A receiver that ignores everything."""

    def entry(self, entry: Entry) -> None: ...
    def content(self, data: bytes) -> None: ...
    def replaced(self) -> None: ...
    def finish(self, entries: Sequence[Entry]) -> None: ...


class LayerEntries:
    """Collects the entries of one layer, and separately its whiteouts: they never remove an entry of their own layer."""

    def __init__(self, below: LowerLayers, receiver: Receiver | None = None) -> None:
        self._below = below
        self.receiver = receiver or _NoReceiver()
        self._found: dict[bytes, Entry] = {}
        self._removed: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._implied = 0
        self._most = LAYER_ENTRIES.value
        self._children: dict[bytes, set[bytes]] | None = None  # directory -> paths directly in it; made if needed

    def entry_of(self, member: Member) -> Entry | None:
        """The entry for a member; a WHITEOUT with `opaque` stands for the opaque marker of a directory.

        None for a member that names the root without being a directory: as by containerd and docker, it is skipped.
        """
        path = clean_path(member.name)
        kind = Kind.FILE if member.type == tar.HARDLINK else _KINDS[member.type]
        if not path:
            if kind is not Kind.DIRECTORY or member.type == tar.HARDLINK:
                return None
        else:
            path = self._resolve_parent(path, member.name)
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
                raise UnsafePath(f"entry {show(path)}: a device 0:0 is a whiteout for overlayfs and cannot be stored")
            rdev = os.makedev(member.devmajor, member.devminor)
        if kind is Kind.SYMLINK and not 0 < len(member.linkname) <= _MAX_LINK:
            raise UnsafePath(f"entry {show(path)}: a link target that is empty or longer than {_MAX_LINK} bytes")
        for key, value in member.xattrs:
            if not 0 < len(key) <= _MAX_NAME or b"\0" in key or len(value) > _MAX_XATTR:
                raise UnsafePath(f"entry {show(path)}: attribute {show(key[:80])} has an invalid name, or is too long")
            if key.startswith((b"trusted.overlay.", b"user.overlay.")):
                raise UnsafePath(f"entry {show(path)}: attribute {show(key)} would control overlayfs")
        return Entry(
            path, kind, member.mode, member.uid, member.gid, member.mtime, member.size, member.linkname, b"", rdev,
            member.xattrs, b"", member.offset if kind is Kind.FILE else -1,
        )  # fmt: skip

    def add(self, entry: Entry) -> None:
        """Add an entry; the last one of a path wins, as when a tar is unpacked."""
        if len(self._found) + len(self._removed) >= self._most:
            raise LAYER_ENTRIES.exceeded(InvalidImage, "more than the limit of {} entries")
        self._ensure_parents(entry.path)
        if entry.kind is Kind.WHITEOUT:
            if entry.opaque:
                self._ensure_directory(entry.path)
                self._opaque.add(entry.path)
            else:
                self._removed.add(entry.path)
                self._add_child(entry.path)
            return
        before = self._found.get(entry.path)
        if before is not None and not (before.kind is entry.kind is Kind.DIRECTORY):
            self.receiver.replaced()
            if before.kind is Kind.DIRECTORY:
                self._drop_content(entry.path)
        self._place(entry)

    def add_digest(self, entry: Entry, sha256: bytes) -> None:
        """Give the file that was added last the digest of its content."""
        self._found[entry.path] = entry.with_content(sha256, entry.offset)

    def entries(self) -> list[Entry]:
        """All entries, sorted."""
        found = dict(self._found)
        opaque = set(self._opaque)
        for path in self._removed:
            # If the layer removes a directory and makes it again, the new one has nothing of the old content.
            if path in found and found[path].kind is Kind.DIRECTORY:
                opaque.add(path)
        for path in opaque:
            found[path] = found[path]._replace(opaque=True)
        for path in self._removed:
            # An opaque directory hides everything already, and overlayfs would list a whiteout in it as a file.
            if parent_of(path) not in opaque:
                found.setdefault(path, Entry(path, Kind.WHITEOUT))
        return sorted(_repair_links(found), key=lambda entry: sort_key(entry.path))

    def _resolve_parent(self, path: bytes, shown: bytes) -> bytes:
        """The path after following links in its parent, in this layer and those below; `shown` is its name in errors."""
        parent, slash, name = path.rpartition(b"/")
        if not slash or self._is_directory(parent):
            return path
        try:
            resolved = resolve(self._lookup, parent)
        except LinkLoop:
            raise UnsafePath(f"entry {show(shown)}: too many levels of symbolic links") from None
        return resolved + b"/" + name if resolved else name

    def _lookup(self, path: bytes) -> Entry | None:
        """The entry at a path in this layer, as far as it was read, or in the layers below."""
        return self._found.get(path) or self._from_below(path)

    def _from_below(self, path: bytes) -> Entry | None:
        """The entry of the layers below at a path, unless this layer removes it."""
        if path in self._removed:
            return None
        step = path
        while step and (self._removed or self._opaque):
            step = parent_of(step)
            if step in self._removed or step in self._opaque:
                return None
        return self._below.lookup(path)

    def _drop_content(self, path: bytes) -> None:
        """Forget all entries below a directory that is replaced by a file."""
        if self._children is None:
            # Few layers need this index. With it the work depends on the dropped entries, not on the size of the layer.
            self._children = {}
            for known in (*self._found, *self._removed):
                self._add_child(known)
        pending = [path]
        while pending:
            directory = pending.pop()
            self._opaque.discard(directory)
            for child in self._children.pop(directory, ()):
                self._found.pop(child, None)
                self._removed.discard(child)
                pending.append(child)

    def _place(self, entry: Entry) -> None:
        self._found[entry.path] = entry
        self._add_child(entry.path)
        self.receiver.entry(entry)

    def _add_child(self, path: bytes) -> None:
        if self._children is not None:
            self._children.setdefault(parent_of(path), set()).add(path)

    def _is_directory(self, path: bytes) -> bool:
        entry = self._found.get(path)
        return entry is not None and entry.kind is Kind.DIRECTORY

    def _ensure_parents(self, path: bytes) -> None:
        missing = []
        shown = path
        while (path := parent_of(path)) and not self._is_directory(path):
            missing.append(path)
            self._implied += len(path)
        if self._implied > IMPLIED_BYTES.value:
            raise IMPLIED_BYTES.exceeded(
                InvalidImage, f"entry {show(shown)}: parents without an entry exceed the limit of {{}}"
            )
        for directory in reversed(missing):
            self._ensure_directory(directory)

    def _ensure_directory(self, path: bytes) -> None:
        """Add the entry of a directory if it is missing: a copy of the one below, or else mode 0755 and owner root."""
        if self._is_directory(path):
            return
        if path in self._found:
            raise UnsafePath(f"entry {show(path)}: is not a directory, but the layer has entries below it")
        below = self._from_below(path)
        if below is None or below.kind is not Kind.DIRECTORY:
            below = ROOT
        self._place(below._replace(path=path, opaque=False))

    def _hardlink(self, path: bytes, member: Member) -> Entry:
        target = clean_path(member.linkname)
        target = self._resolve_parent(target, member.linkname) if target else target
        source = self._found.get(target)
        if source is None or source.kind is Kind.DIRECTORY or target == path:
            below = self._from_below(target) if source is None else None
            is_below = below is not None and below.kind is not Kind.DIRECTORY
            raise UnsafePath(
                f"entry {show(path)}: hard link to {show(member.linkname)}, which is not an earlier file of this layer",
                hint="a layer below has that file; pack both names into one tar" if is_below else None,
            )
        return source._replace(path=path, hardlink=source.hardlink or target)


class _ArchiveReader(LayerEntries):
    """Collects the entries of an archive that is unpacked into an image, and is not itself a layer."""

    def __init__(self, below: LowerLayers, owner: tuple[int, int] | None) -> None:
        super().__init__(below)
        self._owner = owner
        self._undated: set[bytes] = set()  # directories that neither the archive nor the layers below have

    def entry_of(self, member: Member) -> Entry | None:
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
        return super().entry_of(member)

    def add(self, entry: Entry) -> None:
        before = self._found.get(entry.path)
        if entry.kind is Kind.DIRECTORY and before is not None and before.kind is not Kind.DIRECTORY:
            below = self._below.lookup(entry.path)
            if below is not None and below.kind is Kind.DIRECTORY:
                # The old content of the directory is gone, which a layer of plain entries cannot express.
                raise UnsafePath(
                    f"entry {show(entry.path)}: replaces a directory of the image by a file, then by a directory"
                )
        super().add(entry)
        self._undated.discard(entry.path)

    def entries(self) -> list[Entry]:
        found = super().entries()
        if self._below.lookup(b"") in (None, ROOT) and b"" not in self._found:
            self._undated.add(b"")
            found = [ROOT, *found]
        if not self._undated:
            return found
        newest: dict[bytes, int] = {}  # path -> the newest date of an entry and of everything below it
        for entry in reversed(found):  # each directory after everything in it
            dates = () if entry.path in self._undated else (entry.mtime,)
            mtime = newest[entry.path] = max((*dates, *filter(None, (newest.get(entry.path),))), default=0)
            above = parent_of(entry.path)
            newest[above] = max(newest.get(above, mtime), mtime)
        return [entry._replace(mtime=newest[entry.path]) if entry.path in self._undated else entry for entry in found]

    def _ensure_directory(self, path: bytes) -> None:
        below = None if path in self._found else self._from_below(path)
        if below is not None and below.kind is not Kind.DIRECTORY:
            raise UnsafePath(
                f"entry {show(path)}: is not a directory in the image, but the archive has entries below it"
            )
        if below is None and path not in self._found:
            self._undated.add(path)
        super()._ensure_directory(path)


def _repair_links(found: dict[bytes, Entry]) -> Iterable[Entry]:
    """Make the first name in order the file of each group of hard links, whichever name the archive linked to.

    A later entry can replace the name that others link to: those are still names of the old file, as on a real disk.
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
