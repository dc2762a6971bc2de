"""The job that copies a part of a failed step's filesystem to a directory of the user."""

from __future__ import annotations

import os
from typing import ClassVar

from pybuild.builder.files.layer_contents import LayerPlace, StoredContents, view_of
from pybuild.builder.jobs.root import changes_in_root
from pybuild.store.exporting.part import write_part
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.changes import changes
from pybuild.store.system.directories import opened_directory
from pybuild.values import frozen


@frozen
class PartWritten:
    """The number of files that were written, and of device nodes that were left out."""

    files: int
    devices: int


@frozen
class ExportFailedStep:
    """Copy the absolute path `path` of the image, links followed inside it, to `destination`, which must not exist.

    The job runs in the namespace because the files belong to its ids. The namespace's root is the user who runs
    pybuild, and becomes the owner of the copies. `upper` is the upper directory of an overlay, or the root itself.
    """

    in_namespace: ClassVar[bool] = True
    upper: str
    in_overlay: bool
    below: tuple[LayerPlace, ...]
    scaffold_toc: str
    toc: str  # a free path, as is the next
    spool: str
    path: str
    destination: str

    def run(self) -> PartWritten:
        below, scaffold = view_of(self.below), Toc.open(self.scaffold_toc)
        with opened_directory(self.upper) as fd:
            if self.in_overlay:
                found = changes(fd, below, scaffold)
            else:
                found = changes_in_root(self.upper, fd, below, scaffold).changes
            Toc.write(self.toc, *found)
        layers = (LayerPlace("", self.toc, self.upper, None), *self.below)
        with StoredContents(layers, self.spool) as contents:
            report = write_part(view_of(layers), os.fsencode(self.path), contents, self.destination)
        return PartWritten(report.files, len(report.devices))
