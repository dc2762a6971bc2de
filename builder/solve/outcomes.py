"""Records how each step of a build ended, for `pybuild why`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from pybuild.builder.events import Note, StepFinished, StepStarted
from pybuild.builder.plan.graph import BaseStep, RunStep, source_mounts
from pybuild.store.errors import StoreError
from pybuild.store.objects.builds import (
    TEXT_LIMIT,
    BuiltStep,
    MountedFiles,
    Outcome,
    StoredBuild,
    id_of_cache,
    key_in_cache,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.events import Event
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.session import Session
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.store.formats.cache_index import CacheIndex


class OutcomeRecorder:
    """An observer that passes events on and remembers how each step ended."""

    def __init__(self, session: Session, build: str, recipe: str) -> None:
        """`build` is the id under which the store remembers the build; with "" it does not."""
        self.manifest = ""  # digest of the image, once it exists
        self._store = session.store
        self._observe = session.observe
        self._build = build
        self._recipe = os.path.abspath(recipe) if os.path.isfile(recipe) else recipe
        self._target = session.options.target or ""
        self._outcomes: dict[int, Outcome] = {}  # by node

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(step=step):
                self._outcomes[step.node] = Outcome.FAILED
            case StepFinished(step=step, cached=cached):
                self._outcomes[step.node] = Outcome.CACHED if cached else Outcome.RAN
            case _:
                pass
        self._observe(event)

    def build_so_far(self, plan: Plan, cache: BuildCache) -> StoredBuild:
        """The build with the outcomes known now."""
        return StoredBuild(self._build, self._recipe, self._target, self.manifest, tuple(self._steps(plan, cache)))

    def save(self, plan: Plan, cache: BuildCache) -> None:
        """Save the build in the store. A failure becomes a note and does not fail the build."""
        if not self._build or self._store.obstacle is not None:
            return
        try:
            self._store.builds.add(self.build_so_far(plan, cache))
        except StoreError as error:
            self._observe(Note(f"the store will not remember this build: {error}"))

    def know_cache(self, place: str, index: CacheIndex) -> None:
        """Keep the steps of a cache of other machines, to explain the misses of this build by them."""
        if not self._build or self._store.obstacle is not None:
            return
        steps = [
            BuiltStep(
                node, None, (), step.stage, step.number, 0, step.instruction[:TEXT_LIMIT], Outcome.RAN,
                False, key_in_cache(record.canonical), None, (), step.inputs,
            )
            for node, record in enumerate(index.records)
            for step in (record.step,)
        ]  # fmt: skip
        self._store.builds.add(StoredBuild(id_of_cache(place), self._recipe, self._target, "", tuple(steps)))

    def _steps(self, plan: Plan, cache: BuildCache) -> Iterator[BuiltStep]:
        for node in plan.nodes:
            result = cache.results.get(node.id)
            if result is None and node.id not in self._outcomes and self.manifest:
                continue  # the image did not need it
            outcome = self._outcomes.get(node.id, Outcome.NOT_RUN if result is None else Outcome.CACHED)
            if result is not None:
                key, inputs = result.canonical, self._inputs(node, result.canonical)
            else:
                found = cache.key_of(node)
                key, inputs = ("", "") if found is None else (found.digest, found.inputs)
            yield BuiltStep(
                node.id, node.parent, tuple(source for source in node.sources if source is not None), node.stage,
                node.number, node.span.line, node.text[:TEXT_LIMIT], outcome,
                node.fresh, key, None if result is None else result.snapshot,
                node.step.args if isinstance(node.step, RunStep) else (), inputs, _mounted(node), node.label,
            )  # fmt: skip

    def _inputs(self, node: Node, key: str) -> str:
        if isinstance(node.step, BaseStep):
            return json.dumps({"step": "FROM", "manifest": str(node.step.image.manifest_digest)})
        return self._store.records.inputs_of(key) or ""


def _mounted(node: Node) -> tuple[MountedFiles, ...]:
    if not isinstance(node.step, RunStep):
        return ()
    # Only mounts that read files of a source have a number.
    reading = ((mount, mount.source) for mount in source_mounts(node.step))
    return tuple(
        MountedFiles(node.sources[number], mount.path, mount.target) for mount, number in reading if number is not None
    )
