"""The jobs that turn one form of a layer into another: blob, table of contents, tree."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.files.layer_contents import BlobPlace, LayerPlace, StoredContents, check_content
from pybuild.builder.jobs.job import Done, Output, Written, write_files, written_layer
from pybuild.store.formats.compression import Compression, Compressor
from pybuild.store.formats.toc import Kind, Toc
from pybuild.store.layers.tree import make_tree
from pybuild.store.objects.changesets import TREE
from pybuild.store.system.directories import opened_directory
from pybuild.store.system.holes import create_sparse
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.toc import Entry


@frozen
class MakeTree:
    """Unpack a layer into a directory that can be an overlay's lower layer: `fs` in the new `directory`."""

    in_namespace: ClassVar[bool] = True
    toc: str
    blob: BlobPlace
    directory: str

    def run(self) -> Done:
        with new_tree(self.directory) as fd:
            tar = self.blob.open(hashed=False)
            make_tree(Toc.open(self.toc), tar, fd)
            tar.finish()  # reads to the end, where the digest is checked
        return Done()


@contextmanager
def new_tree(directory: str) -> Iterator[int]:
    """A descriptor of the empty root of a tree in a new directory. Raises OSError."""
    os.mkdir(directory, 0o700)
    os.mkdir(f"{directory}/{TREE}", 0o755)
    with opened_directory(f"{directory}/{TREE}") as fd:
        yield fd


@frozen
class WriteTar:
    """Make the tar of a changeset, from its tree or from a tar with other times.

    Raises DigestMismatch if a file of the tree has changed since it was read.
    """

    layer: LayerPlace
    spool: str
    output: Output

    @property
    def in_namespace(self) -> bool:
        return self.layer.tree is not None

    def run(self) -> Written:
        entries = list(Toc.open(self.layer.toc))
        with StoredContents([self.layer], self.spool) as contents:
            contents.announce((0, entry) for entry in entries if entry.kind is Kind.FILE and not entry.hardlink)
            layer = write_files(entries, _OneLayer(contents), self.output)
        check_content(entries, layer.entries, f"changeset {self.layer.changeset}")
        return written_layer(layer)


@frozen
class Recompress:
    """Write the tar of a blob with another compression."""

    in_namespace: ClassVar[bool] = False
    blob: BlobPlace
    output: str
    compression: str

    def run(self) -> Written:
        source = self.blob.open()
        with create_sparse(self.output) as out, Compressor(out, Compression(self.compression)) as compressor:
            while data := source.read(1 << 20):
                compressor.write(data)
            digest = compressor.finish()
        return Written(str(source.diff_id()), str(digest), compressor.size)


class _OneLayer:
    def __init__(self, contents: StoredContents) -> None:
        self._contents = contents

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        return self._contents.chunks(0, entry)
