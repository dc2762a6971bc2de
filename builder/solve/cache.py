"""The build cache, seen from one plan: which record serves a node, and how a new result is recorded.

BuildCache can look up a node as soon as the results that the node reads are known; nothing runs for that. Each kind of
step has its own way (`look_up` lists them). The key of a RUN or WORKDIR is known even if its record is gone, so that
steps that copy from it can still be found.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep, WorkdirStep, source_mounts
from pybuild.builder.solve import cache_keys
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.records import KeyKind
from pybuild.store.system.disk_full import no_space
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.solve.cache_keys import Key
    from pybuild.builder.steps.copied_trees import CopiedTrees
    from pybuild.builder.steps.make import MadeLayer, StepMaker
    from pybuild.store.formats.toc import Entry
    from pybuild.store.objects.records import Record
    from pybuild.store.store import Store


@frozen
class NodeResult:
    """The result of a node, from the cache or made by this build."""

    canonical: str  # the key from which later steps build theirs
    snapshot: int | None
    created: int  # when the step ran, seconds since the epoch


_NOTHING = NodeResult(cache_keys.SCRATCH, None, 0)


@contextmanager
def errors_at(node: Node, store: Store) -> Iterator[None]:
    """Add the place of a step in the recipe to every error that it raises, even to that of a full disk."""
    try:
        yield
    except PybuildError as error:
        raise error.at(node.span) from error
    except OSError as error:
        if isinstance(full := no_space(error, f"the store {store.root}", path=store.root), PybuildError):
            raise full.at(node.span) from error
        raise


class BuildCache:
    """The records of one store that matter to one plan."""

    def __init__(self, plan: Plan, store: Store, steps: Callable[[], StepMaker], trees: CopiedTrees) -> None:
        """`steps` is called when a key needs the content of files."""
        self._plan = plan
        self._store = store
        self._new_steps = steps
        self._trees = trees
        self.results: dict[int, NodeResult] = {}  # the known results, by node
        self._canonical: dict[int, str] = {}  # the known keys from which later steps build theirs, by node
        self._renewed: set[int] = set()  # nodes that were made again: their key can stand for two results
        self._mounted: dict[int, list[str]] = {}  # of a RUN: digests of the files that it mounts
        self._contents: dict[int, str] = {}  # of a COPY: the digest of what it would copy, if that was read
        self._used: list[Record] = []

    @property
    def _steps(self) -> StepMaker:
        return self._new_steps()

    def touch(self) -> None:
        """Mark the records that served this build as used now; gc removes the least recently used first."""
        self._store.records.mark_used(self._used, int(time.time()))

    async def look_up_all(self) -> set[int]:
        """Look up all nodes, inputs first; return those that a record serves."""
        hits = set()
        for node in self._plan.nodes:
            found = await self.look_up(node)
            if found is not None:
                self.know(node, found)
                hits.add(node.id)
        return hits

    def know(self, node: Node, result: NodeResult) -> None:
        """Remember the result of a node."""
        self.results[node.id] = result
        self._canonical[node.id] = result.canonical

    def result(self, node: int | None) -> NodeResult | None:
        """The result of a node, if it is known. None stands for scratch, whose result is empty."""
        return _NOTHING if node is None else self.results.get(node)

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
                    await self._look_up_mounting_run(node, step) if source_mounts(step) else self._look_up_plain(node)
                )
            case WorkdirStep():
                return self._look_up_plain(node)
            case _:
                assert_never(node.step)

    def _look_up_plain(self, node: Node) -> NodeResult | None:
        """A step that depends on its text and inputs only: by its definition key."""
        key = self.definition(node)
        if key is None or node.fresh:
            return None
        self._canonical[node.id] = key.digest
        parent = self.result(node.parent)
        return None if parent is None else self._find_by_definition(node, key, parent)

    async def _look_up_mounting_run(self, node: Node, step: RunStep) -> NodeResult | None:
        """A RUN that mounts files: by its definition key, else by a key of the content of the files."""
        key = self.definition(node)
        parent = self.result(node.parent)
        if key is None or node.fresh or parent is None:
            return None
        found = self._find_by_definition(node, key, parent)
        if found is not None:
            return found
        content_key = await self._mounted_key(node, step)
        if content_key is None:
            return None
        self._canonical[node.id] = content_key.digest
        record = self._find(content_key.digest, parent.snapshot)
        if record is None:
            return None
        self._store.records.add_key(key.digest, KeyKind.DEFINITION, record)
        return self._served(record)

    async def _look_up_copy(self, node: Node, step: CopyStep) -> NodeResult | None:
        """A COPY or ADD: by its definition key if all of its sources are immutable, else by their content."""
        if step.remote:
            with errors_at(node, self._store):
                await self._steps.identify(step)
        key = self.definition(node)
        parent = self.result(node.parent)
        if key is None or node.fresh or parent is None:
            return None
        if step.link:
            return await self._look_up_link(node, step, key, parent)
        if step.reads_context:
            # The definition key says nothing about the content of the context's files. Reading them for a content key
            # is worth it only if this text was built before; else they are read once, while they are copied.
            if not self._was_built(node, key, parent):
                return None
        elif (found := self._find_by_definition(node, key, parent)) is not None:
            return found
        if step.remote and not step.reads_context:
            return None
        source = self.result(node.sources[0]) if step.from_stage else None
        if step.from_stage and source is None:
            return None
        content_key = self._content_key(node, step, await self._content(node, parent.snapshot, source))
        self._canonical[node.id] = content_key.digest  # known even if the record is gone, like that of a RUN
        record = self._find(content_key.digest, parent.snapshot)
        if record is None:
            return None
        if not step.reads_context:
            self._store.records.add_key(key.digest, KeyKind.DEFINITION, record)
        return self._served(record)

    async def _look_up_link(self, node: Node, step: CopyStep, key: Key, parent: NodeResult) -> NodeResult | None:
        """A COPY --link: its layer does not depend on what lies below, so a record on any snapshot serves."""
        records = self._store.records
        if step.reads_context and not records.has_key(key.digest):
            return None
        by_definition = not step.reads_context and not self._reads_renewed(node)
        record = records.find_anywhere(key.digest) if by_definition else None
        if record is None and (step.reads_context or not step.remote):
            source = self.result(node.sources[0]) if step.from_stage else None
            if step.from_stage and source is None:
                return None
            content = await self._content(node, None, source)
            record = records.find_anywhere(cache_keys.link_key(step, node.platform, content).digest)
        if record is None:
            return None
        stacked = cache_keys.stacked_key(parent.canonical, record.canonical)
        on_parent = self._find(stacked, parent.snapshot)
        if on_parent is None:
            (changeset, *_) = self._store.snapshots.changesets(record.snapshot)
            kind = KeyKind.TEXT if step.reads_context else KeyKind.DEFINITION
            keys = {stacked: KeyKind.CONTENT, record.canonical: KeyKind.CONTENT, key.digest: kind}
            inputs = records.inputs(record)
            with self._store.metadata.transaction():
                snapshot = self._store.snapshots.add(parent.snapshot, changeset)
                on_parent = records.add(keys, snapshot, parent.snapshot, record.canonical, inputs, record.created)
        return replace(self._served(on_parent), canonical=stacked)

    def _find_by_definition(self, node: Node, key: Key, parent: NodeResult) -> NodeResult | None:
        record = None if self._reads_renewed(node) else self._find(key.digest, parent.snapshot)
        return None if record is None else self._served(record)

    def _was_built(self, node: Node, key: Key, parent: NodeResult) -> bool:
        """Whether this text was built on this parent before, even if its record is gone."""
        return self._store.records.has_key(key.digest) or self._store.builds.has_succeeded(parent.canonical, node.text)

    def _reads_renewed(self, node: Node) -> bool:
        """Whether a source of the node was made again, so that the source's key does not identify its result."""
        return not self._renewed.isdisjoint(node.sources)

    def _find(self, key: str, parent: int | None) -> Record | None:
        """The record of a key, if its snapshot stands on `parent` and its files can be read here."""
        record = self._store.records.find(key, parent)
        return record if record is not None and self._readable(record) else None

    def _readable(self, record: Record) -> bool:
        """Whether the files of a record's own layer can be read here. Layers below it are the parent's concern."""
        return self._trees.has_readable(record.snapshot)

    def _served(self, record: Record) -> NodeResult:
        self._used.append(record)
        return NodeResult(record.canonical, record.snapshot, record.created)

    # --- keys

    def definition(self, node: Node) -> Key | None:
        """The definition key of a node; None if the key of an input is not known."""
        parents = () if isinstance(node.step, CopyStep) and node.step.link else (node.parent,)
        keys = [
            cache_keys.SCRATCH if below is None else self._canonical.get(below) for below in (*parents, *node.sources)
        ]
        if isinstance(node.step, CopyStep) and node.step.remote:
            keys += self._steps.identities(node.step)
        inputs = [key for key in keys if key is not None]
        if len(inputs) < len(keys):
            return None
        return cache_keys.definition_key(node.step, node.platform, inputs)

    def key_of(self, node: Node) -> Key | None:
        """The most exact key of a node without a result, as far as its inputs are known. For explanations."""
        content, parent = self._contents.get(node.id), self.result(node.parent)
        if isinstance(node.step, CopyStep) and content is not None and parent is not None:
            if node.step.link:
                return cache_keys.link_key(node.step, node.platform, content)
            return self._content_key(node, node.step, content)
        if isinstance(node.step, RunStep) and node.id in self._mounted and parent is not None:
            return cache_keys.mounting_key(node.step, node.platform, parent.canonical, self._mounted[node.id])
        return None if isinstance(node.step, BaseStep) else self.definition(node)

    def entries_to_copy(self, node: Node) -> list[Entry]:
        """The entries that a COPY with known inputs would copy. Nothing is written."""
        parent, *sources = (self.result(below) for below in (node.parent, *node.sources))
        assert parent is not None
        source = sources[0] if sources else None
        return run_until_complete(
            self._steps.entries_to_copy(node, parent.snapshot, source.snapshot if source else None)
        )

    async def _content(self, node: Node, parent: int | None, source: NodeResult | None) -> str:
        """The digest of what a COPY would copy. Computed once, because known inputs of a node do not change."""
        if node.id not in self._contents:
            with errors_at(node, self._store):
                content = await self._steps.content(node, parent, source.snapshot if source else None)
            self._contents[node.id] = content
        return self._contents[node.id]

    def _content_key(self, node: Node, step: CopyStep, content: str) -> Key:
        parent = self.result(node.parent)
        assert parent is not None
        return cache_keys.content_key(step, node.platform, parent.canonical, content)

    async def _mounted_key(self, node: Node, step: RunStep) -> Key | None:
        """The content key of a RUN that mounts files; None if they are not known yet."""
        parent = self.result(node.parent)
        sources = [self.result(source) for source in node.sources]
        if parent is None or None in sources:
            return None
        if node.id not in self._mounted:
            with errors_at(node, self._store):
                self._mounted[node.id] = await self._steps.mounted(
                    step, [source.snapshot for source in sources if source]
                )
        return cache_keys.mounting_key(step, node.platform, parent.canonical, self._mounted[node.id])

    # --- recording

    async def record(self, node: Node, made: MadeLayer) -> NodeResult:
        """Record what a node made, for this build and for others; return the result, perhaps another build's."""
        definition, parent = self.definition(node), self.result(node.parent)
        assert definition is not None and parent is not None
        keys = {definition.digest: KeyKind.DEFINITION}
        identity = definition  # the most exact of the keys
        stacked = None
        if isinstance(node.step, RunStep) and source_mounts(node.step):
            mounted = await self._mounted_key(node, node.step)
            assert mounted is not None
            keys[mounted.digest] = KeyKind.CONTENT
            identity = mounted
        if isinstance(node.step, CopyStep):
            identity = self._content_key(node, node.step, made.content)
            if node.step.link:
                identity = cache_keys.link_key(node.step, node.platform, made.content)
                stacked = cache_keys.stacked_key(parent.canonical, identity.digest)
                keys[stacked] = KeyKind.CONTENT
            if node.step.reads_context:
                keys[definition.digest] = KeyKind.TEXT
            keys[identity.digest] = KeyKind.CONTENT
        anew = node.fresh or self._reads_renewed(node)
        if node.parent in self._renewed or (anew and not isinstance(node.step, CopyStep)):
            self._renewed.add(node.id)
        with self._store.metadata.transaction():
            snapshot = self._store.snapshots.add(parent.snapshot, made.changeset)
            record = self._store.records.add(
                keys, snapshot, parent.snapshot, identity.digest, identity.inputs, int(time.time()), replace=anew,
                serves=self._readable,
            )  # fmt: skip
        return NodeResult(stacked or record.canonical, record.snapshot, record.created)
