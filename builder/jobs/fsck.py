"""The jobs of fsck: they read trees, whose files can belong to ids of the namespace."""

from __future__ import annotations

from typing import ClassVar

from pybuild.store.maintenance.trees import compare_tree, write_blob
from pybuild.values import frozen


@frozen
class TreeDifference:
    """What distinguishes a tree from its table of contents; "" if nothing does."""

    text: str


@frozen
class CompareTree:
    """Compare a tree with its table of contents; the fields are those of `TreeToCompare`."""

    in_namespace: ClassVar[bool] = True
    tree: str
    toc: str
    below: tuple[str, ...] | None
    content: bool

    def run(self) -> TreeDifference:
        return TreeDifference(compare_tree(self.tree, self.toc, self.below, content=self.content))


@frozen
class WrittenBlob:
    """The digest of a blob that was written; "" if its tree lacks something."""

    digest: str


@frozen
class WriteBlob:
    """Write a blob from a tree and its table of contents; the fields are those of `BlobToWrite`."""

    in_namespace: ClassVar[bool] = True
    tree: str
    toc: str
    path: str
    compression: str
    clamp: int | None

    def run(self) -> WrittenBlob:
        return WrittenBlob(write_blob(self.tree, self.toc, self.path, self.compression, self.clamp))
