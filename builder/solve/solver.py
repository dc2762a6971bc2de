"""Solving a plan: what the cache has, what has to run, in which order.

First the cache is asked for all steps (buildcache.py), without running anything. Then comes demand, backwards from
the target: a step is needed if a needed step, or the output, reads its result and no record serves it. The needed
ones run, each as soon as its own inputs are there; a RUN begins even before the layer below it is written (ahead.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError, NotCached
from pybuild.builder.events import StepFinished, StepRef, StepStarted, Tick, step_broke
from pybuild.builder.plan.graph import CopyStep, RunStep, WorkdirStep, source_mounts
from pybuild.builder.solve.cache import BuildCache, Result, placed
from pybuild.builder.steps.pending_layer import Ahead
from pybuild.builder.workers.tasks import Semaphore, Tasks, run_until_complete, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.solve.cache_keys import Key
    from pybuild.builder.solve.outcomes import Journal
    from pybuild.builder.steps.make import Steps
    from pybuild.builder.steps.pending_layer import Parent
    from pybuild.store.store import Store


class Solver:
    """Solves one plan against one store."""

    def __init__(
        self,
        plan: Plan,
        options: BuildOptions,
        store: Store,
        steps: Callable[[], Steps],
        journal: Journal,
        tree_map: Callable[[], str],
    ) -> None:
        """`tree_map` tells the id map under which trees can be read here; `steps` is called at most once, and not by a build that the cache serves without reading any files."""
        self._plan = plan
        self._options = options
        self._store = store
        self._new_steps = steps
        self._observe = self._journal = journal
        self.cache = BuildCache(plan, store, lambda: self._steps, tree_map)
        self._begun: dict[int, Key | None] = {}  # the nodes that are being made
        self._ahead: dict[int, Ahead] = {}  # the RUN steps whose layers are being written
        self._following: set[int] = set()  # the nodes that may begin on one of those
        self._run_slots = Semaphore(options.jobs)
        self._totals: dict[str, int] = {}  # stage -> how many steps it has
        for node in plan.nodes:
            self._totals[node.stage] = max(node.number, self._totals.get(node.stage, 0))

    def solve(self) -> Mapping[int, Result]:
        """The results of the nodes that were needed, by node id. Raises BuildError, StoreError."""
        target = self._plan.image.node
        hits = run_until_complete(self.cache.look_up_all())
        needed = self._demand(target)
        shown = self._of_target(target)
        if needed and self._options.require_cached:
            mounted = {source for node in self._plan.nodes for source in node.sources}
            count = sum(self._plan.nodes[node].number > 0 or node not in mounted for node in needed)
            from pybuild.builder.solve.explain_files import missing

            steps = missing(self._store, self._journal.of(self._plan, self.cache), self._plan, self.cache)
            raise NotCached("1 step is not cached" if count == 1 else f"{count} steps are not cached", steps)
        for node in self._plan.nodes:
            if node.id in hits and node.id in shown:
                self._finished(node, cached=True, seconds=0.0)
        self._make_all([node for node in self._plan.nodes if node.id in needed])
        self.cache.touch()
        return self.cache.results

    @cached_property
    def _steps(self) -> Steps:
        return self._new_steps()

    def _make_all(self, waiting: list[Node]) -> None:
        if not waiting:
            return
        with Tasks[int, Result](lambda: self._observe(Tick())) as tasks:
            try:
                if self._options.jobs > 1:
                    needed = {node.id for node in waiting}
                    self._following = {node.id for node in waiting if self._may_follow(node, needed)}
                while waiting or tasks:
                    for node in list(waiting):  # what stands on another one comes after it
                        if self._can_begin(node):
                            waiting.remove(node)
                            self._begun[node.id] = self.cache.definition(node)
                            tasks.start(node.id, self._make(node))
                    made, result = tasks.next_ended()
                    del self._begun[made]
                    self._ahead.pop(made, None)
                    self.cache.know(self._plan.nodes[made], result)
                    self._store.seal_if_due()
            except BaseException:
                self._steps.stop()  # what the others do is for nobody any more
                raise
        self._steps.tidy()

    def _can_begin(self, node: Node) -> bool:
        """Whether the inputs of a node are there, and nobody is making the very same: then the cache will have it."""
        inputs = (node.parent, *node.sources)
        if not all(below is None or below in self.cache.results for below in inputs) and not self._can_follow(node):
            return False
        key = self.cache.definition(node)
        return key is None or key not in self._begun.values()

    def _may_follow(self, node: Node, needed: set[int]) -> bool:
        """Whether a needed node could begin before the layer below it is written: a RUN on a RUN, that reads nothing else."""
        if node.parent not in needed or node.sources or not isinstance(node.step, RunStep):
            return False
        below = self._plan.nodes[node.parent].step
        return isinstance(below, RunStep) and not source_mounts(below) and not source_mounts(node.step)

    def _can_follow(self, node: Node) -> bool:
        """Whether a node can wait for the files that the one below it leaves. One at a time, not a whole chain of them."""
        below = node.parent
        if below is None or node.id not in self._following or below not in self._begun:
            return False
        return self._plan.nodes[below].parent is None or self._plan.nodes[below].parent in self.cache.results

    def _demand(self, target: int | None) -> set[int]:
        """The nodes that have to run."""
        needed: set[int] = set()
        pending = [] if target is None else [target]
        while pending:
            node = self._plan.nodes[pending.pop()]
            if node.id in self.cache.results or node.id in needed:
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
            if node.id not in self.cache.results:
                pending += [source for source in node.sources if source is not None]
        return found

    async def _make(self, node: Node) -> Result:
        """Run a needed node, unless its inputs, now that they are there, show that the cache has it after all."""
        below = node.parent
        if below is not None:
            await wait_until(lambda: below in self.cache.results or below in self._ahead)
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

    async def _run(self, node: Node) -> Result | None:
        """Run a node. None where it has to be done again, as what it stood on was recorded by another build before."""
        begun = time.monotonic()
        self._observe(StepStarted(self._ref(node)))
        sources = [self.cache.result(source) for source in node.sources]
        listed = partial(self._listed, node) if self._is_followed(node) else None
        try:
            with placed(node):
                made = await self._steps.make(
                    node, self._parent(node), [source.snapshot for source in sources if source], self._ref(node), listed
                )
        except Exception as error:
            if not (isinstance(error, BuildError) and error.reported):
                self._observe(step_broke(self._ref(node), time.monotonic() - begun, error))
            raise
        if made is None:
            return None
        result = await self.cache.record(node, made)
        self._finished(node, cached=False, seconds=time.monotonic() - begun)
        return result

    def _parent(self, node: Node) -> Parent:
        """What a node stands on, as far as that has come."""
        parent = self.cache.result(node.parent)
        if parent is not None:
            return parent.snapshot
        assert node.parent is not None
        return self._ahead[node.parent]

    def _is_followed(self, node: Node) -> bool:
        return any(self._plan.nodes[one].parent == node.id for one in self._following)

    def _listed(self, node: Node, changeset: str) -> None:
        """What a RUN has left can be stood upon."""
        parent = self.cache.result(node.parent)
        assert parent is not None

        async def written() -> int | None:
            await wait_until(lambda: node.id in self.cache.results)
            return self.cache.results[node.id].snapshot

        self._ahead[node.id] = Ahead(changeset, parent.snapshot, written)

    def _finished(self, node: Node, *, cached: bool, seconds: float) -> None:
        if isinstance(node.step, RunStep | CopyStep | WorkdirStep):
            self._observe(StepFinished(self._ref(node), cached, seconds))

    def _ref(self, node: Node) -> StepRef:
        return StepRef(node.id, node.stage, node.number, self._totals[node.stage], node.text)
