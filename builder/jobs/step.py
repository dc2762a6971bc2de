"""The jobs around a RUN: its directories, its layer, the small files that it needs to know, its traces."""

from __future__ import annotations

import os
from typing import ClassVar

from pybuild.builder.files.layer_contents import LayerPlace, StoredContents, view_of
from pybuild.builder.jobs.job import Done, Output, Written, write_output
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.changes import changes
from pybuild.store.layers.tree import make_tree
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.system.directories import remove_tree, tree_size
from pybuild.values import frozen

_FEW = 256  # rows, and
_LITTLE = 2 << 20  # bytes, which take no longer to read and to write than to be told of
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class PrepareStep:
    """Make the directories of a RUN: the upper one with the root's own mode and owner, and overlayfs's own."""

    in_namespace: ClassVar[bool] = True
    upper: str
    work: str
    upper_toc: str  # holds the root's row only

    def run(self) -> Done:
        make_directory(self.upper, self.upper_toc)
        os.mkdir(self.work, 0o700)
        return Done()


@frozen
class MakeDirectory:
    """Make a directory with rows that have no content, such as mount points."""

    in_namespace: ClassVar[bool] = True
    directory: str
    toc: str

    def run(self) -> Done:
        make_directory(self.directory, self.toc)
        return Done()


def make_directory(directory: str, toc: str) -> None:
    """Make a directory with the rows of a table of contents, which have no content."""
    os.mkdir(directory, 0o700)
    fd = os.open(directory, _DIRECTORY)
    try:
        make_tree(Toc.open(toc), _Nothing(), fd)
    finally:
        os.close(fd)


@frozen
class Committed:
    """What became of a RUN. Nothing was written but a table of contents without digests where it was only listed."""

    written: Written | None


@frozen
class CommitStep:
    """Turn what a RUN changed into a layer.

    With `list_if_large` the files of a step that left many, or large ones, are only listed; `FinishStep` does the rest.
    """

    in_namespace: ClassVar[bool] = True
    upper: str
    below: tuple[LayerPlace, ...]
    scaffold_toc: str
    output: Output
    list_if_large: bool

    def run(self) -> Committed:
        fd = os.open(self.upper, _DIRECTORY)
        try:
            entries = changes(fd, view_of(self.below), Toc.open(self.scaffold_toc))
            if self.list_if_large and (len(entries) > _FEW or sum(entry.size for entry in entries) > _LITTLE):
                Toc.write(self.output.toc, entries)
                return Committed(None)
            with TreeContent(fd) as content:
                return Committed(write_output(entries, content, self.output))
        finally:
            os.close(fd)


@frozen
class FinishStep:
    """Turn what a `CommitStep` in haste has listed into a layer."""

    in_namespace: ClassVar[bool] = True
    listed: str
    tree: str
    output: Output

    def run(self) -> Written:
        fd = os.open(self.tree, _DIRECTORY)
        try:
            with TreeContent(fd) as content:
                return write_output(Toc.open(self.listed), content, self.output)
        finally:
            os.close(fd)


@frozen
class FileBytes:
    """The content of a small file, as hexadecimal digits."""

    hex: str


@frozen
class ReadFile:
    """Read a small file of a root filesystem. `layer` is counted from the topmost, `path` is as in its toc."""

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
    """Remove a directory whose files may belong to ids of the namespace."""

    in_namespace: ClassVar[bool] = True
    parent: str
    name: str

    def run(self) -> Done:
        fd = os.open(self.parent, _DIRECTORY)
        try:
            remove_tree(fd, self.name)
        finally:
            os.close(fd)
        return Done()


@frozen
class TreeSize:
    """Bytes on the disk."""

    size: int


@frozen
class MeasureTree:
    """How large a directory is, whoever owns what is in it."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> TreeSize:
        fd = os.open(self.directory, _DIRECTORY)
        try:
            return TreeSize(tree_size(fd))
        finally:
            os.close(fd)


class _Nothing:
    """A tar of no content."""

    def read(self, _size: int, /) -> bytes:
        return b""
