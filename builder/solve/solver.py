"""Solving a plan: what the cache has, what has to run, and in which order.

First all nodes are looked up in the cache (cache.py); nothing runs for that. Then comes demand, backwards from the
target: a node is needed if a needed node or the output reads its result and no record serves it. The needed nodes run,
each as soon as its own inputs exist. A RUN can begin even before the layer below it is written
(steps/pending_layer.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pybuild.builder.caches.offers import NO_OFFERS
from pybuild.builder.errors import BuildError, NotCached
from pybuild.builder.events import StepFinished, StepRef, StepStarted, Tick, step_broke
from pybuild.builder.plan.graph import CopyStep, RunStep, WorkdirStep, source_mounts
from pybuild.builder.solve.cache import BuildCache
from pybuild.builder.solve.node_keys import NodeResult, errors_at
from pybuild.builder.steps.copied_trees import CopiedTrees
from pybuild.builder.steps.pending_layer import PendingLayer
from pybuild.builder.workers.tasks import Semaphore, Tasks, run_until_complete, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pybuild.builder.caches.caches import Caches
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.session import Session
    from pybuild.builder.solve.cache_keys import Key
    from pybuild.builder.solve.outcomes import OutcomeRecorder
    from pybuild.builder.steps.make import StepMaker
    from pybuild.builder.steps.pending_layer import Parent


class Solver:
    """Solves one plan against one store."""

    def __init__(
        self, session: Session, plan: Plan, steps: Callable[[], StepMaker], recorder: OutcomeRecorder, caches: Caches
    ) -> None:
        """`steps` is called at most once, and not at all if the cache serves everything without reading any file.

        `caches` are those of other machines.
        """
        self._plan = plan
        self._caches = caches
        self._options = session.options
        self._store = session.store
        self._new_steps = steps
        self._observe = self._recorder = recorder
        self.cache = BuildCache(plan, session, lambda: self._steps, CopiedTrees(session))
        self._running: dict[int, Key | None] = {}  # the nodes that are being made, with their definition keys
        self._pending: dict[int, PendingLayer] = {}  # the RUN nodes whose layers are being written
        self.made: set[int] = set()  # the nodes that this build has made, and did not find in the cache
        self._early: set[int] = set()  # the nodes that may begin on a pending layer
        self._run_slots = Semaphore(session.options.jobs)
        self._reported = 0  # steps that the display hears of
        self._totals: dict[str, int] = {}  # stage, as it is shown -> how many steps it has
        for node in plan.nodes:
            stage = node.shown_stage
            self._totals[stage] = max(node.number, self._totals.get(stage, 0))

    def solve(self) -> Mapping[int, NodeResult]:
        """Return the results of the needed nodes, by node id. Raises NotCached and whatever a step raises."""
        targets = self._plan.targets
        hits = run_until_complete(self.cache.look_up_all())
        needed = self._demand(targets)
        if needed and (offers := self._caches.offers(self._recorder.know_cache)) is not NO_OFFERS:
            hits = run_until_complete(self.cache.look_up_all(offers))
            needed = self._demand(targets)
        to_show = self._nodes_to_show(targets)
        reported = needed | {node for node in hits if node in to_show}
        self._reported = sum(self._is_reported(self._plan.nodes[node]) for node in reported)
        if needed and self._options.require_cached:
            raise self._not_cached(needed)
        self._require_room(needed)
        for node in self._plan.nodes:
            if node.id in hits and node.id in to_show:
                self._finished(node, cached=True, seconds=0.0)
        self._make_all([node for node in self._plan.nodes if node.id in needed])
        self.cache.touch()
        return self.cache.results

    def _require_room(self, needed: set[int]) -> None:
        """Raise CannotWrite, at the first step that is not cached, if its result cannot be written to the store."""
        if needed:
            first = self._plan.nodes[min(needed)]
            with errors_at(first, self._store):
                self._store.require_writable("this step is not cached and cannot run")

    def _not_cached(self, needed: set[int]) -> NotCached:
        """The error of a build that must not run anything, with the reasons for every miss."""
        from pybuild.builder.solve.explain_files import missing

        mounted = {source for node in self._plan.nodes for source in node.sources}
        count = sum(self._plan.nodes[node].number > 0 or node not in mounted for node in needed)
        build = self._recorder.build_so_far(self._plan, self.cache)
        steps = missing(self._store, build, self._plan, self.cache)
        return NotCached("1 step is not cached" if count == 1 else f"{count} steps are not cached", steps)

    @cached_property
    def _steps(self) -> StepMaker:
        return self._new_steps()

    def _make_all(self, waiting: list[Node]) -> None:
        if not waiting:
            return
        self._steps.check_possible(waiting)
        self._steps.expect_runs_on(self._snapshots_below_runs(waiting))
        with Tasks[int, NodeResult](lambda: self._observe(Tick())) as tasks:
            try:
                if self._options.jobs > 1:
                    needed = {node.id for node in waiting}
                    self._early = {node.id for node in waiting if self._may_begin_early(node, needed)}
                while waiting or tasks:
                    for node in list(waiting):  # a node comes after the one it stands on
                        if self._can_begin(node):
                            waiting.remove(node)
                            self._running[node.id] = self.cache.definition(node)
                            tasks.start(node.id, self._make(node))
                    ended, result = tasks.next_ended()
                    del self._running[ended]
                    self._pending.pop(ended, None)
                    self.cache.know(self._plan.nodes[ended], result)
                    self._store.seal_if_due()
            except BaseException:
                self._steps.stop()  # the results of the other steps are not needed any more
                raise
        self._steps.tidy()

    def _snapshots_below_runs(self, waiting: Sequence[Node]) -> set[int]:
        """The known snapshots that the RUN steps of these nodes stand on, perhaps with steps in between that are waiting."""
        found = set()
        for node in waiting:
            below = node.parent if isinstance(node.step, RunStep) else None
            while below is not None and below not in self.cache.results:
                below = self._plan.nodes[below].parent
            if below is not None and (snapshot := self.cache.results[below].snapshot) is not None:
                found.add(snapshot)
        return found

    def _can_begin(self, node: Node) -> bool:
        """Whether the inputs of a node exist and no running node has its key: that node's result will serve it."""
        inputs = (node.parent, *node.sources)
        if not all(below is None or below in self.cache.results for below in inputs) and not self._can_begin_early(
            node
        ):
            return False
        key = self.cache.definition(node)
        return key is None or key not in self._running.values()

    def _may_begin_early(self, node: Node, needed: set[int]) -> bool:
        """Whether a needed node could begin before the layer below it is written: a RUN on a RUN, no file mounts."""
        if node.parent not in needed or node.sources or not isinstance(node.step, RunStep):
            return False
        below = self._plan.nodes[node.parent].step
        return isinstance(below, RunStep) and not source_mounts(below) and not source_mounts(node.step)

    def _can_begin_early(self, node: Node) -> bool:
        """Whether a node can begin on the pending layer below it. That layer must itself stand on a complete one."""
        below = node.parent
        if below is None or node.id not in self._early or below not in self._running:
            return False
        return self._plan.nodes[below].parent is None or self._plan.nodes[below].parent in self.cache.results

    def _demand(self, targets: Iterable[int]) -> set[int]:
        """The nodes that have to run."""
        needed: set[int] = set()
        pending = list(targets)
        while pending:
            node = self._plan.nodes[pending.pop()]
            if node.id in self.cache.results or node.id in needed:
                continue
            needed.add(node.id)
            pending += [below for below in (node.parent, *node.sources) if below is not None]
        return needed

    def _nodes_to_show(self, targets: Iterable[int]) -> set[int]:
        """The nodes whose results the needed nodes and the output read. Displays show only these."""
        found: set[int] = set()
        pending = list(targets)
        while pending:
            node = self._plan.nodes[pending.pop()]
            if node.id in found:
                continue
            found.add(node.id)
            if node.parent is not None:
                pending.append(node.parent)
            if node.id not in self.cache.results:
                pending += [source for source in node.sources if source is not None]
        return found

    async def _make(self, node: Node) -> NodeResult:
        """Run a needed node, unless a second look-up, with its inputs known now, finds a record."""
        below = node.parent
        if below is not None:
            await wait_until(lambda: below in self.cache.results or below in self._pending)
        found = await self.cache.look_up(node)
        if found is not None:
            self._finished(node, cached=True, seconds=0.0)
            return found
        if not isinstance(node.step, RunStep):
            made = await self._run(node)
        else:
            async with self._run_slots:
                made = await self._run(node)
        return made or await self._make(node)

    async def _run(self, node: Node) -> NodeResult | None:
        """Run a node. None if it must be made again, because another build recorded the layer below it first."""
        begun = time.monotonic()
        self._observe(StepStarted(self._ref(node)))
        sources = [self.cache.result(source) for source in node.sources]
        on_listed = partial(self._on_listed, node) if self._has_early_child(node) else None
        try:
            with errors_at(node, self._store):
                snapshots = [source.snapshot for source in sources if source]
                made = await self._steps.make(node, self._parent(node), snapshots, self._ref(node), on_listed)
        except Exception as error:
            if not (isinstance(error, BuildError) and error.reported):
                self._observe(step_broke(self._ref(node), time.monotonic() - begun, error))
            raise
        if made is None:
            return None
        result = await self.cache.record(node, made)
        self.made.add(node.id)
        self._finished(node, cached=False, seconds=time.monotonic() - begun)
        return result

    def _parent(self, node: Node) -> Parent:
        """What a node stands on: a snapshot, or a pending layer."""
        parent = self.cache.result(node.parent)
        if parent is not None:
            return parent.snapshot
        assert node.parent is not None
        return self._pending[node.parent]

    def _has_early_child(self, node: Node) -> bool:
        return any(self._plan.nodes[early].parent == node.id for early in self._early)

    def _on_listed(self, node: Node, changeset: str) -> None:
        """Called when the files that a RUN left are listed: the next step can begin on them."""
        parent = self.cache.result(node.parent)
        assert parent is not None

        async def written() -> int | None:
            await wait_until(lambda: node.id in self.cache.results)
            return self.cache.results[node.id].snapshot

        self._pending[node.id] = PendingLayer(changeset, parent.snapshot, written)

    def _finished(self, node: Node, *, cached: bool, seconds: float) -> None:
        if self._is_reported(node):
            self._observe(StepFinished(self._ref(node), cached, seconds))

    @staticmethod
    def _is_reported(node: Node) -> bool:
        return isinstance(node.step, RunStep | CopyStep | WorkdirStep)

    def _ref(self, node: Node) -> StepRef:
        total = self._totals[node.shown_stage]
        return StepRef(node.id, node.stage, node.number, total, node.text, self._reported, node.label)
