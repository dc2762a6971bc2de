"""The jobs of a RUN without an overlay: make its root in a real directory, find what it changed, copy files for a bind mount.

The directory of a root is `fs`; beside it lies `facts`, what stat(2) said about each file before the command began
(store/layers/root_facts.py). Both stay for the next RUN of the stage.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.files.layer_contents import BlobPlace, LayerPlace, view_of
from pybuild.builder.jobs.job import Done, Output, Written, write_output
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.root_changes import RootChanges, root_changes
from pybuild.store.layers.root_directory import prepare_root, put_layers, tidy_root
from pybuild.store.layers.root_facts import Facts
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.objects.changesets import TREE
from pybuild.store.system.directories import opened_directory
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.store.layers.view import View
    from pybuild.store.system.streams import Readable

_FACTS = "facts"


@frozen
class PrepareRoot:
    """Make the directory of a root ready for a step on `layers`, the topmost first, with the mount points of `scaffold_toc`.

    It holds the lowest `present` of the layers, as an earlier step left them; if 0, it is made. The paths `separate` get files
    of their own, although they are names of one file.
    """

    in_namespace: ClassVar[bool] = True
    directory: str
    layers: tuple[LayerPlace, ...]
    present: int
    scaffold_toc: str
    separate: tuple[str, ...]

    def run(self) -> Done:
        if not self.present:
            os.mkdir(self.directory, 0o700)
            os.mkdir(f"{self.directory}/{TREE}", 0o700)
        known = _read_facts(self.directory) if self.present else None
        new = _sources(self.layers[: len(self.layers) - self.present])
        with opened_directory(self.directory) as scratch, opened_directory(f"{self.directory}/{TREE}") as fd:
            scaffold, view = Toc.open(self.scaffold_toc), view_of(self.layers)
            facts = prepare_root(fd, new, known, scaffold, view, scratch, frozenset(map(os.fsencode, self.separate)))
        _write_facts(self.directory, facts)
        return Done()


@frozen
class RootCommitted:
    """The layer of a RUN, or None: the step changed files with several names, and must run again with `separate` names."""

    written: Written | None
    separate: tuple[str, ...] = ()


@frozen
class CommitRoot:
    """Write what a RUN changed in its root as a layer, and have the root hold that layer. The fields are as in PrepareRoot."""

    in_namespace: ClassVar[bool] = True
    directory: str
    layers: tuple[LayerPlace, ...]
    scaffold_toc: str
    output: Output

    def run(self) -> RootCommitted:
        facts, below, scaffold = _read_facts(self.directory), view_of(self.layers), Toc.open(self.scaffold_toc)
        with opened_directory(f"{self.directory}/{TREE}") as fd:
            found = root_changes(fd, below, facts, scaffold)
            if found.shared:
                return RootCommitted(None, tuple(map(os.fsdecode, found.shared)))
            with TreeContent(fd) as content:
                written = write_output(found.changes.entries, content, self.output, found.changes.links)
            _write_facts(self.directory, tidy_root(fd, found, facts, scaffold, below))
        return RootCommitted(written)


def changes_in_root(tree: str, fd: int, below: View, scaffold: Toc) -> RootChanges:
    """What a failed step changed in its root, the directory `tree`, of which `fd` is a descriptor."""
    return root_changes(fd, below, _read_facts(os.path.dirname(tree)), scaffold)


@frozen
class CopyBoundFiles:
    """Copy what a bind mount shows, `path` of `layers`, the topmost first, into a new directory, with its parents."""

    in_namespace: ClassVar[bool] = True
    directory: str
    layers: tuple[LayerPlace, ...]
    path: str  # absolute, without symbolic links

    def run(self) -> Done:
        os.mkdir(self.directory, 0o700)
        with opened_directory(self.directory) as fd:
            put_layers(fd, _sources(self.layers), {}, os.fsencode(self.path.strip("/")))
        return Done()


@frozen
class _SourceLayer:
    """A layer for `put_layers`."""

    toc: Toc
    tree: str | None
    blob: BlobPlace | None
    changeset: str

    @contextmanager
    def tar(self) -> Iterator[Readable]:
        if self.blob is None:
            raise InvalidImage(f"changeset {self.changeset} has neither a tree nor a tar")
        tar = self.blob.open(hashed=False)
        yield tar
        tar.finish()  # reads to the end, where the digest is checked


def _sources(layers: Sequence[LayerPlace]) -> list[_SourceLayer]:
    return [_SourceLayer(Toc.open(layer.toc), layer.tree, layer.blob, layer.changeset) for layer in layers]


def _read_facts(directory: str) -> Facts:
    with open(f"{directory}/{_FACTS}", "rb") as file:
        return Facts.decode(file.read())


def _write_facts(directory: str, facts: Facts) -> None:
    with open(f"{directory}/{_FACTS}", "wb") as file:
        file.write(facts.encode())
