"""Which records of a finished build a cache gets: those of its steps, each with its layer if the cache wants that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pybuild.builder.cache_export.tables import StackedLayer
from pybuild.builder.cache_places import CacheMode
from pybuild.builder.host.id_map import MapKind
from pybuild.builder.plan.graph import BaseStep, CopyStep
from pybuild.builder.solve.travelling_inputs import travelling
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.layer_forms import ensure_layer
from pybuild.builder.steps.new_layers import nodes_of_image
from pybuild.builder.workers.tasks import gather, run_until_complete
from pybuild.store.formats.cache_index import CachedLayer, CachedStep, CacheIndex, CacheRecord
from pybuild.store.formats.clamp import newest_time
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.records import KeyKind
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Container

    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.session import Session
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.changesets import LayerBlob
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.records import Record


@frozen
class Collected:
    """The records of a build, and the stacks of layers that they have and stand on: a stack for each base, one of steps."""

    index: CacheIndex
    stacks: tuple[tuple[StackedLayer, ...], ...]


def collect(
    session: Session,
    plan: Plan,
    cache: BuildCache,
    mode: CacheMode,
    compression: Compression,
    *,
    reproducible: bool = False,
    only: Container[int] | None = None,
) -> Collected:
    """The records of a build whose steps are all made, or of those in `only`. Missing tars are made.

    A `reproducible` index has nothing that depends on when and where the same image was built before: only those keys that
    every build of it can compute, and no inputs. Raises BuildError, StoreError.
    """
    collector = _Collector(session, plan, cache, mode, compression, reproducible=reproducible, only=only)
    return run_until_complete(collector.collect())


class _Collector:
    def __init__(
        self,
        session: Session,
        plan: Plan,
        cache: BuildCache,
        mode: CacheMode,
        compression: Compression,
        *,
        reproducible: bool,
        only: Container[int] | None,
    ) -> None:
        self._reproducible = reproducible
        self._nodes = [node for node in plan.nodes if only is None or node.id in only]
        self._session = session
        self._store = session.store
        self._fetcher = LayerFetcher.of(session)
        self._plan = plan
        self._cache = cache
        self._compression = compression
        self._now = int(time.time())
        self._shown = nodes_of_image(plan)  # the nodes whose text the history of the image has
        nodes = range(len(plan.nodes)) if mode is CacheMode.MAX else self._shown
        self._with_layer = self._nodes_with_layers(nodes)

    def _nodes_with_layers(self, wanted: Container[int]) -> set[int]:
        """Those of the wanted nodes whose layers can travel: with all below them, and made from nothing doubtful.

        A command that ran with a single id is doubtful: it might have gone on after a chown that failed.
        """
        found: set[int] = set()
        doubtful: set[int] = set()
        for node in self._nodes:
            record = self._cache.records.get(node.id)
            ran_with_one_id = record is not None and self._store.records.id_map(record) == MapKind.SINGLE.value
            if ran_with_one_id or not doubtful.isdisjoint((node.parent, *node.sources)):
                doubtful.add(node.id)
            elif node.id in wanted and (node.parent is None or node.parent in found):
                if record is not None or isinstance(node.step, BaseStep):
                    found.add(node.id)
        return found

    async def collect(self) -> Collected:
        nodes = [self._plan.nodes[node] for node in sorted(self._with_layer)]
        steps = [node for node in nodes if not isinstance(node.step, BaseStep)]
        blobs = await gather(self._layer(node) for node in steps)
        layers = {node.id: blob for node, blob in zip(steps, blobs, strict=True)}
        chains: dict[int | None, Digest | None] = {None: None}
        records = []
        bases, made = [], []
        for node in self._nodes:
            if isinstance(node.step, BaseStep):
                bases.append(self._base(node.step.image))
                chains[node.id] = bases[-1][-1].chain if bases[-1] else None
                continue
            if node.id in layers:
                below, layer = chains[node.parent], layers[node.id]
                chain = chain_id((layer.diff_id,) if below is None else (below, layer.diff_id))
                chains[node.id] = chain
                changeset = self._store.snapshots.changesets(self._cache.results[node.id].snapshot)[0]
                made.append(StackedLayer(changeset, chain, below))
                records.append(self._whole_record(node, layer, below))
            elif (record := self._bare_record(node)) is not None:
                records.append(record)
        return Collected(CacheIndex(tuple(records)), (*bases, tuple(made)))

    def _base(self, image: StoredImage) -> tuple[StackedLayer, ...]:
        """The layers of a base image, the lowest first."""
        found: list[StackedLayer] = []
        changesets = self._store.snapshots.changesets(image.snapshot)[::-1]
        for changeset, diff_id in zip(changesets, image.config.diff_ids, strict=True):
            below = found[-1].chain if found else None
            chain = chain_id((diff_id,) if below is None else (below, diff_id))
            found.append(StackedLayer(changeset, chain, below))
        return tuple(found)

    async def _layer(self, node: Node) -> LayerBlob:
        chain = self._store.snapshots.changesets(self._cache.results[node.id].snapshot)
        return await ensure_layer(self._fetcher, chain, 0, self._session.options.clamp, self._compression)

    def _whole_record(self, node: Node, layer: LayerBlob, below: Digest | None) -> CacheRecord:
        record = self._cache.records[node.id]
        parent = None if node.parent is None else self._plan.nodes[node.parent]
        changeset = self._store.snapshots.changesets(record.snapshot)[0]
        return CacheRecord(
            self._keys(node, record),
            record.canonical,
            record.created,
            self._now,
            self._step(node, self._store.records.inputs(record)),
            CachedLayer(layer.diff_id, layer.digest, layer.size, layer.compression),
            below,
            on_base=parent is not None and isinstance(parent.step, BaseStep) and below is not None,
            clamp=newest_time(self._store.changesets.clamp_of(changeset, layer.diff_id)),
        )

    def _bare_record(self, node: Node) -> CacheRecord | None:
        """A record without a layer: steps that copy from this one can be found by it."""
        record, canonical = self._cache.records.get(node.id), self._cache.keys.canonical.get(node.id)
        keys = self._keys(node, record)
        if canonical is None or not keys:
            return None
        inputs = "{}" if record is None else self._store.records.inputs(record)
        created = 0 if record is None or self._reproducible else record.created
        return CacheRecord(keys, canonical, created, self._now, self._step(node, inputs))

    def _keys(self, node: Node, record: Record | None) -> dict[str, str]:
        """The keys of a node: those that follow from the plan and the context, and those that its record has besides."""
        keys: dict[str, KeyKind] = {}
        if record is not None and not self._reproducible:
            keys = self._store.records.keys(record)
        step, key = node.step, self._cache.definition(node)
        from_context = isinstance(step, CopyStep) and step.reads_context
        if key is not None:
            keys[key.digest] = KeyKind.TEXT if from_context else KeyKind.DEFINITION
        if isinstance(step, CopyStep) and step.link and record is not None:
            keys[record.canonical] = KeyKind.CONTENT
        elif from_context and (source_key := self._cache.keys.known_source_key(node)) is not None:
            keys[source_key.digest] = KeyKind.CONTENT
        # A key that is claimed here is one like others there.
        return {name: (KeyKind.CONTENT if kind is KeyKind.CLAIMED else kind).value for name, kind in keys.items()}

    def _step(self, node: Node, inputs: str) -> CachedStep:
        if self._reproducible:
            return CachedStep(node.stage, node.number, node.text, "{}")
        sources = self._cache.keys.sources_of(node)
        return CachedStep(
            node.shown_stage, node.number, node.text, travelling(inputs, sources, clear=node.id in self._shown)
        )
