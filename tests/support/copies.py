"""Connects the model of COPY (copymodel.py) with the real planner: trees as FileTrees, plans applied to images."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from pybuild.builder.files.archives import ArchiveTree
from pybuild.builder.files.copy import CopyRequest, plan_entries
from pybuild.builder.files.copy_layer import changed, with_digests
from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.view import View
from tests.support.copymodel import Directory, File, Link, below, flat

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from pybuild.builder.files.copy import PlannedEntry
    from pybuild.builder.files.spool import Spool
    from tests.support.copymodel import ModelCopy, Node


NAMES = st.sampled_from(["a", "b", "c"])
TIMES = st.sampled_from([10, 20])
OWNERS = st.sampled_from([(0, 0), (5, 6)])
FILES = [
    File(content, mode, owner, mtime, inode)
    for inode, (content, mode, owner, mtime) in enumerate(
        [(b"one", 0o644, (0, 0), 10), (b"two", 0o4755, (5, 6), 10), (b"one", 0o644, (0, 0), 20)], 1
    )
]
LINKS = st.builds(Link, st.sampled_from(["a", "b", "../c", "/a/b", "/", "..", "nowhere"]), OWNERS, TIMES)
ALONE = [File(file.content, file.mode, file.owner, file.mtime) for file in FILES]


def trees(files: list[File]) -> st.SearchStrategy[Directory]:
    """Trees of up to eight of these files and of links, three names to a directory."""
    modes = st.sampled_from([0o755, 0o700])
    nodes = st.recursive(
        st.sampled_from(files) | LINKS,
        lambda below_: st.builds(Directory, st.dictionaries(NAMES, below_, max_size=3), modes, OWNERS, TIMES),
        max_leaves=8,
    )
    return st.builds(Directory, st.dictionaries(NAMES, nodes, min_size=1, max_size=3), modes, OWNERS, TIMES)


def entry(path: str, node: Node) -> Entry:
    """The entry of a node in a table of contents."""
    name = path.encode()
    match node:
        case File():
            return Entry(name, Kind.FILE, node.mode, *node.owner, mtime=node.mtime, size=len(node.content))
        case Link():
            return Entry(name, Kind.SYMLINK, 0o777, *node.owner, mtime=node.mtime, link=node.target.encode())
        case Directory():
            return Entry(name, Kind.DIRECTORY, node.mode, *node.owner, mtime=node.mtime)


def nodes(tree: Directory) -> Iterator[tuple[str, Node]]:
    """Everything in a tree, by path."""
    pending: list[tuple[str, Directory]] = [("", tree)]
    while pending:
        path, directory = pending.pop()
        for name, node in directory.names.items():
            here = f"{path}/{name}" if path else name
            yield here, node
            if isinstance(node, Directory):
                pending.append((here, node))


class MemoryTree:
    """A tree of the model as a FileTree. `reads` counts the files whose content is read."""

    allows_devices = False

    def __init__(self, tree: Directory) -> None:
        self._nodes: dict[bytes, Node] = {path.encode(): node for path, node in nodes(tree)} | {b"": tree}
        self.reads = 0

    def lookup(self, path: bytes) -> Entry | None:
        node = self._nodes.get(path)
        return None if node is None else entry(path.decode(), node)

    def readdir(self, path: bytes) -> list[Entry]:
        directory = self._nodes.get(path)
        assert isinstance(directory, Directory)
        prefix = path.decode() + "/" if path else ""
        return [entry(prefix + name, directory.names[name]) for name in sorted(directory.names)]

    def identity(self, entry: Entry) -> Hashable | None:
        node = self._nodes[entry.path]
        return node.inode if isinstance(node, File) else None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        node = self._nodes[entry.path]
        assert isinstance(node, File)
        self.reads += 1
        yield node.content


def view_of(tree: Directory) -> View:
    """The view of an image with this tree as its only layer, with content digests."""
    rows = []
    for path, node in nodes(tree):
        row = entry(path, node)
        rows.append(row._replace(sha256=hashlib.sha256(node.content).digest()) if isinstance(node, File) else row)
    root = Entry(b"", Kind.DIRECTORY, tree.mode, *tree.owner, mtime=tree.mtime)
    return View([Toc.of([root, *sorted(rows, key=lambda row: sort_key(row.path))])])


def request(copy: ModelCopy) -> CopyRequest:
    return CopyRequest(
        copy.sources, copy.dest, copy.owner, copy.mode, copy.exclude, copy.parents, unpack=bool(copy.archives)
    )


def planned(copy: ModelCopy, source: Directory, image: Directory, spool: Spool | None = None) -> list[PlannedEntry]:
    """The real plan of a copy, with content digests."""
    tree = MemoryTree(source)
    return with_digests(plan_entries(request(copy), tree, view_of(image), spool))


def layer_of(copy: ModelCopy, source: Directory, image: Directory) -> list[PlannedEntry]:
    """The entries in the layer of a copy."""
    tree, below = MemoryTree(source), view_of(image)
    return with_digests(changed(plan_entries(request(copy), tree, below), below))


def tar_of(tree: Directory) -> bytes:
    """A tar of a tree, directories before their contents; the second and later names of a file are hard links."""
    out = io.BytesIO()
    first: dict[object, str] = {}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, node in below(tree):
            info = tarfile.TarInfo("/".join(path))
            info.uid, info.gid = node.owner
            info.mtime = node.mtime
            match node:
                case File() if node.inode is not None and node.inode in first:
                    info.type, info.linkname = tarfile.LNKTYPE, first[node.inode]
                case File():
                    first[node.inode] = info.name
                    info.mode, info.size = node.mode, len(node.content)
                case Link():
                    info.type, info.linkname = tarfile.SYMTYPE, node.target
                case Directory():
                    info.type, info.mode = tarfile.DIRTYPE, node.mode
            tar.addfile(info, io.BytesIO(node.content) if isinstance(node, File) and info.type == tarfile.REGTYPE else None)
    return out.getvalue()


def row(entry: Entry, content: bytes) -> tuple[object, ...]:
    """An entry in the form of the model's `flat`."""
    match entry.kind:
        case Kind.FILE:
            group = (entry.hardlink or entry.path).decode()
            return ("file", entry.mode, (entry.uid, entry.gid), entry.mtime, content, group)
        case Kind.DIRECTORY:
            return ("directory", entry.mode, (entry.uid, entry.gid), entry.mtime)
        case _:
            return ("link", (entry.uid, entry.gid), entry.mtime, entry.link.decode())


def afterwards(items: list[PlannedEntry], source: Directory, image: Directory) -> dict[str, tuple[object, ...]]:
    """The image after the planned entries, in the form of the model's `flat`."""
    content = {path.encode(): node.content for path, node in nodes(source) if isinstance(node, File)}
    result = flat(image)
    for entry, origin, tree in items:
        data = content.get(origin.path, b"") if origin is not None else b""
        if isinstance(tree, ArchiveTree) and origin is not None and entry.kind is Kind.FILE:
            data = b"".join(tree.chunks(origin))
        if entry.kind is not Kind.DIRECTORY:
            gone = f"{entry.path.decode()}/"
            result = {path: row_ for path, row_ in result.items() if not path.startswith(gone)}
        if entry.kind is Kind.FILE:
            assert entry.sha256 == hashlib.sha256(data).digest()
        result[entry.path.decode()] = row(entry, data)
    return result


def on_disk(tree: Directory, root: str) -> None:
    """Create a tree in an existing directory, with links, modes and times but without owners."""
    first: dict[object, str] = {}
    for path, node in sorted(nodes(tree)):
        here = f"{root}/{path}"
        match node:
            case Directory():
                os.mkdir(here)
            case Link():
                os.symlink(node.target, here)
                os.utime(here, (0, node.mtime), follow_symlinks=False)
            case File() if node.inode is not None and node.inode in first:
                os.link(first[node.inode], here)
            case File():
                first[node.inode] = here
                with open(here, "wb") as file:
                    file.write(node.content)
                os.chmod(here, node.mode)
                os.utime(here, (0, node.mtime))
    for path, node in sorted(nodes(tree), reverse=True):
        if isinstance(node, Directory):
            os.chmod(f"{root}/{path}", node.mode)
            os.utime(f"{root}/{path}", (0, node.mtime))
    os.utime(root, (0, tree.mtime))
