"""The jobs around a RUN: make its directories, read small files, write its layer, measure and remove directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.files.layer_contents import LayerPlace, StoredContents, view_of
from pybuild.builder.jobs.job import Done, Output, Written, write_output
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.changes import changes
from pybuild.store.layers.tree import make_tree
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.system.directories import opened_directory, remove_tree, tree_size
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.formats.toc import Entry

# Writing a layer up to this size takes no longer than listing it.
_SMALL_ENTRIES = 256
_SMALL_BYTES = 2 << 20


@frozen
class PrepareStep:
    """Make the overlay directories of a RUN: `upper`, with the mode and owner of the image's root, and `work`."""

    in_namespace: ClassVar[bool] = True
    upper: str
    work: str
    upper_toc: str  # holds the entry of the root only

    def run(self) -> Done:
        make_directory(self.upper, self.upper_toc)
        os.mkdir(self.work, 0o700)
        return Done()


@frozen
class MakeDirectory:
    """Make a directory with the entries of a table of contents that have no content, such as mount points."""

    in_namespace: ClassVar[bool] = True
    directory: str
    toc: str

    def run(self) -> Done:
        make_directory(self.directory, self.toc)
        return Done()


def make_directory(directory: str, toc: str) -> None:
    """Make a directory with the entries of a table of contents, which have no content."""
    os.mkdir(directory, 0o700)
    with opened_directory(directory) as fd:
        make_tree(Toc.open(toc), _EmptyTar(), fd)


@frozen
class Committed:
    """The layer of a RUN. `written` is None if its files are only listed, in a table of contents without digests."""

    written: Written | None


@frozen
class CommitStep:
    """Write the files that a RUN changed as a layer.

    With `list_if_large` a large layer is not written: its files are only listed, and `FinishStep` writes it.
    """

    in_namespace: ClassVar[bool] = True
    upper: str
    below: tuple[LayerPlace, ...]
    scaffold_toc: str
    output: Output
    list_if_large: bool

    def run(self) -> Committed:
        with opened_directory(self.upper) as fd:
            entries, links = changes(fd, view_of(self.below), Toc.open(self.scaffold_toc))
            if self.list_if_large and _is_large(entries):
                Toc.write(self.output.toc, entries, links)
                return Committed(None)
            with TreeContent(fd) as content:
                return Committed(write_output(entries, content, self.output, links))


def _is_large(entries: list[Entry]) -> bool:
    return len(entries) > _SMALL_ENTRIES or sum(entry.size for entry in entries) > _SMALL_BYTES


@frozen
class FinishStep:
    """Write a layer from the files that a `CommitStep` has listed in the table of contents `listed`."""

    in_namespace: ClassVar[bool] = True
    listed: str
    tree: str
    output: Output

    def run(self) -> Written:
        listed = Toc.open(self.listed)
        with opened_directory(self.tree) as fd, TreeContent(fd) as content:
            return write_output(listed, content, self.output, listed.links)


@frozen
class FileBytes:
    """The content of a small file, as hexadecimal digits."""

    hex: str


@frozen
class ReadFile:
    """Read a small file of a root filesystem: `path` as in the toc of `layers[layer]`, the topmost layer first."""

    layers: tuple[LayerPlace, ...]
    layer: int
    path: str
    spool: str

    @property
    def in_namespace(self) -> bool:
        return self.layers[self.layer].tree is not None

    def run(self) -> FileBytes:
        entry = Toc.open(self.layers[self.layer].toc).find(os.fsencode(self.path))
        assert entry is not None
        with StoredContents(self.layers, self.spool) as contents:
            return FileBytes(b"".join(contents.chunks(self.layer, entry)).hex())


@frozen
class RemoveTree:
    """Remove a directory whose files can belong to ids of the namespace."""

    in_namespace: ClassVar[bool] = True
    parent: str
    name: str

    def run(self) -> Done:
        with opened_directory(self.parent) as fd:
            remove_tree(fd, self.name)
        return Done()


@frozen
class TreeSize:
    """The size of a directory: bytes on the disk."""

    size: int


@frozen
class MeasureTree:
    """Measure a directory whose files can belong to ids of the namespace."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> TreeSize:
        with opened_directory(self.directory) as fd:
            return TreeSize(tree_size(fd))


class _EmptyTar:
    """A tar without content."""

    def read(self, _size: int, /) -> bytes:
        return b""
