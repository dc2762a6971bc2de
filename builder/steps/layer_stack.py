"""The layers of snapshots as files on the disk, remembered for one build.

Every step asks for the layers below it, and there can be hundreds. Without this cache the fiftieth step would open
fifty tables of contents and send four database queries for each layer, all of which the step before it did as well.
Entries never become stale, because changesets are never rewritten and the lease of the build protects their files from
gc. One exception: a table of contents can be replaced once by one with digests (`forget`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pybuild.builder.errors import ClaimedTableWrong
from pybuild.builder.files.layer_contents import LayerPlace, layer_place
from pybuild.builder.plan.graph import BaseStep, RunStep
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.copied_trees import CopiedTrees
from pybuild.builder.steps.layer_forms import ensure_content, ensure_toc, ensure_trees
from pybuild.builder.steps.pending_layer import PendingLayer
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.builder.plan.graph import Node
    from pybuild.builder.session import Session
    from pybuild.builder.steps.pending_layer import Parent
    from pybuild.store.formats.digest import Digest


class TableFinder(Protocol):
    """Knows what layers hold that are elsewhere, as caches of other machines say it."""

    def has(self, chain: Digest) -> bool:
        """Whether something is said of the layer with this chain ID."""
        ...

    async def of(self, chain: Digest, below: Sequence[str]) -> FoundTable | None:
        """What a layer holds. `below` are the paths of the tables of the layers under it, topmost first."""
        ...


class FoundTable(Protocol):
    """A table of contents that was made elsewhere, in the file `path`, and the digest of what it says."""

    @property
    def path(self) -> str: ...

    @property
    def digest(self) -> str: ...


_VIEWS = 32  # that are kept: steps of several stages alternate


def bases_of_runs(nodes: Sequence[Node]) -> frozenset[int]:
    """The snapshots of the base images that RUN steps of a plan stand on."""
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


class LayerStacks:
    """The layers of all snapshots that one build asks about."""

    def __init__(self, session: Session, bases_of_runs: frozenset[int], tables: TableFinder | None = None) -> None:
        """`bases_of_runs`: snapshots whose layers a RUN will mount: they get their trees while they are read."""
        self._claimed_tables = tables
        # Changesets whose tables of contents are those of a cache, so far, with the digests of these.
        self._claimed: dict[str, str] = {}
        self._store = session.store
        self._fetcher = LayerFetcher.of(session)
        self._pool = session.pool
        self._copied_trees = CopiedTrees(session)
        self._below_runs = set(bases_of_runs)
        self._tree_map = self._pool.tree_map
        self._places: dict[str, LayerPlace] = {}  # by changeset, each with a blob or a tree
        self._tocs: dict[str, Toc] = {}  # by changeset
        self._views: dict[tuple[str, ...], View] = {}  # the last ones, by the changesets of their layers

    def expect_runs_on(self, snapshots: Iterable[int]) -> None:
        """The layers of these snapshots will be mounted: they get their trees while they are read."""
        self._below_runs.update(snapshots)

    async def layers(self, parent: Parent) -> tuple[LayerPlace, ...]:
        """The layers below a step, the topmost first, each with a table of contents.

        Raises as `ensure_tocs` does.
        """
        if isinstance(parent, PendingLayer):
            below = await self.layers(parent.below)
            return (layer_place(self._store, parent.changeset, self._tree_map), *below)
        if self._tree_map != self._pool.tree_map:  # the kernel refused a namespace: trees cannot be read
            self._tree_map = self._pool.tree_map
            self._places.clear()
        chain = self._store.snapshots.changesets(parent)
        for number in reversed(range(len(chain))):  # reading a layer needs the tables of contents below it
            if chain[number] not in self._places:
                await ensure_toc(self._fetcher, chain, number, want_tree=parent in self._below_runs)
                if chain[number] in self._claimed:
                    self.check_claimed(chain[number])
                    del self._claimed[chain[number]]
                    self.forget(chain[number])
                place = layer_place(self._store, chain[number], self._tree_map)
                self._remember(await ensure_content(self._fetcher, place))
        return tuple(self._places.get(name) or layer_place(self._store, name, self._tree_map) for name in chain)

    def layer(self, changeset: str) -> LayerPlace:
        """A layer of this build, which is here."""
        return layer_place(self._store, changeset, self._tree_map)

    async def claimed(self, parent: Parent) -> tuple[LayerPlace, ...]:
        """The layers below a step that only has to know what they hold, perhaps without content, tree and blob.

        What caches say of layers that are elsewhere serves, if they say it of all of them. Raises as `layers` does.
        """
        if self._claimed_tables is None or parent is None or isinstance(parent, PendingLayer):
            return await self.layers(parent)
        places: list[LayerPlace] = []  # topmost first
        chain: Digest | None = None
        for changeset in reversed(self._store.snapshots.changesets(parent)):
            unread = self._store.changesets.unread(changeset)
            diff_id = self._store.changesets.any_diff_id(changeset) if unread is None else unread.diff_id
            if diff_id is None:
                return await self.layers(parent)
            chain = diff_id if chain is None else chain_id((chain, diff_id))
            if unread is None:
                places.insert(0, layer_place(self._store, changeset, self._tree_map))
                continue
            found = (
                await self._claimed_tables.of(chain, [place.toc for place in places])
                if self._claimed_tables.has(chain)
                else None
            )
            if found is None:
                return await self.layers(parent)
            if not self._store.changesets.claim_table(changeset, found.digest):
                return await self.layers(parent)
            self._claimed[changeset] = found.digest
            places.insert(0, LayerPlace(changeset, found.path, None, None))
        return tuple(places)

    def check_claimed(self, *changesets: str) -> None:
        """Raise ClaimedTableWrong if another build has read one of these layers, and it does not hold what a cache says.

        Without changesets: one of all layers on which files were placed by what a cache says.
        """
        for changeset in changesets or self._claimed:
            if self._store.changesets.claimed_table(changeset) != self._claimed[changeset]:
                raise ClaimedTableWrong("a layer does not hold what a cache says it holds")

    async def with_trees(self, layers: Sequence[LayerPlace]) -> tuple[LayerPlace, ...]:
        """The same layers, each with a tree, without those that change nothing. Raises SandboxError, StoreError."""
        wanted = [layer for layer in layers if len(self._toc(layer))]
        await self._copied_trees.settle(layer.changeset for layer in wanted if layer.tree is None)
        found = await ensure_trees(self._store, self._pool, wanted)
        for layer in found:
            self._remember(layer)
        return found

    async def readable(self, layers: Sequence[LayerPlace]) -> tuple[LayerPlace, ...]:
        """The same layers, each with a tree or a blob, for a reader of their files. Raises SandboxError, StoreError."""
        lost = [layer for layer in layers if layer.tree is None and layer.blob is None and len(self._toc(layer))]
        await self._copied_trees.settle(layer.changeset for layer in lost)
        settled = {layer.changeset: layer_place(self._store, layer.changeset, self._tree_map) for layer in lost}
        return tuple(settled.get(layer.changeset, layer) for layer in layers)

    def view(self, layers: Sequence[LayerPlace]) -> View:
        """The root filesystem of these layers. Answers about those below the topmost are kept for the next step."""
        names = tuple(layer.changeset for layer in layers)
        view = self._views.get(names)
        if view is None:
            below = self._views.get(names[1:]) if names else None
            tocs = [self._toc(layer) for layer in layers]
            view = View(tocs) if below is None else below.on_top(tocs[0])
            self._views[names] = view
            if len(self._views) > _VIEWS:
                del self._views[next(iter(self._views))]
        return view

    def forget(self, changeset: str) -> None:
        """Read the table of contents of a changeset again: it has been replaced by one with digests."""
        self._tocs.pop(changeset, None)
        for names in [names for names in self._views if changeset in names]:
            del self._views[names]

    def _remember(self, layer: LayerPlace) -> None:
        if layer.blob is not None or layer.tree is not None:
            self._places[layer.changeset] = layer

    def _toc(self, layer: LayerPlace) -> Toc:
        toc = self._tocs.get(layer.changeset)
        if toc is None:
            claimed = layer.changeset in self._claimed
            toc = Toc.open(layer.toc) if claimed else self._store.changesets.toc(layer.changeset)
            self._tocs[layer.changeset] = toc
        return toc
