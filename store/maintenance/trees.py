"""What fsck does with trees. The ids of their files can exist in the namespace of the steps only, so workers do it there.

`TreesHere` does it in this process: for trees of the ids that this process has.
"""

from __future__ import annotations

from typing import Protocol

from pybuild.store.errors import StoreError
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.compare import tree_difference
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.view import View
from pybuild.store.layers.write import write_layer
from pybuild.store.system.directories import opened_directory
from pybuild.store.system.holes import create_sparse
from pybuild.values import frozen


@frozen
class TreeToCompare:
    """A tree, and the paths of the tables of contents to compare it with: its own, and those below, topmost first.

    `below` is None if the layers below are unknown.
    """

    id_map: str
    tree: str
    toc: str
    below: tuple[str, ...] | None
    content: bool


@frozen
class BlobToWrite:
    """A blob to write to the new file `path`, from a tree and its table of contents."""

    id_map: str
    tree: str
    toc: str
    path: str
    compression: str  # a value of Compression
    clamp: int | None  # store/formats/clamp.py


class Trees(Protocol):
    """Reads trees. Both methods return None if this user or machine cannot read trees of this id map."""

    def compare(self, wanted: TreeToCompare) -> str | None:
        """What distinguishes a tree from its table of contents; "" if nothing does."""
        ...

    def write_blob(self, wanted: BlobToWrite) -> str | None:
        """Write a blob; return its digest, "" if the tree does not have what the table of contents says."""
        ...


class TreesHere:
    """Reads the trees in this process."""

    def compare(self, wanted: TreeToCompare) -> str:
        return compare_tree(wanted.tree, wanted.toc, wanted.below, content=wanted.content)

    def write_blob(self, wanted: BlobToWrite) -> str:
        return write_blob(wanted.tree, wanted.toc, wanted.path, wanted.compression, wanted.clamp)


def compare_tree(tree: str, toc: str, below: tuple[str, ...] | None, *, content: bool) -> str:
    """What distinguishes the tree in a directory from the table of contents in a file; "" if nothing does."""

    def open_below() -> View | None:
        return None if below is None else View([Toc.open(path) for path in below])

    try:
        with opened_directory(tree) as fd:
            return tree_difference(fd, Toc.open(toc), open_below, content=content)
    except FileNotFoundError:
        return "is missing"
    except (OSError, StoreError) as error:
        return f"cannot be read: {error}"


def write_blob(tree: str, toc: str, path: str, compression: str, clamp: int | None) -> str:
    """Write a blob to `path` from a tree and its table of contents; return its digest, "" if the tree lacks a file."""
    try:
        with opened_directory(tree) as fd, TreeContent(fd) as content, create_sparse(path) as out:
            return str(write_layer(Toc.open(toc), content, out, Compression(compression), clamp=clamp).digest)
    except (FileNotFoundError, StoreError):
        return ""
