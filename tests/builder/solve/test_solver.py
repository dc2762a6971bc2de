"""Which steps run, which the cache serves, and how two builds at once end."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.builder.caches.caches import Caches
from pybuild.builder.errors import BuildError, ClaimedTableWrong, StepFailed
from pybuild.builder.events import StepFinished, StepStarted
from pybuild.builder.host.id_map import IdMap, MapKind
from pybuild.builder.session import Session
from pybuild.builder.solve.outcomes import OutcomeRecorder
from pybuild.builder.solve.solver import Solver
from pybuild.builder.steps.make import MadeLayer
from pybuild.builder.steps.pending_layer import PendingLayer
from pybuild.builder.workers.tasks import wait_until
from pybuild.store.formats.toc import Toc
from pybuild.store.store import Store
from tests.support.cli import Pybuild, write_context
from tests.support.recipes import Images, image, options, planned
from tests.support.stored import new_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pybuild.builder.events import Event, StepRef
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.solve.node_keys import NodeResult
    from pybuild.builder.steps.pending_layer import OnListed, Parent


class FakePool:
    """Workers that make every tree under one id map."""

    tree_map = "map"
    id_map = IdMap(MapKind.IDENTITY, (), ())


@dataclass
class FakeSteps:
    """Steps that make empty changesets. `holds`: text of a COPY -> what it finds; `fails`: the step that fails."""

    store: Store
    holds: dict[str, str] = field(default_factory=dict)
    fails: str = ""
    waits: dict[str, str] = field(default_factory=dict)  # step -> the step that must begin before it ends
    ran: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    slow: frozenset[str] = (
        frozenset()
    )  # steps whose layers are written only after the next step has had a chance to begin
    parents: dict[str, object] = field(default_factory=dict)  # step -> what it stood on
    below_runs: set[int] = field(default_factory=set)
    stopped: bool = False

    def check_possible(self, nodes: Sequence[Node]) -> None:
        """All are."""

    def expect_runs_on(self, snapshots: Iterable[int]) -> None:
        self.below_runs.update(snapshots)

    def check_claimed(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True

    def tidy(self) -> None:
        pass

    async def content(self, node: Node, parent: int | None, source: int | None) -> str:
        self.read.append(node.text)
        return self.holds.get(node.text, node.text)

    async def make(
        self, node: Node, parent: Parent, sources: Sequence[int | None], ref: StepRef, on_listed: OnListed | None
    ) -> MadeLayer | None:
        self.ran.append(node.text)
        self.parents[node.text] = parent
        if node.text == self.fails:
            raise StepFailed("it failed", 1)
        try:
            await wait_until(lambda: self.waits.get(node.text, node.text) in self.ran)
        except GeneratorExit:
            self.closed.append(node.text)
            raise
        assert not self.stopped
        toc = Toc.write(self.store.ingest.new_path(), [])
        changeset = self.store.changesets.adopt_with_tree(toc, "map", new_tree(self.store, []))
        if isinstance(parent, PendingLayer):
            if self.store.snapshots.changesets(await parent.written())[0] != parent.changeset:
                return None
        if on_listed is not None and node.text in self.slow:
            before = len(self.ran)
            on_listed(changeset)
            await wait_until(lambda: len(self.ran) > before)
        return MadeLayer(changeset, self.holds.get(node.text, node.text) if node.text.startswith("COPY") else "")


@dataclass
class Bench:
    """A store with a base image, and builds on it."""

    store: Store
    base: int
    events: list[Event] = field(default_factory=list)
    steps: FakeSteps | None = None  # of the last build

    def build(self, text: str, holds: Mapping[str, str] | None = None, **fields: Any) -> FakeSteps:
        """Solve a recipe; return what its steps saw."""
        return self.solve(text, holds, **fields)[0]

    def solve(
        self,
        text: str,
        holds: Mapping[str, str] | None = None,
        fails: str = "",
        waits: Mapping[str, str] | None = None,
        slow: Sequence[str] = (),
        **fields: Any,
    ) -> tuple[FakeSteps, NodeResult | None]:
        """Like `build`; return the result of the target too."""
        images = Images({"base": replace(image(), snapshot=self.base)})
        plan = planned(text, images, **fields)
        steps = self.steps = FakeSteps(self.store, dict(holds or {}), fails, dict(waits or {}), slow=frozenset(slow))
        self.events.clear()
        results = self._solver(plan, steps, fields).solve()
        return steps, None if plan.image.node is None else results[plan.image.node]

    def solve_with(self, steps: FakeSteps, text: str, **fields: Any) -> Mapping[int, NodeResult]:
        """Solve a recipe with steps of the test's own; return the results of the nodes."""
        plan = planned(text, Images({"base": replace(image(), snapshot=self.base)}), **fields)
        self.events.clear()
        return self._solver(plan, steps, fields).solve()

    def _solver(self, plan: Plan, steps: FakeSteps, fields: dict[str, Any]) -> Solver:
        session = Session(self.store, FakePool(), options(**fields), self.events.append)  # type: ignore[arg-type]
        return Solver(session, plan, lambda: steps, OutcomeRecorder(session, "", "Buildfile"), Caches(session))  # type: ignore[arg-type, return-value]

    def evict(self, text: str) -> None:
        """Forget the records of the RUN with this command."""
        with self.store.metadata.transaction() as db:
            gone = db.execute("DELETE FROM records WHERE inputs LIKE ?", (f'%"{text}"%',))
            assert gone.rowcount == 1

    @property
    def cached(self) -> dict[str, bool]:
        """The steps that the last build reported, and whether each was cached."""
        return {event.step.instruction: event.cached for event in self.events if isinstance(event, StepFinished)}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store(str(tmp_path / "store")) as store:
        changeset = store.changesets.add([], store.ingest.new_path())
        yield Bench(store, store.snapshots.add(None, changeset))


TWO = """\
FROM base AS build
RUN compile
RUN link
FROM base
COPY --from=build /out /app
RUN check
"""


def test_everything_runs_once_and_in_order(bench: Bench) -> None:
    assert bench.build(TWO).ran == ["RUN compile", "RUN link", "COPY --from=build /out /app", "RUN check"]


def test_the_second_time_nothing_runs_and_nothing_is_read(bench: Bench) -> None:
    _, first = bench.solve(TWO)
    steps, second = bench.solve(TWO)
    assert (steps.ran, steps.read, second) == ([], [], first)


def test_a_started_step_is_also_reported_finished(bench: Bench) -> None:
    bench.build(TWO)
    begun = [event.step for event in bench.events if isinstance(event, StepStarted)]
    assert begun == [event.step for event in bench.events if isinstance(event, StepFinished)]


def test_a_stage_that_nothing_reads_is_not_reported(bench: Bench) -> None:
    bench.build(TWO)
    bench.build(TWO)
    assert bench.cached == {"COPY --from=build /out /app": True, "RUN check": True}


def test_steps_of_one_key_in_two_stages_run_once(bench: Bench) -> None:
    text = "FROM base AS a\nRUN same\nFROM base AS b\nRUN same\nFROM base\nCOPY --from=a /x /x\nCOPY --from=b /y /y"
    assert bench.build(text).ran.count("RUN same") == 1


def test_a_target_runs_what_it_needs_and_no_more(bench: Bench) -> None:
    assert bench.build(TWO, target="build").ran == ["RUN compile", "RUN link"]


def test_a_target_without_layers_runs_nothing(bench: Bench) -> None:
    steps, result = bench.solve("FROM base AS a\nRUN x\nFROM scratch")
    assert (steps.ran, result) == ([], None)


# Side by side


def test_stages_that_do_not_read_each_other_are_made_at_the_same_time(bench: Bench) -> None:
    text = "FROM base AS a\nRUN one\nFROM base AS b\nRUN two\nFROM base\nCOPY --from=a /x /x\nCOPY --from=b /y /y"
    assert bench.solve(text, waits={"RUN one": "RUN two"})[1] is not None


def test_a_step_runs_while_the_stage_is_built_that_a_later_step_copies_from(bench: Bench) -> None:
    text = "FROM base AS build\nRUN compile\nFROM base\nRUN install\nCOPY --from=build /x /x"
    assert bench.solve(text, waits={"RUN compile": "RUN install"})[1] is not None


def test_jobs_bounds_how_many_commands_run(bench: Bench) -> None:
    text = "FROM base AS a\nRUN one\nRUN two\nFROM base AS b\nRUN three\nFROM base\nCOPY --from=a /x /x\nCOPY --from=b /y /y"
    bench.solve(text, jobs=1)
    running = most = 0
    for event in bench.events:
        if isinstance(event, StepStarted | StepFinished) and event.step.instruction.startswith("RUN"):
            running += 1 if isinstance(event, StepStarted) else -1
            most = max(most, running)
    assert most == 1


def test_a_failure_ends_the_other_running_steps(bench: Bench) -> None:
    text = "FROM base AS a\nRUN long\nFROM base\nRUN bad\nCOPY --from=a /x /x"
    with pytest.raises(StepFailed):
        bench.solve(text, fails="RUN bad", waits={"RUN long": "nothing"})
    assert bench.steps is not None
    assert (bench.steps.closed, bench.steps.stopped) == (["RUN long"], True)


# Demand


@pytest.mark.parametrize("evicted", [["compile"], ["link"], ["compile", "link"]], ids="+".join)
def test_a_cached_image_does_not_need_the_records_of_what_was_copied_from(bench: Bench, evicted: list[str]) -> None:
    _, first = bench.solve(TWO)
    for command in evicted:
        bench.evict(command)
    steps, second = bench.solve(TWO)
    assert (steps.ran, steps.read, second) == ([], [], first)


def test_an_evicted_stage_runs_again_where_something_new_reads_it(bench: Bench) -> None:
    bench.build(TWO)
    bench.evict("link")
    steps = bench.build(TWO.replace("/out /app", "/out /other"))
    assert steps.ran == ["RUN link", "COPY --from=build /out /other", "RUN check"]
    assert bench.cached["RUN compile"]


def test_an_evicted_step_of_the_image_itself_runs_again(bench: Bench) -> None:
    bench.build(TWO)
    bench.evict("check")
    assert bench.build(TWO).ran == ["RUN check"]


def test_steps_on_an_evicted_step_run_again_with_it(bench: Bench) -> None:
    bench.build("FROM base\nRUN one\nRUN two")
    bench.evict("one")
    assert bench.build("FROM base\nRUN one\nRUN two").ran == ["RUN one", "RUN two"]


def test_an_image_s_layers_are_one_chain_after_an_eviction(bench: Bench) -> None:
    text = "FROM base\nRUN one\nRUN two"
    bench.build(text)
    bench.evict("one")
    _, result = bench.solve(text)
    assert result is not None and result.snapshot is not None
    below = bench.store.snapshots.parent(result.snapshot)
    assert below is not None and bench.store.snapshots.parent(below) == bench.base


# Content

CONTEXT = "FROM base\nCOPY src /src\nRUN make"


def test_steps_are_told_what_runs_will_mount(bench: Bench) -> None:
    """Layers of other machines then get their trees while they arrive."""
    lower = "FROM base\nRUN first\n"
    assert bench.build(lower).below_runs == {bench.base}
    _, first = bench.solve(lower)
    assert first is not None and first.snapshot is not None
    assert bench.build(lower + "COPY a /\nRUN second\nRUN third\n").below_runs == {first.snapshot}
    assert bench.build(lower + "COPY b /\nCOPY c /\n").below_runs == set()
    assert bench.build("FROM scratch\nRUN on nothing\n").below_runs == set()


def test_a_context_is_read_for_its_key_only_where_this_text_was_built_before(bench: Bench) -> None:
    assert bench.build(CONTEXT).read == []
    assert bench.build(CONTEXT).read == ["COPY src /src"]


def test_other_files_under_the_same_text_are_a_miss(bench: Bench) -> None:
    bench.build(CONTEXT, {"COPY src /src": "old"})
    assert bench.build(CONTEXT, {"COPY src /src": "new"}).ran == ["COPY src /src", "RUN make"]


def test_restored_files_are_a_hit_again(bench: Bench) -> None:
    for content in ("old", "new"):
        bench.build(CONTEXT, {"COPY src /src": content})
    assert bench.build(CONTEXT, {"COPY src /src": "old"}).ran == []


def test_another_stage_with_the_same_files_hits_from_the_copy_on(bench: Bench) -> None:
    holds = {"COPY --from=build /out /app": "the program"}
    bench.build(TWO, holds)
    steps = bench.build(TWO.replace("RUN link", "RUN link --quietly"), holds)
    assert steps.ran == ["RUN link --quietly"]
    assert steps.read == ["COPY --from=build /out /app"]


def test_a_hit_by_content_becomes_a_hit_by_definition(bench: Bench) -> None:
    holds = {"COPY --from=build /out /app": "the program"}
    other = TWO.replace("RUN link", "RUN link --quietly")
    for text in (TWO, other):
        bench.build(text, holds)
    steps = bench.build(other, holds)
    assert (steps.ran, steps.read) == ([], [])


def test_another_stage_with_other_files_is_a_miss(bench: Bench) -> None:
    bench.build(TWO)
    steps = bench.build(TWO.replace("RUN link", "RUN strip"), {"COPY --from=build /out /app": "smaller"})
    assert steps.ran == ["RUN strip", "COPY --from=build /out /app", "RUN check"]


# --no-cache


def test_no_cache_runs_everything_and_replaces_the_records(bench: Bench) -> None:
    _, first = bench.solve(TWO)
    steps, second = bench.solve(TWO, no_cache=True)
    assert len(steps.ran) == 4 and steps.read == []
    _, third = bench.solve(TWO)
    assert third == second != first


# --no-cache-filter

PROGRAM = "COPY --from=build /out /app"


@pytest.mark.parametrize("name", ["build", "BUILD", "0"])
def test_a_filtered_stage_runs_even_if_the_image_is_cached(bench: Bench, name: str) -> None:
    _, first = bench.solve(TWO, {PROGRAM: "the program"})
    steps, second = bench.solve(TWO, {PROGRAM: "the program"}, no_cache_stages=(name,))
    assert (steps.ran, steps.read) == (["RUN compile", "RUN link"], [PROGRAM])
    assert bench.cached[PROGRAM] and second == first


def test_a_copy_from_a_fresh_stage_is_looked_up_by_content(bench: Bench) -> None:
    bench.build(TWO, {PROGRAM: "old"})
    steps, second = bench.solve(TWO, {PROGRAM: "new"}, no_cache_stages=("build",))
    assert steps.ran == ["RUN compile", "RUN link", PROGRAM, "RUN check"]
    steps, third = bench.solve(TWO, {PROGRAM: "new"})
    assert (steps.ran, third) == ([], second)


def test_a_fresh_stage_with_the_files_of_another_recipe_is_a_hit(bench: Bench) -> None:
    bench.build(TWO, {PROGRAM: "old"})
    bench.build(TWO.replace("link", "link -s"), {PROGRAM: "new"})
    steps = bench.build(TWO, {PROGRAM: "new"}, no_cache_stages=("build",))
    assert steps.ran == ["RUN compile", "RUN link"]


def test_a_link_copy_is_read_again_if_its_stage_is_fresh(bench: Bench) -> None:
    text = TWO.replace("COPY --from", "COPY --link --from")
    link = "COPY --link --from=build /out /app"
    bench.build(text, {link: "old"})
    assert bench.build(text, {link: "new"}, no_cache_stages=("build",)).ran[2:] == [link, "RUN check"]
    assert bench.build(text, {link: "new"}).ran == []


def test_a_stage_on_a_fresh_one_runs_again(bench: Bench) -> None:
    text = "FROM base AS a\nRUN one\nFROM a AS b\nRUN two\nFROM base\nRUN three\nCOPY --from=b /x /x"
    bench.build(text)
    steps = bench.build(text, {"COPY --from=b /x /x": "other"}, no_cache_stages=("a",))
    assert steps.ran == ["RUN one", "RUN two", "COPY --from=b /x /x"]


def test_a_fresh_stage_keeps_the_layers_below_it(bench: Bench) -> None:
    bench.build(TWO)
    steps = bench.build(TWO, no_cache_stages=("1",))
    assert steps.ran == [PROGRAM, "RUN check"]


# Failure


def test_steps_before_a_failure_are_cached(bench: Bench) -> None:
    with pytest.raises(StepFailed) as caught:
        bench.solve(TWO, fails="RUN check")
    assert caught.value.span is not None and caught.value.span.line == 6
    assert bench.build(TWO).ran == ["RUN check"]


def test_nothing_runs_after_a_failure(bench: Bench) -> None:
    steps = FakeSteps(bench.store, fails="RUN compile")
    with pytest.raises(StepFailed):
        bench.solve_with(steps, TWO)
    assert steps.ran == ["RUN compile"]
    assert bench.cached == {}


# Two builds at once


def test_the_first_of_two_results_for_one_key_wins(bench: Bench) -> None:
    """Another build finishes the same step while ours runs: ours continues on the snapshot of the other."""
    theirs: list[NodeResult | None] = []

    class Overtaken(FakeSteps):
        async def make(self, node: Node, *others: object) -> MadeLayer | None:
            if node.text == "RUN one":
                theirs.append(bench.solve("FROM base\nRUN one")[1])
            return await super().make(node, *others)  # type: ignore[arg-type]

    steps = Overtaken(bench.store)
    results = bench.solve_with(steps, "FROM base\nRUN one\nRUN two")
    assert results[1] == theirs[0]
    top = results[2].snapshot
    assert top is not None and bench.store.snapshots.parent(top) == results[1].snapshot


# -- trees that cannot be read


STAGES = "FROM base AS a\nRUN one\nRUN two\nFROM base\nCOPY --from=a /x /x"


def other_map(bench: Bench, text: str) -> None:
    """Mark the tree of the RUN with this command as made under another id map than that of the next build."""
    with bench.store.metadata.transaction() as db:
        changed = db.execute(
            "UPDATE trees SET id_map = 'another' WHERE changeset IN (SELECT changeset FROM snapshots WHERE id IN"
            " (SELECT snapshot FROM records WHERE inputs LIKE ?))",
            (f'%"{text}"%',),
        )
        assert changed.rowcount == 1


def test_a_step_whose_tree_cannot_be_read_is_made_again_when_needed(bench: Bench) -> None:
    bench.build(STAGES)
    other_map(bench, "two")
    assert bench.build(STAGES).ran == []
    changed = STAGES.replace("/x /x", "/y /y")
    assert bench.build(changed).ran == ["RUN two", "COPY --from=a /y /y"]
    assert bench.build(changed).ran == []
    other_map(bench, "one")
    assert bench.build(STAGES.replace("/x /x", "/z /z")).ran == ["RUN one", "RUN two", "COPY --from=a /z /z"]


def test_equal_steps_whose_trees_cannot_be_read_run_once(bench: Bench) -> None:
    text = "FROM base AS a\nRUN one\nFROM base AS b\nRUN one\nFROM base\nCOPY --from=a /{0} /a\nCOPY --from=b /{0} /b"
    bench.build(text.format("x"))
    other_map(bench, "one")
    assert bench.build(text.format("y")).ran.count("RUN one") == 1


# -- steps that begin on a layer that is still being written

CHAIN = "FROM base\nRUN one\nRUN two\nRUN three\nWORKDIR /a\nRUN four"


def test_a_run_begins_before_the_layer_below_is_written(bench: Bench) -> None:
    steps, result = bench.solve(CHAIN, slow=["RUN one"])
    assert steps.ran == CHAIN.splitlines()[1:]
    assert {text for text, parent in steps.parents.items() if isinstance(parent, PendingLayer)} == {"RUN two"}
    assert result is not None
    assert len(bench.store.snapshots.changesets(result.snapshot)) == 6
    again, _ = bench.solve(CHAIN, slow=["RUN one"], no_cache=True)
    assert isinstance(again.parents["RUN two"], PendingLayer)
    assert bench.build(CHAIN).ran == []


def test_with_one_job_the_layer_comes_first(bench: Bench) -> None:
    class Tells(FakeSteps):
        async def make(self, node: Node, parent: Parent, *others: object) -> MadeLayer | None:
            made = await super().make(node, parent, *others)  # type: ignore[arg-type]
            listed, begun = others[-1], len(self.ran)
            if callable(listed):
                assert made is not None
                listed(made.changeset)
                await wait_until(iter([False, True]).__next__)  # every task that can run does
                assert len(self.ran) == begun
            return made

    steps = Tells(bench.store)
    bench.solve_with(steps, CHAIN, jobs=1)
    assert steps.ran == CHAIN.splitlines()[1:]


def test_a_layer_below_a_step_that_fails_is_recorded(bench: Bench) -> None:
    """The next build finds a layer that was being written when the next command failed."""

    class Fails(FakeSteps):
        async def make(self, node: Node, parent: Parent, *others: object) -> MadeLayer | None:
            if node.text != "RUN two":
                return await super().make(node, parent, *others)  # type: ignore[arg-type]
            self.ran.append(node.text)
            assert isinstance(parent, PendingLayer)
            await parent.written()
            raise StepFailed("it failed", 1)

    steps = Fails(bench.store, slow=frozenset(["RUN one"]))
    with pytest.raises(StepFailed, match="it failed") as caught:
        bench.solve_with(steps, CHAIN)
    assert caught.value.span is not None and caught.value.span.line == 3
    assert bench.build(CHAIN).ran[0] == "RUN two"


def test_a_layer_that_cannot_be_written_ends_the_step_on_top(bench: Bench) -> None:
    class Fails(FakeSteps):
        async def make(self, node: Node, parent: Parent, *others: object) -> MadeLayer | None:
            made = await super().make(node, parent, *others)  # type: ignore[arg-type]
            if node.text == "RUN one":
                raise BuildError("no layer")
            return made

    steps = Fails(bench.store, slow=frozenset(["RUN one"]))
    with pytest.raises(BuildError, match="no layer") as caught:
        bench.solve_with(steps, CHAIN)
    assert caught.value.span is not None and caught.value.span.line == 2  # the error names the step whose layer it was
    assert steps.ran == ["RUN one", "RUN two"] and steps.stopped
    assert bench.build(CHAIN).ran[0] == "RUN one"


def test_a_step_on_a_layer_that_another_build_recorded_first_runs_again(bench: Bench) -> None:
    theirs: list[NodeResult | None] = []

    class Overtaken(FakeSteps):
        async def make(self, node: Node, *others: object) -> MadeLayer | None:
            made = await super().make(node, *others)  # type: ignore[arg-type]
            if node.text == "RUN one":
                theirs.append(bench.solve("FROM base\nRUN one")[1])
            return made

    steps = Overtaken(bench.store, slow=frozenset(["RUN one"]))
    results = bench.solve_with(steps, "FROM base\nRUN one\nRUN two")
    assert steps.ran == ["RUN one", "RUN two", "RUN two"]
    assert results[1] == theirs[0]
    assert steps.parents["RUN two"] == results[1].snapshot


RACE = """\
FROM pybuild.test/base AS build
WORKDIR /src
COPY input .
RUN od -An -N8 -tx8 /dev/urandom > out && cat input >> out
FROM pybuild.test/base
COPY --from=build /src/out /app/
RUN od -An -N8 -tx8 /dev/urandom > /app/stamp
"""


@pytest.mark.parametrize("round_", range(3))
def test_two_builds_that_race_end_with_one_image(pybuild: Pybuild, tmp_path: Path, round_: int) -> None:
    """Each RUN gives new bytes each time, so one image means that one build continued on the layers of the other."""
    context = write_context(tmp_path / "context", RACE, input=f"round {round_}\n")
    running = [
        subprocess.Popen(
            [*pybuild.command, "--network=none", str(context)],
            env=pybuild.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    ended = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    pybuild.assert_whole()


def test_a_failure_leaves_the_store_intact_with_the_steps_before_it(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = "FROM pybuild.test/base\nRUN echo done > /done\nCOPY missing /\n"
    context = write_context(tmp_path / "context", recipe)
    said = pybuild.refused("--network=none", context)
    assert "Buildfile:3:1: error:" in said and '"missing": not found' in said
    (context / "missing").write_text("found")
    done = pybuild("--network=none", "--progress=json", context).finished()
    assert done == {"RUN echo done > /done": True, "COPY missing /": False}


def test_a_step_that_was_placed_by_a_wrong_table_is_not_recorded(bench: Bench) -> None:
    """Another build has found the table wrong, and has removed the records above its layer, while the step ran."""

    class Belied(FakeSteps):
        def check_claimed(self) -> None:
            raise ClaimedTableWrong("wrong")

    with pytest.raises(ClaimedTableWrong):
        bench.solve_with(Belied(bench.store), "FROM base\nRUN compile\n")
    assert bench.store.records.are_empty()
