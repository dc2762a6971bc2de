"""Roots of steps as overlays: the trees of the layers, shared by all steps, with a writable directory on top."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.events import layer_progress
from pybuild.builder.files.layer_contents import layer_place
from pybuild.builder.jobs.mount import PrepareBindMount
from pybuild.builder.jobs.step import CommitStep, FinishStep, PrepareStep
from pybuild.builder.sandbox.mounts import BoundFiles
from pybuild.builder.steps.step_root import StepRoot
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.view import ROOT
from pybuild.store.objects.changesets import TREE

if TYPE_CHECKING:
    from pybuild.builder.events import StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.plan.graph import FilesMount, Node
    from pybuild.builder.session import Session
    from pybuild.builder.steps.layer_stack import LayerStacks
    from pybuild.builder.steps.mount_points import Scaffold
    from pybuild.builder.steps.new_layers import NewLayers
    from pybuild.builder.steps.pending_layer import OnListed
    from pybuild.builder.steps.step_root import SourceFiles
    from pybuild.builder.steps.workspace import Workspace


class OverlayRoots:
    """Makes the roots of one build's steps: `StepRoots`."""

    def __init__(self, session: Session, stacks: LayerStacks, layers: NewLayers, workspace: Workspace) -> None:
        self._session = session
        self._store = session.store
        self._pool = session.pool
        self._stacks = stacks
        self._layers = layers
        self._workspace = workspace

    async def prepare(self, layers: tuple[LayerPlace, ...], scaffold: Scaffold, directory: str) -> StepRoot:
        root_entry = self._stacks.view(layers).lookup(b"") or ROOT
        layers = await self._stacks.with_trees(layers)
        scaffold_tree = await self._workspace.scaffold(scaffold.entries)
        upper, work = f"{directory}/tree/{TREE}", f"{directory}/work"
        root = Toc.write(self._store.ingest.new_path(), [root_entry])
        os.mkdir(f"{directory}/tree", 0o700)
        await self._pool.job(PrepareStep(upper, work, root))
        lowers = (scaffold_tree.directory, *(layer.tree for layer in layers if layer.tree is not None))
        return StepRoot(lowers, upper, work, layers, scaffold_tree.toc)

    async def commit(self, node: Node, root: StepRoot, ref: StepRef, on_listed: OnListed | None) -> str:
        changesets, id_map = self._store.changesets, self._pool.id_map.name
        output, on_progress = self._layers.output_beside_tree(node.id), layer_progress(self._session.observe, ref)
        # A failing step with limits stops all workers, so a layer of such a build is never left for later.
        listing_first = on_listed is not None and self._session.cgroups is None
        job = CommitStep(root.upper, root.layers, root.scaffold_toc, output, listing_first)
        written = (await self._pool.job(job, on_progress)).written
        changeset = changesets.adopt_with_tree(output.toc, id_map, os.path.dirname(root.upper))
        if written is None:
            assert on_listed is not None
            on_listed(changeset)
            layer = layer_place(self._store, changeset, id_map)
            assert layer.tree is not None
            output = self._layers.output_beside_tree(node.id)
            written = await self._pool.job(FinishStep(layer.toc, layer.tree, output), on_progress)
            changesets.replace_toc(changeset, output.toc)
            self._stacks.forget(changeset)
        self._layers.add_tar(changeset, written, output)
        return changeset

    async def bind(self, mount: FilesMount, files: SourceFiles, directory: str) -> BoundFiles:
        trees = [layer.tree for layer in await self._stacks.with_trees(files.layers) if layer.tree is not None]
        root = Toc.write(self._store.ingest.new_path(), [self._stacks.view(files.layers).lookup(b"") or ROOT])
        await self._pool.job(PrepareBindMount(directory, root))
        return BoundFiles(
            mount.target,
            (f"{directory}/above", *trees, f"{directory}/below"),
            f"{directory}/upper",
            f"{directory}/work",
            f"{directory}/root",
            files.path,
            files.is_directory,
            mount.read_only,
        )
