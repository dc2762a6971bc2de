"""Which records of a finished build a cache gets: those of its steps, each with its layer if the cache wants that.

What steps were made of travels in part: of the environment only names and hashes of values, because a build argument of
another stage might be a token; the command only if the history of the image shows it anyway.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from pybuild.builder.cache_places import CacheMode
from pybuild.builder.host.id_map import MapKind
from pybuild.builder.plan.graph import BaseStep, CopyStep
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.layer_forms import ensure_layer
from pybuild.builder.steps.new_layers import nodes_of_image
from pybuild.builder.workers.tasks import gather, run_until_complete
from pybuild.store.formats.cache_index import CachedLayer, CachedStep, CacheIndex, CacheRecord
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.records import KeyKind

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.session import Session
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.changesets import LayerBlob

HASHED = "sha256:"  # before the hash of a text that does not travel


def collect(session: Session, plan: Plan, cache: BuildCache, mode: CacheMode, compression: Compression) -> CacheIndex:
    """The records of a build whose steps are all made. Missing tars are made. Raises BuildError, StoreError."""
    return run_until_complete(_Collector(session, plan, cache, mode, compression).collect())


class _Collector:
    def __init__(
        self, session: Session, plan: Plan, cache: BuildCache, mode: CacheMode, compression: Compression
    ) -> None:
        self._session = session
        self._store = session.store
        self._fetcher = LayerFetcher.of(session)
        self._plan = plan
        self._cache = cache
        self._compression = compression
        self._now = int(time.time())
        self._shown = nodes_of_image(plan)  # the nodes whose text the history of the image has
        nodes = range(len(plan.nodes)) if mode is CacheMode.MAX else self._shown
        self._with_layer = {node for node in nodes if self._has_layer(plan.nodes[node])}

    def _has_layer(self, node: Node) -> bool:
        """Whether the record of a node and those below it can travel with their layers.

        A command that ran with a single id might have gone on after a chown that failed.
        """
        below: int | None = node.id
        while below is not None:
            node = self._plan.nodes[below]
            if isinstance(node.step, BaseStep):
                return True
            record = self._cache.records.get(node.id)
            if record is None or self._store.records.id_map(record) == MapKind.SINGLE.value:
                return False
            below = node.parent
        return True

    async def collect(self) -> CacheIndex:
        nodes = [self._plan.nodes[node] for node in sorted(self._with_layer)]
        steps = [node for node in nodes if not isinstance(node.step, BaseStep)]
        blobs = await gather(self._layer(node) for node in steps)
        layers = {node.id: blob for node, blob in zip(steps, blobs, strict=True)}
        chains: dict[int | None, Digest | None] = {None: None}
        records = []
        for node in self._plan.nodes:
            if isinstance(node.step, BaseStep):
                diff_ids = node.step.image.config.diff_ids
                chains[node.id] = chain_id(diff_ids) if diff_ids else None
                continue
            if node.id in layers:
                below, layer = chains[node.parent], layers[node.id]
                chains[node.id] = chain_id((layer.diff_id,) if below is None else (below, layer.diff_id))
                records.append(self._whole_record(node, layer, below))
            elif (record := self._bare_record(node)) is not None:
                records.append(record)
        return CacheIndex(tuple(records))

    async def _layer(self, node: Node) -> LayerBlob:
        chain = self._store.snapshots.changesets(self._cache.results[node.id].snapshot)
        return await ensure_layer(self._fetcher, chain, 0, self._session.options.epoch, self._compression)

    def _whole_record(self, node: Node, layer: LayerBlob, below: Digest | None) -> CacheRecord:
        record = self._cache.records[node.id]
        parent = None if node.parent is None else self._plan.nodes[node.parent]
        changeset = self._store.snapshots.changesets(record.snapshot)[0]
        return CacheRecord(
            {key: kind.value for key, kind in self._store.records.keys(record).items()},
            record.canonical,
            record.created,
            self._now,
            self._step(node, self._store.records.inputs(record)),
            CachedLayer(layer.diff_id, layer.digest, layer.size, layer.compression),
            below,
            on_base=parent is not None and isinstance(parent.step, BaseStep) and below is not None,
            clamp=self._store.changesets.clamp_of(changeset, layer.diff_id),
        )

    def _bare_record(self, node: Node) -> CacheRecord | None:
        """A record without a layer: steps that copy from this one can be found by it."""
        canonical, key = self._cache.keys.canonical.get(node.id), self._cache.definition(node)
        if canonical is None or key is None:
            return None
        record = self._cache.records.get(node.id)
        by_text = isinstance(node.step, CopyStep) and node.step.reads_context
        keys = {key.digest: KeyKind.TEXT if by_text else KeyKind.DEFINITION}
        if isinstance(node.step, CopyStep) and (source_key := self._cache.keys.known_source_key(node)) is not None:
            keys[source_key.digest] = KeyKind.CONTENT
        inputs = key.inputs
        if record is not None:
            keys = {**self._store.records.keys(record), **keys}
            inputs = self._store.records.inputs(record)
        created = 0 if record is None else record.created
        found = {key: kind.value for key, kind in keys.items()}
        return CacheRecord(found, canonical, created, self._now, self._step(node, inputs))

    def _step(self, node: Node, inputs: str) -> CachedStep:
        return CachedStep(node.stage, node.number, node.text, travelling(inputs, clear=node.id in self._shown))


def travelling(inputs: str, *, clear: bool) -> str:
    """The fields of a key as they travel. With `clear` the command is readable."""
    fields = json.loads(inputs)
    if "env" in fields:
        pairs = (str(pair).partition("=") for pair in fields["env"])
        fields["env"] = [f"{name}={hashed(value)}" for name, _, value in pairs]
    if "argv" in fields and not clear:
        fields["argv"] = [hashed(str(word)) for word in fields["argv"]]
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def hashed(text: str) -> str:
    """A text as it travels: its hash, with which it can be compared."""
    return HASHED + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
