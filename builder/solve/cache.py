"""The build cache, seen from one plan: which record serves a node, and how a new result is recorded.

BuildCache can look up a node as soon as the results that the node reads are known; nothing runs for that. Each kind of
step has its own way (`look_up` lists them). The key of a RUN or WORKDIR is known even if its record is gone, so that
steps that copy from it can still be found.

Records of other machines are asked for only if those of the store do not serve everything.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.caches.offers import NO_OFFERS, Offer, adopt
from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep, WorkdirStep, source_mounts
from pybuild.builder.solve import cache_keys
from pybuild.builder.solve.cache_keys import Key
from pybuild.builder.solve.candidates import Candidates
from pybuild.builder.solve.node_keys import NodeKeys, NodeResult, errors_at
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.records import KeyKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pybuild.builder.caches.offers import Offers
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.session import Session
    from pybuild.builder.steps.copied_trees import CopiedTrees
    from pybuild.builder.steps.make import MadeLayer, StepMaker
    from pybuild.store.formats.toc import Entry
    from pybuild.store.objects.records import Record


class BuildCache:
    """The records that matter to one plan."""

    def __init__(self, plan: Plan, session: Session, steps: Callable[[], StepMaker], trees: CopiedTrees) -> None:
        """`steps` is called when a key needs the content of files."""
        self._plan = plan
        self._store = session.store
        self._pool = session.pool
        self._clamp = session.options.clamp
        self._steps = steps
        self._trees = trees
        self.travels = session.options.travels  # whether records come from other machines, or go there
        self._renewed: set[int] = set()  # nodes that were made again: their key can stand for two results
        self._used: list[Record] = []
        self._fetches = True  # whether a look-up may fetch layers, to see what lies below a step
        self._start(NO_OFFERS)

    def _start(self, offers: Offers) -> None:
        """Forget what was looked up."""
        self.keys = NodeKeys(self._store, self._steps)
        self.records: dict[int, Record] = {}  # of the nodes with a result, by node
        self._offers = offers
        self._candidates = Candidates(
            self._plan, self._store, self.keys, offers, self._clamp, self._readable, self._keys_ahead
        )

    @cached_property
    def _has_adopted(self) -> bool:
        """Whether the store has records of other machines, which have no content keys."""
        return self._store.records.came_from_elsewhere()

    @property
    def results(self) -> dict[int, NodeResult]:
        """The known results, by node."""
        return self.keys.results

    def result(self, node: int | None) -> NodeResult | None:
        """The result of a node, if it is known. None stands for scratch, whose result is empty."""
        return self.keys.result(node)

    def know(self, node: Node, result: NodeResult) -> None:
        """Remember the result of a node."""
        self.keys.know(node, result)

    def definition(self, node: Node) -> Key | None:
        """The definition key of a node; None if the key of an input is not known."""
        return self.keys.definition(node)

    def touch(self) -> None:
        """Mark the records that served this build as used now; gc removes the least recently used first."""
        self._store.records.mark_used(self._used, int(time.time()))

    async def look_up_all(self, offers: Offers = NO_OFFERS) -> set[int]:
        """Look up all nodes, inputs first, in the store and among `offers`; return those that a record serves.

        If records can come from elsewhere, no layer is fetched for it.
        """
        self._start(offers)
        self._fetches = not self.travels
        hits = set()
        for node in self._plan.nodes:
            found = await self.look_up(node)
            if found is not None:
                self.know(node, found)
                hits.add(node.id)
        self._fetches = True
        return hits

    # --- looking up, a way for each kind of step

    async def look_up(self, node: Node) -> NodeResult | None:
        """Find a record for a node; None if there is none, or if an input of the node is not known yet."""
        match node.step:
            case BaseStep(image=image):
                return NodeResult(cache_keys.base_key(str(chain_id(image.config.diff_ids))), image.snapshot, 0)
            case CopyStep() as step:
                return await self._look_up_copy(node, step)
            case RunStep() as step:
                return (
                    await self._look_up_mounting_run(node, step)
                    if source_mounts(step)
                    else await self._look_up_plain(node)
                )
            case WorkdirStep():
                return await self._look_up_plain(node)
            case _:
                assert_never(node.step)

    async def _look_up_plain(self, node: Node) -> NodeResult | None:
        """A step that depends on its text and inputs only: by its definition key."""
        key = self.definition(node)
        if key is None or node.fresh:
            return None
        self.keys.learn(node, key.digest, claimed=key.claimed)
        return await self._serve_by_definition(node, key)

    async def _look_up_mounting_run(self, node: Node, step: RunStep) -> NodeResult | None:
        """A RUN that mounts files: by its definition key, else by a key of the content of the files."""
        key = self.definition(node)
        if key is None or node.fresh:
            return None
        self._learn(node, key)
        found = await self._serve_by_definition(node, key)
        if found is not None:
            return found
        if not all(self._is_read(self.result(source)) for source in node.sources):
            return None
        content_key = await self.keys.mounted_key(node, step)
        if content_key is None:
            return None
        self.keys.learn(node, content_key.digest, claimed=content_key.claimed)
        return await self._serve(node, {content_key: KeyKind.CONTENT}, {key: KeyKind.DEFINITION})

    async def _look_up_copy(self, node: Node, step: CopyStep) -> NodeResult | None:
        """A COPY or ADD: by its definition key if all of its sources are immutable, else by their content.

        A record that can come from elsewhere is found by its sources: its layers need not be here.
        """
        if step.remote:
            with errors_at(node, self._store):
                await self._steps().identify(step)
        key = self.definition(node)
        if key is None or node.fresh:
            return None
        if step.link:
            return await self._look_up_link(node, step, key)
        if step.reads_context:
            # The definition key says nothing about the content of the context's files. Reading them for a content key
            # is worth it only if this text was built before; else they are read once, while they are copied.
            if not self._was_built(node, key):
                return None
        else:
            self._learn(node, key)
            if (found := await self._serve_by_definition(node, key)) is not None:
                return found
        if step.remote and not step.reads_context:
            return None
        source = self.result(node.sources[0]) if step.from_stage else None
        if step.from_stage and not self._is_read(source):
            return None
        also = {} if step.reads_context else {key: KeyKind.DEFINITION}
        by_sources = self.travels or self._has_adopted or not self._is_here(self.result(node.parent))
        if by_sources and (source_key := await self.keys.source_key(node, step, source)) is not None:
            self._learn(node, source_key)
            text = {key: KeyKind.TEXT} if step.reads_context else also
            found = await self._serve(node, {source_key: KeyKind.CONTENT}, text)
            if found is not None:
                return found
            also = {**also, source_key: KeyKind.CONTENT}
        parent = self.result(node.parent)
        if parent is None or not self._is_read(parent):
            return None
        content = await self.keys.content(node, parent.snapshot, source)
        content_key = self.keys.content_key(node, step, content)
        # It is known even if the record is gone, like that of a RUN.
        self.keys.learn(node, content_key.digest, claimed=content_key.claimed)
        return await self._serve(node, {content_key: KeyKind.CONTENT}, also)

    async def _look_up_link(self, node: Node, step: CopyStep, key: Key) -> NodeResult | None:
        """A COPY --link: its layer does not depend on what lies below, so a record on any snapshot serves."""
        records, parent = self._store.records, self.result(node.parent)
        if parent is None or (step.reads_context and not self._has_key(key)):
            return None
        keys = [] if step.reads_context or self._reads_renewed(node) else [key]
        found = self._anywhere(keys)
        if found is None and (step.reads_context or not step.remote):
            source = self.result(node.sources[0]) if step.from_stage else None
            if step.from_stage and not self._is_read(source):
                return None
            content = await self.keys.content(node, None, source)
            keys = [cache_keys.link_key(step, node.platform, content)]
            found = self._anywhere(keys)
        if found is None:
            return None
        if isinstance(found, Offer):
            canonical = found.record.canonical
            claimed = canonical not in {asked.digest for asked in keys if not asked.claimed}
        else:
            canonical, claimed = found.canonical, records.is_claimed(found)
        stacked = Key(cache_keys.stacked_key(parent.canonical, canonical), "", claimed or parent.claimed)
        on_stacked = records.find_all(stacked.digest, parent.snapshot, claimed=stacked.claimed)
        on_parent = next(filter(self._readable, on_stacked), None)
        if on_parent is None:
            kind = KeyKind.TEXT if step.reads_context else KeyKind.DEFINITION
            found_by = dict.fromkeys(keys, KeyKind.CONTENT)
            own = Key(canonical, "", claimed)
            all_keys = _kinds({stacked: KeyKind.CONTENT, own: KeyKind.CONTENT, **found_by, key: kind})
            if isinstance(found, Offer):
                below = self._candidates.below(parent.snapshot).chain
                diff_id = found.layer.diff_id
                chain = diff_id if below is None else chain_id((below, diff_id))
                offer = replace(found, chain=chain)
                on_parent = adopt(self._store, offer, parent.snapshot, all_keys, key.inputs, int(time.time()))
            else:
                (changeset, *_) = self._store.snapshots.changesets(found.snapshot)
                inputs = records.inputs(found)
                with self._store.metadata.transaction():
                    snapshot = self._store.snapshots.add(parent.snapshot, changeset)
                    on_parent = records.add(all_keys, snapshot, parent.snapshot, canonical, inputs, found.created)
        return replace(self._served(node, on_parent), canonical=stacked.digest, claimed=stacked.claimed)

    def _anywhere(self, keys: Sequence[Key]) -> Record | Offer | None:
        """A record with one of these keys on any snapshot, first of the store."""
        for key in keys:
            if (record := self._store.records.find_anywhere(key.digest, claimed=key.claimed)) is not None:
                return record
        return next(self._offers.find_anywhere([key.digest for key in keys]), None)

    async def _serve_by_definition(self, node: Node, key: Key) -> NodeResult | None:
        return None if self._reads_renewed(node) else await self._serve(node, {key: KeyKind.DEFINITION}, {})

    async def _serve(self, node: Node, keys: dict[Key, KeyKind], also: dict[Key, KeyKind]) -> NodeResult | None:
        """The result of a node from the best record with one of `keys`, which gets the keys `also` too."""
        parent = self.result(node.parent)
        if parent is None:
            return None
        found = await self._candidates.best(node, list(keys), self._candidates.below(parent.snapshot))
        match found:
            case None:
                return None
            case Offer():
                known = _kinds({**also, **keys})
                inputs = next(iter(keys)).inputs
                record = adopt(self._store, found, parent.snapshot, known, inputs, int(time.time()))
            case record:
                for key, kind in also.items():
                    if kind is not KeyKind.TEXT:
                        self._store.records.add_key(key.digest, _kind(key, kind), record)
        return self._served(node, record)

    def _was_built(self, node: Node, key: Key) -> bool:
        """Whether this text was built on this parent before, even if its record is gone."""
        parent = self.keys.canonical_of(node.parent)
        return self._has_key(key) or (parent is not None and self._store.builds.has_succeeded(parent, node.text))

    def _has_key(self, key: Key) -> bool:
        return self._store.records.has_key(key.digest) or self._offers.has_key(key.digest)

    def _learn(self, node: Node, key: Key) -> None:
        """Learn the canonical key of a node from elsewhere: it is known even if the record cannot serve."""
        canonical = self._offers.canonical(key.digest)
        if canonical is not None and not self._reads_renewed(node):
            self.keys.learn(node, canonical, claimed=key.claimed or canonical != key.digest)

    def _is_read(self, result: NodeResult | None) -> bool:
        """Whether the tables of contents of a result can be read: they are here, or can be fetched now."""
        return result is not None and (self._fetches or self._is_here(result))

    def _is_here(self, result: NodeResult | None) -> bool:
        """Whether the store has the tables of contents of a result."""
        unread = self._store.changesets.unread
        return result is not None and all(
            unread(changeset) is None for changeset in self._store.snapshots.changesets(result.snapshot)
        )

    async def _keys_ahead(self, node: Node) -> list[Key]:
        """The keys of a node that can be computed before the steps below it have run."""
        key = self.definition(node)
        if key is None:
            return []
        if not isinstance(node.step, CopyStep):
            return [key]
        if not node.step.reads_context:
            return [] if node.step.link else [key]
        source_key = await self.keys.source_key(node, node.step, None)
        return [] if source_key is None or node.step.link else [source_key]

    def _reads_renewed(self, node: Node) -> bool:
        """Whether a source of the node was made again, so that the source's key does not identify its result."""
        return not self._renewed.isdisjoint(node.sources)

    def _readable(self, record: Record) -> bool:
        """Whether the files of a record's own layer can be read here. Layers below it are the parent's concern."""
        return self._trees.has_readable(record.snapshot)

    def _served(self, node: Node, record: Record) -> NodeResult:
        self._used.append(record)
        self.records[node.id] = record
        return NodeResult(record.canonical, record.snapshot, record.created, self._store.records.is_claimed(record))

    # --- explaining

    def key_of(self, node: Node) -> Key | None:
        """The most exact key of a node without a result, as far as its inputs are known."""
        return self.keys.most_exact(node)

    def entries_to_copy(self, node: Node) -> list[Entry]:
        """The entries that a COPY with known inputs would copy. Nothing is written."""
        parent, *sources = (self.result(below) for below in (node.parent, *node.sources))
        assert parent is not None
        source = sources[0] if sources else None
        return run_until_complete(
            self._steps().entries_to_copy(node, parent.snapshot, source.snapshot if source else None)
        )

    # --- recording

    async def record(self, node: Node, made: MadeLayer) -> NodeResult:
        """Record what a node made, for this build and for others; return the result, perhaps another build's."""
        definition, parent = self.definition(node), self.result(node.parent)
        assert definition is not None and parent is not None
        keys = {definition: KeyKind.DEFINITION}
        identity = definition  # the most exact of the keys
        stacked = None
        if isinstance(node.step, RunStep) and source_mounts(node.step):
            mounted = await self.keys.mounted_key(node, node.step)
            assert mounted is not None
            keys[mounted] = KeyKind.CONTENT
            identity = mounted
        if isinstance(node.step, CopyStep):
            identity = self.keys.content_key(node, node.step, made.content)
            if node.step.link:
                identity = cache_keys.link_key(node.step, node.platform, made.content)
                stacked = Key(cache_keys.stacked_key(parent.canonical, identity.digest), "", parent.claimed)
                keys[stacked] = KeyKind.CONTENT
            if node.step.reads_context:
                keys[definition] = KeyKind.TEXT
            keys[identity] = KeyKind.CONTENT
            self.keys.know_sources(node, made.sources)
            source_key = self.keys.source_key_of(node.step, node, made.sources)
            if source_key is not None:
                keys[source_key] = KeyKind.CONTENT
        anew = node.fresh or self._reads_renewed(node)
        if node.parent in self._renewed or (anew and not isinstance(node.step, CopyStep)):
            self._renewed.add(node.id)
        with self._store.metadata.transaction():
            self._steps().check_claimed()
            snapshot = self._store.snapshots.add(parent.snapshot, made.changeset)
            record = self._store.records.add(
                _kinds(keys), snapshot, parent.snapshot, identity.digest, identity.inputs, int(time.time()), replace=anew,
                serves=self._readable, id_map=self._pool.id_map.kind.value if isinstance(node.step, RunStep) else "",
            )  # fmt: skip
        self.records[node.id] = record
        claimed = self._store.records.is_claimed(record)
        if stacked is None:
            return NodeResult(record.canonical, record.snapshot, record.created, claimed)
        return NodeResult(stacked.digest, record.snapshot, record.created, claimed or stacked.claimed)


def _kinds(keys: Mapping[Key, KeyKind]) -> dict[str, KeyKind]:
    """The keys of a record as the store has them."""
    return {key.digest: _kind(key, kind) for key, kind in keys.items()}


def _kind(key: Key, kind: KeyKind) -> KeyKind:
    return KeyKind.CLAIMED if key.claimed and kind is not KeyKind.TEXT else kind
