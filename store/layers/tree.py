"""Making the tree of a changeset: a directory that can be a lower layer of an overlay.

A tree holds only files that a user namespace allows. A whiteout is a character device 0:0, and an opaque directory has the
attribute `user.overlay.opaque` (kernel documentation, overlayfs.rst, "whiteouts and opaque directories", with the
`userxattr` option). A device node is an empty file: only the table of contents has its type and number. An owner that
does not exist in the namespace is replaced by root (mapped_ids.py).

There are two ways to make one: here from a table of contents and the tar, and in fed_tree.py while the tar is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.tree_maker import TreeMaker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.system.streams import Readable

_CHUNK = 1 << 20


def make_tree(entries: Iterable[Entry], tar: Readable, root_fd: int) -> None:
    """Make the tree of `entries` (sorted) in the empty directory `root_fd`; `tar` is the layer that holds their content.

    Raises InvalidImage if the tar is shorter than the entries say, OSError if writing fails.
    """
    maker = TreeMaker(root_fd)
    files, links, directories = [], [], []
    for entry in entries:
        if entry.hardlink:
            links.append(entry)
        elif entry.kind is Kind.FILE:
            files.append(entry)
        elif entry.kind is Kind.DIRECTORY:
            maker.directory(entry)
            directories.append(entry)
        else:
            maker.special(entry)
    position = 0
    for entry in sorted(files, key=lambda entry: entry.offset):
        if entry.size:
            position = _skip(tar, entry.offset - position, entry.offset)
        maker.file(entry, next_bytes(tar, entry.size))
        position += entry.size
    for entry in links:
        maker.link(entry)
    for entry in reversed(directories):
        maker.finish_directory(entry)
    maker.close()


def _skip(tar: Readable, count: int, target: int) -> int:
    for _ in next_bytes(tar, count):
        pass
    return target


def next_bytes(tar: Readable, size: int) -> Iterator[bytes]:
    """The next `size` bytes of a tar. Raises InvalidImage if it has fewer."""
    while size:
        data = tar.read(min(size, _CHUNK))
        if not data:
            raise InvalidImage("the layer is shorter than its table of contents")
        size -= len(data)
        yield data
