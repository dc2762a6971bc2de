"""Solving a plan: what the cache has, what has to run, in which order.

First the keys of all steps are looked up, forwards and without running anything. The key of a RUN or a WORKDIR is
known even where its record is gone, so that what copies from it can still be found. Then comes demand, backwards from
the target: a step is needed if a needed step, or the output, reads its result and no record serves it. The needed
ones run, each as soon as its own inputs are there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from builder import cachekey
from builder.errors import BuildError, NotCached
from builder.events import StepFinished, StepRef, StepStarted, Tick, broke
from builder.mounts import bound
from builder.plan import BaseStep, CopyStep, RunStep, WorkdirStep
from builder.workers.tasks import Slots, Tasks, complete
from store.records import KeyKind
from store.spec import chain_id
from values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.events import Event
    from builder.options import BuildOptions
    from builder.plan import Node, Plan
    from builder.steps import Made, Steps
    from store.records import Record
    from store.store import Store
    from store.toc import Entry


@frozen
class Result:
    """What a step has come to."""

    canonical: str  # the key that later steps build theirs from
    snapshot: int | None
    created: int  # when it ran, seconds since the epoch


_NOTHING = Result(cachekey.SCRATCH, None, 0)


@contextmanager
def _placed(node: Node) -> Iterator[None]:
    """Errors about a step are told at its place in the recipe."""
    try:
        yield
    except BuildError as error:
        error.span = error.span or node.span
        raise


class Solver:
    """Solves one plan against one store."""

    def __init__(
        self,
        plan: Plan,
        options: BuildOptions,
        store: Store,
        steps: Callable[[], Steps],
        observe: Callable[[Event], None],
    ) -> None:
        """`steps` is called at most once, and not by a build that the cache serves without reading any files."""
        self._plan = plan
        self._options = options
        self._store = store
        self._new_steps = steps
        self._observe = observe
        self._results: dict[int, Result] = {}
        self._canonical: dict[int, str] = {}  # the keys that later steps build theirs from, as far as they are known
        self._renewed: set[int] = set()  # the nodes of which there may be another result under the same key
        self._bound: dict[int, list[str]] = {}  # of a RUN: digests of the files that it has mounted
        self._begun: dict[int, cachekey.Key | None] = {}  # the nodes that are being made
        self._run_slots = Slots(options.jobs)
        self._contents: dict[int, str] = {}  # digests of what a COPY would copy, where that was looked at
        self._used: list[Record] = []
        self._totals: dict[str, int] = {}  # stage -> how many steps it has
        for node in plan.nodes:
            self._totals[node.stage] = max(node.number, self._totals.get(node.stage, 0))

    def solve(self) -> Mapping[int, Result]:
        """The results of the nodes that were needed, by node id. Raises BuildError, StoreError."""
        target = self._plan.image.node
        hits = complete(self._look_up_all())
        needed = self._demand(target)
        shown = self._of_target(target)
        if needed and self._options.require_cached:
            mounted = {source for node in self._plan.nodes for source in node.sources}
            count = sum(self._plan.nodes[node].number > 0 or node not in mounted for node in needed)
            raise NotCached("1 step is not cached" if count == 1 else f"{count} steps are not cached")
        for node in self._plan.nodes:
            if node.id in hits and node.id in shown:
                self._finished(node, cached=True, seconds=0.0)
        self._make_all([node for node in self._plan.nodes if node.id in needed])
        self._store.records.touch(self._used, int(time.time()))
        return self._results

    @cached_property
    def _steps(self) -> Steps:
        return self._new_steps()

    @property
    def results(self) -> Mapping[int, Result]:
        """What is known by now, by node id."""
        return self._results

    def key_of(self, node: Node) -> cachekey.Key | None:
        """The key of a node that has no result yet, as far as its inputs are known."""
        content, parent = self._contents.get(node.id), self._result(node.parent)
        if isinstance(node.step, CopyStep) and content is not None and parent is not None:
            if node.step.link:
                return cachekey.link_key(node.step, node.platform, content)
            return self._content_key(node, node.step, content)
        if isinstance(node.step, RunStep) and node.id in self._bound and parent is not None:
            return cachekey.bound_key(node.step, node.platform, parent.canonical, self._bound[node.id])
        return self._definition(node)

    def rows(self, node: Node) -> list[Entry]:
        """All that a COPY would copy, whose inputs are known; nothing is written."""
        parent, *sources = (self._result(below) for below in (node.parent, *node.sources))
        assert parent is not None
        source = sources[0] if sources else None
        return complete(self._steps.rows(node, parent.snapshot, source.snapshot if source else None))

    def _make_all(self, waiting: list[Node]) -> None:
        if not waiting:
            return
        with Tasks[int, Result](lambda: self._observe(Tick())) as tasks:
            try:
                while waiting or tasks:
                    for node in [node for node in waiting if self._can_begin(node)]:
                        waiting.remove(node)
                        self._begun[node.id] = self._definition(node)
                        tasks.start(node.id, self._make(node))
                    made, result = tasks.next_ended()
                    del self._begun[made]
                    self._know(self._plan.nodes[made], result)
                    self._store.seal_now_and_then()
            except BaseException:
                self._steps.stop()  # what the others do is for nobody any more
                raise
        self._steps.tidy()

    def _can_begin(self, node: Node) -> bool:
        """Whether the inputs of a node are there, and nobody is making the very same: then the cache will have it."""
        inputs = (node.parent, *node.sources)
        if not all(below is None or below in self._results for below in inputs):
            return False
        return self._definition(node) not in self._begun.values()

    async def _look_up_all(self) -> set[int]:
        """The nodes that a record serves."""
        hits = set()
        for node in self._plan.nodes:
            found = await self._look_up(node)
            if found is not None:
                self._know(node, found)
                hits.add(node.id)
        return hits

    def _know(self, node: Node, result: Result) -> None:
        self._results[node.id] = result
        self._canonical[node.id] = result.canonical

    def _demand(self, target: int | None) -> set[int]:
        """The nodes that have to run."""
        needed: set[int] = set()
        pending = [] if target is None else [target]
        while pending:
            node = self._plan.nodes[pending.pop()]
            if node.id in self._results or node.id in needed:
                continue
            needed.add(node.id)
            pending += [below for below in (node.parent, *node.sources) if below is not None]
        return needed

    def _of_target(self, target: int | None) -> set[int]:
        """The nodes whose results the needed ones and the output read: those worth a line on the screen."""
        found: set[int] = set()
        pending = [] if target is None else [target]
        while pending:
            node = self._plan.nodes[pending.pop()]
            if node.id in found:
                continue
            found.add(node.id)
            if node.parent is not None:
                pending.append(node.parent)
            if node.id not in self._results:
                pending += [source for source in node.sources if source is not None]
        return found

    def _result(self, node: int | None) -> Result | None:
        return _NOTHING if node is None else self._results.get(node)

    async def _look_up(self, node: Node) -> Result | None:
        """Find a record for a node on a known parent; None where there is none, or where that is not known yet."""
        if isinstance(node.step, BaseStep):
            config = node.step.image.config
            return Result(cachekey.base_key(str(chain_id(config.diff_ids))), node.step.image.snapshot, 0)
        if isinstance(node.step, CopyStep) and node.step.remote:
            with _placed(node):
                await self._steps.identify(node.step)
        key = self._definition(node)
        if key is None or node.fresh:
            return None
        reads_files = isinstance(node.step, RunStep) and bool(bound(node.step))
        if not isinstance(node.step, CopyStep) and not reads_files:
            self._canonical[node.id] = key.digest
        parent = self._result(node.parent)
        if parent is None:
            return None
        if isinstance(node.step, CopyStep) and node.step.link:
            return await self._look_up_link(node, node.step, key, parent)
        if isinstance(node.step, CopyStep) and node.step.reads_context:
            # What a context holds is not known by its name. Only where this text was built before is it worth to read
            # the files for the key alone; else they are read once, while they are copied.
            if not self._was_built(node, key, parent):
                return None
        else:
            record = None if self._reads_renewed(node) else self._store.records.find(key.digest, parent.snapshot)
            if record is not None:
                return self._served(record)
        if isinstance(node.step, CopyStep) and (node.step.reads_context or not node.step.remote):
            source = self._result(node.sources[0]) if node.step.from_stage else None
            if node.step.from_stage and source is None:
                return None
            content = await self._content(node, parent.snapshot, source)
            by_content = self._content_key(node, node.step, content)
            # Known even where its record is gone, as that of a RUN is.
            self._canonical[node.id] = by_content.digest
            record = self._store.records.find(by_content.digest, parent.snapshot)
            if record is not None:
                if not node.step.reads_context:
                    self._store.records.add_key(key.digest, KeyKind.DEFINITION, record)
                return self._served(record)
        if reads_files and (content_key := await self._bound_key(node)) is not None:
            self._canonical[node.id] = content_key.digest
            record = self._store.records.find(content_key.digest, parent.snapshot)
            if record is not None:
                self._store.records.add_key(key.digest, KeyKind.DEFINITION, record)
                return self._served(record)
        return None

    async def _bound_key(self, node: Node) -> cachekey.Key | None:
        """The content key of a RUN that has files mounted; None where it has none, or they are not known yet."""
        parent = self._result(node.parent)
        sources = [self._result(source) for source in node.sources]
        if not isinstance(node.step, RunStep) or not bound(node.step) or parent is None or None in sources:
            return None
        if node.id not in self._bound:
            with _placed(node):
                self._bound[node.id] = await self._steps.mounted(
                    node.step, [source.snapshot for source in sources if source]
                )
        return cachekey.bound_key(node.step, node.platform, parent.canonical, self._bound[node.id])

    async def _look_up_link(self, node: Node, step: CopyStep, key: cachekey.Key, parent: Result) -> Result | None:
        """As `_look_up`, for a layer that depends on nothing below: a record on another snapshot serves too."""
        records = self._store.records
        if step.reads_context and not records.known(key.digest):
            return None
        by_name = not step.reads_context and not self._reads_renewed(node)
        record = records.find_anywhere(key.digest) if by_name else None
        if record is None and (step.reads_context or not step.remote):
            source = self._result(node.sources[0]) if step.from_stage else None
            if step.from_stage and source is None:
                return None
            content = await self._content(node, None, source)
            record = records.find_anywhere(cachekey.link_key(step, node.platform, content).digest)
        if record is None:
            return None
        stacked = cachekey.stacked_key(parent.canonical, record.canonical)
        here = records.find(stacked, parent.snapshot)
        if here is None:
            (changeset, *_) = self._store.snapshots.changesets(record.snapshot)
            snapshot = self._store.snapshots.add(parent.snapshot, changeset)
            kind = KeyKind.TEXT if step.reads_context else KeyKind.DEFINITION
            keys = {stacked: KeyKind.CONTENT, record.canonical: KeyKind.CONTENT, key.digest: kind}
            inputs = records.inputs(record)
            here = records.add(keys, snapshot, parent.snapshot, record.canonical, inputs, record.created)
        return replace(self._served(here), canonical=stacked)

    def _was_built(self, node: Node, key: cachekey.Key, parent: Result) -> bool:
        """Whether this text was built before on what lies below, even if its record is gone."""
        return self._store.records.known(key.digest) or self._store.builds.had(parent.canonical, node.text)

    def _reads_renewed(self, node: Node) -> bool:
        """Whether something that a node reads was made anew: then what it reads is not known by its key."""
        return not self._renewed.isdisjoint(node.sources)

    async def _content(self, node: Node, parent: int | None, source: Result | None) -> str:
        if node.id not in self._contents:  # what it reads and stands on never changes once it is known
            with _placed(node):
                content = await self._steps.content(node, parent, source.snapshot if source else None)
            self._contents[node.id] = content
        return self._contents[node.id]

    def _served(self, record: Record) -> Result:
        self._used.append(record)
        return Result(record.canonical, record.snapshot, record.created)

    def _definition(self, node: Node) -> cachekey.Key | None:
        """The definition key of a node; None where the key of an input is not known."""
        on = () if isinstance(node.step, CopyStep) and node.step.link else (node.parent,)
        found = [cachekey.SCRATCH if below is None else self._canonical.get(below) for below in (*on, *node.sources)]
        if isinstance(node.step, CopyStep) and node.step.remote:
            found += self._steps.identities(node.step)
        inputs = [one for one in found if one is not None]
        if len(inputs) < len(found):
            return None
        return cachekey.definition_key(node.step, node.platform, inputs)

    def _content_key(self, node: Node, step: CopyStep, content: str) -> cachekey.Key:
        parent = self._result(node.parent)
        assert parent is not None
        return cachekey.content_key(step, node.platform, parent.canonical, content)

    async def _make(self, node: Node) -> Result:
        """Run a needed node, unless its inputs, now that they are there, show that the cache has it after all."""
        found = await self._look_up(node)
        if found is not None:
            self._finished(node, cached=True, seconds=0.0)
            return found
        if isinstance(node.step, RunStep):
            async with self._run_slots:
                return await self._run(node)
        return await self._run(node)

    async def _run(self, node: Node) -> Result:
        begun = time.monotonic()
        self._observe(StepStarted(self._ref(node)))
        parent = self._result(node.parent)
        sources = [self._result(source) for source in node.sources]
        assert parent is not None
        try:
            with _placed(node):
                made = await self._steps.make(
                    node, parent.snapshot, [source.snapshot for source in sources if source], self._ref(node)
                )
        except Exception as error:
            if not (isinstance(error, BuildError) and error.told):
                self._observe(broke(self._ref(node), time.monotonic() - begun, error))
            raise
        result = self._record(node, parent, made, await self._bound_key(node))
        self._finished(node, cached=False, seconds=time.monotonic() - begun)
        return result

    def _record(self, node: Node, parent: Result, made: Made, bound_key: cachekey.Key | None) -> Result:
        definition = self._definition(node)
        assert definition is not None
        keys = {definition.digest: KeyKind.DEFINITION}
        canonical, inputs = definition.digest, definition.inputs
        stacked = None
        if bound_key is not None:
            keys[bound_key.digest] = KeyKind.CONTENT
            canonical, inputs = bound_key.digest, bound_key.inputs
        if isinstance(node.step, CopyStep):
            content = self._content_key(node, node.step, made.content)
            if node.step.link:
                content = cachekey.link_key(node.step, node.platform, made.content)
                stacked = cachekey.stacked_key(parent.canonical, content.digest)
                keys[stacked] = KeyKind.CONTENT
            if node.step.reads_context:
                keys[definition.digest] = KeyKind.TEXT
            keys[content.digest] = KeyKind.CONTENT
            canonical, inputs = content.digest, content.inputs
        anew = node.fresh or self._reads_renewed(node)
        if node.parent in self._renewed or (anew and not isinstance(node.step, CopyStep)):
            self._renewed.add(node.id)
        snapshot = self._store.snapshots.add(parent.snapshot, made.changeset)
        record = self._store.records.add(
            keys, snapshot, parent.snapshot, canonical, inputs, int(time.time()), replace=anew
        )
        return Result(stacked or record.canonical, record.snapshot, record.created)

    def _finished(self, node: Node, *, cached: bool, seconds: float) -> None:
        if isinstance(node.step, RunStep | CopyStep | WorkdirStep):
            self._observe(StepFinished(self._ref(node), cached, seconds))

    def _ref(self, node: Node) -> StepRef:
        return StepRef(node.id, node.stage, node.number, self._totals[node.stage], node.text)
