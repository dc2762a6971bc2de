"""The layers of a snapshot as files on the disk, for one build: what is known of a layer is asked for once.

A build asks for the layers below at every step, and there may be hundreds: without a memory the fiftieth step would open
fifty tables of contents, and put four questions about each layer to the database, to learn what the step before it knew.
Nothing that is kept here can change, but for a table of contents whose digests come later (`forget`): changesets are never
written again, and the build's lease keeps their files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.files.layer_contents import layer_place
from pybuild.builder.plan.graph import BaseStep, RunStep
from pybuild.builder.steps.layer_forms import ensure_toc, ensure_trees
from pybuild.builder.steps.pending_layer import Ahead
from pybuild.store.layers.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.plan.graph import Node
    from pybuild.builder.steps.pending_layer import Parent
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.toc import Toc
    from pybuild.store.store import Store


def run_on(nodes: Sequence[Node]) -> frozenset[int]:
    """The snapshots of the images that RUN steps of a plan stand on."""
    found = set()
    seen: set[int] = set()
    for node in nodes:
        if isinstance(node.step, RunStep):
            while node.parent is not None and node.id not in seen:
                seen.add(node.id)
                node = nodes[node.parent]
            if isinstance(node.step, BaseStep) and node.step.image.snapshot is not None:
                found.add(node.step.image.snapshot)
    return frozenset(found)


class Stacks:
    """For one build."""

    def __init__(self, store: Store, pool: Pool, run_on: frozenset[int]) -> None:
        """`run_on` are the bases that steps run on: what is read of them will be mounted as well."""
        self._store = store
        self._pool = pool
        self._run_on = run_on
        self._expanded: dict[str, str] = {}  # changeset -> its tar, until its tree is made
        self._tree_map = pool.tree_map
        self._places: dict[str, LayerPlace] = {}  # by changeset, each with a blob or a tree
        self._tocs: dict[str, Toc] = {}  # by changeset

    async def layers(self, snapshot: Parent) -> tuple[LayerPlace, ...]:
        """The layers of a snapshot, the topmost first, each with a table of contents.

        Raises DigestMismatch, InvalidImage, UnsafePath for a layer that is not what its image claims or breaks the rules.
        """
        if isinstance(snapshot, Ahead):
            below = await self.layers(snapshot.below)
            return (layer_place(self._store, snapshot.changeset, self._tree_map), *below)
        if self._tree_map != self._pool.tree_map:  # a namespace was refused: trees are out of reach
            self._tree_map = self._pool.tree_map
            self._places.clear()
        chain = self._store.snapshots.changesets(snapshot)
        for number in reversed(range(len(chain))):  # a reader needs what lies below
            if chain[number] not in self._places:
                expanded = self._store.ingest.new_path() if snapshot in self._run_on else ""
                await ensure_toc(self._store, self._pool, chain[number], chain[number + 1 :], expanded)
                if os.path.lexists(expanded):
                    self._expanded[chain[number]] = expanded
                self._keep(layer_place(self._store, chain[number], self._tree_map))
        return tuple(self._places.get(one) or layer_place(self._store, one, self._tree_map) for one in chain)

    async def with_trees(self, layers: Sequence[LayerPlace]) -> tuple[LayerPlace, ...]:
        """The same layers, each with a tree, less those that change nothing. Raises SandboxError, StoreError."""
        wanted = [layer for layer in layers if len(self._toc(layer))]
        expanded = {
            one.changeset: self._expanded.pop(one.changeset) for one in wanted if one.changeset in self._expanded
        }
        found = await ensure_trees(self._store, self._pool, wanted, expanded)
        for layer in found:
            self._keep(layer)
        return found

    def view(self, layers: Sequence[LayerPlace]) -> View:
        """The root filesystem of these layers."""
        return View([self._toc(layer) for layer in layers])

    def forget(self, changeset: str) -> None:
        """The table of contents of a changeset was replaced by a whole one."""
        self._tocs.pop(changeset, None)

    def _keep(self, layer: LayerPlace) -> None:
        if layer.blob is not None or layer.tree is not None:
            self._places[layer.changeset] = layer

    def _toc(self, layer: LayerPlace) -> Toc:
        toc = self._tocs.get(layer.changeset)
        if toc is None:
            toc = self._tocs[layer.changeset] = self._store.changesets.toc(layer.changeset)
        return toc
