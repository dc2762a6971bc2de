"""Roots of steps as directories with copies of all files, where the filesystem of the store takes no overlay.

Such a root is made once for several RUN of a stage: a step finds it as the one before left it, and layers that came between
(a COPY) are put on it. A step that fails takes its root with it, and of several steps on one layer only the first finds a
root. Each layer is written as a tar at once: nothing but the tar survives the build, and no step begins on an unwritten layer.

A step that writes through one of several names of a file of the image runs twice: only where each name has a file of its own is
its layer the one that an overlay gives (store/layers/root_directory.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.events import Note, layer_progress
from pybuild.builder.jobs.root import CommitRoot, CopyBoundFiles, PrepareRoot
from pybuild.builder.plan.graph import RunStep
from pybuild.builder.sandbox.mounts import CopiedFiles
from pybuild.builder.steps.removal import discard
from pybuild.builder.steps.step_root import StepRoot
from pybuild.store.formats.toc import Toc
from pybuild.store.objects.changesets import TREE
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.events import StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.plan.graph import FilesMount, Node
    from pybuild.builder.session import Session
    from pybuild.builder.steps.layer_stack import LayerStacks
    from pybuild.builder.steps.mount_points import Scaffold
    from pybuild.builder.steps.new_layers import NewLayers
    from pybuild.builder.steps.pending_layer import OnListed
    from pybuild.builder.steps.step_root import SourceFiles


def nodes_below_runs(nodes: Sequence[Node]) -> frozenset[int]:
    """The nodes on which a RUN stands, directly or on steps between."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node.step, RunStep):
            parent = node.parent
            while parent is not None and parent not in found:
                found.add(parent)
                parent = nodes[parent].parent
    return frozenset(found)


@frozen
class _FreeRoot:
    """A root that no step uses: its directory in the ingest, and the changesets of the layers that it holds, topmost first."""

    directory: str
    changesets: tuple[str, ...]


class CopiedRoots:
    """Makes the roots of one build's steps: `StepRoots`."""

    def __init__(self, session: Session, stacks: LayerStacks, layers: NewLayers, below_runs: frozenset[int]) -> None:
        """`below_runs` are the nodes whose root a later step can use."""
        self._session = session
        self._store = session.store
        self._pool = session.pool
        self._stacks = stacks
        self._layers = layers
        self._below_runs = below_runs
        self._free: list[_FreeRoot] = []
        self._separate: dict[tuple[str, ...], set[str]] = {}  # by layers: names that a step on them must have files of

    async def prepare(self, layers: tuple[LayerPlace, ...], scaffold: Scaffold, directory: str) -> StepRoot:
        layers = await self._stacks.readable(layers)
        scaffold_toc = Toc.write(self._store.ingest.new_path(), scaffold.entries)
        place = f"{directory}/root"
        wanted = tuple(layer.changeset for layer in layers)
        present = self._take(wanted, place)
        separate = tuple(sorted(self._separate.get(wanted, ())))
        await self._pool.job(PrepareRoot(place, layers, present, scaffold_toc, separate))
        return StepRoot((), f"{place}/{TREE}", "", layers, scaffold_toc)

    def _take(self, wanted: tuple[str, ...], place: str) -> int:
        """Move the free root that holds most of the wanted layers to `place`; return how many it holds, 0 if there is none."""
        usable = [root for root in self._free if wanted[-len(root.changesets) :] == root.changesets]
        if not usable:
            return 0
        best = max(usable, key=lambda root: len(root.changesets))
        self._free.remove(best)
        os.rename(best.directory, place)
        return len(best.changesets)

    async def commit(self, node: Node, root: StepRoot, ref: StepRef, on_listed: OnListed | None) -> str | None:
        output, on_progress = self._layers.output(node.id), layer_progress(self._session.observe, ref)
        place = os.path.dirname(root.upper)
        job = CommitRoot(place, root.layers, root.scaffold_toc, output)
        committed = await self._pool.job(job, on_progress)
        below = tuple(layer.changeset for layer in root.layers)
        if committed.written is None:
            self._separate.setdefault(below, set()).update(committed.separate)
            text = f"the step runs again, because it changed a file with {len(committed.separate)} names: /{committed.separate[0]}"
            self._session.observe(Note(text))
            return None
        changeset = self._layers.adopt(committed.written, output)
        if node.id in self._below_runs:
            directory = self._store.ingest.new_path()
            os.rename(place, directory)
            self._free.append(_FreeRoot(directory, (changeset, *below)))
        return changeset

    async def bind(self, mount: FilesMount, files: SourceFiles, directory: str) -> CopiedFiles:
        await self._pool.job(CopyBoundFiles(directory, await self._stacks.readable(files.layers), files.path))
        return CopiedFiles(mount.target, directory, files.path, files.is_directory, mount.read_only)

    def tidy(self) -> None:
        """Remove the roots that no step uses."""
        while self._free:
            discard(self._store, self._pool, self._free.pop().directory)
