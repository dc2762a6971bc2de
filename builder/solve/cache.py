"""What the cache has for the steps of a build, and what it gets.

The keys of all steps are looked up forwards, as far as the results of what they read are known, and without running
anything. The key of a RUN or a WORKDIR is known even where its record is gone, so that what copies from it can still be found.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep, source_mounts
from pybuild.builder.solve import cache_keys
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.records import KeyKind
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.steps.make import Made, Steps
    from pybuild.store.formats.toc import Entry
    from pybuild.store.objects.records import Record
    from pybuild.store.store import Store


@frozen
class Result:
    """What a step has come to."""

    canonical: str  # the key that later steps build theirs from
    snapshot: int | None
    created: int  # when it ran, seconds since the epoch


_NOTHING = Result(cache_keys.SCRATCH, None, 0)


@contextmanager
def placed(node: Node) -> Iterator[None]:
    """Errors about a step are told at its place in the recipe, also where it is the store that has no room for it."""
    try:
        yield
    except PybuildError as error:
        raise error.at(node.span) from error


class BuildCache:
    """For one plan and one store."""

    def __init__(self, plan: Plan, store: Store, steps: Callable[[], Steps], tree_map: Callable[[], str]) -> None:
        """`steps` is called where files have to be read for a key, `tree_map` where it matters who can read a tree."""
        self._plan = plan
        self._store = store
        self._new_steps = steps
        self._tree_map = tree_map
        self.results: dict[int, Result] = {}  # what is known by now, by node id
        self._canonical: dict[int, str] = {}  # the keys that later steps build theirs from, as far as they are known
        self._renewed: set[int] = set()  # the nodes of which there may be another result under the same key
        self._bound: dict[int, list[str]] = {}  # of a RUN: digests of the files that it has mounted
        self._contents: dict[int, str] = {}  # digests of what a COPY would copy, where that was looked at
        self._used: list[Record] = []

    @property
    def _steps(self) -> Steps:
        return self._new_steps()

    def touch(self) -> None:
        """Note that the records which have served were of use."""
        self._store.records.mark_used(self._used, int(time.time()))

    async def look_up_all(self) -> set[int]:
        """The nodes that a record serves."""
        hits = set()
        for node in self._plan.nodes:
            found = await self.look_up(node)
            if found is not None:
                self.know(node, found)
                hits.add(node.id)
        return hits

    def know(self, node: Node, result: Result) -> None:
        """A node has come to this."""
        self.results[node.id] = result
        self._canonical[node.id] = result.canonical

    def key_of(self, node: Node) -> cache_keys.Key | None:
        """The key of a node that has no result yet, as far as its inputs are known."""
        content, parent = self._contents.get(node.id), self.result(node.parent)
        if isinstance(node.step, CopyStep) and content is not None and parent is not None:
            if node.step.link:
                return cache_keys.link_key(node.step, node.platform, content)
            return self._content_key(node, node.step, content)
        if isinstance(node.step, RunStep) and node.id in self._bound and parent is not None:
            return cache_keys.bound_key(node.step, node.platform, parent.canonical, self._bound[node.id])
        return None if isinstance(node.step, BaseStep) else self.definition(node)

    def rows(self, node: Node) -> list[Entry]:
        """All that a COPY would copy, whose inputs are known; nothing is written."""
        parent, *sources = (self.result(below) for below in (node.parent, *node.sources))
        assert parent is not None
        source = sources[0] if sources else None
        return run_until_complete(self._steps.rows(node, parent.snapshot, source.snapshot if source else None))

    def result(self, node: int | None) -> Result | None:
        """What a node has come to, as far as that is known; without one it is nothing."""
        return _NOTHING if node is None else self.results.get(node)

    async def look_up(self, node: Node) -> Result | None:
        """Find a record for a node on a known parent; None where there is none, or where that is not known yet."""
        if isinstance(node.step, BaseStep):
            config = node.step.image.config
            return Result(cache_keys.base_key(str(chain_id(config.diff_ids))), node.step.image.snapshot, 0)
        if isinstance(node.step, CopyStep) and node.step.remote:
            with placed(node):
                await self._steps.identify(node.step)
        key = self.definition(node)
        if key is None or node.fresh:
            return None
        reads_files = isinstance(node.step, RunStep) and bool(source_mounts(node.step))
        if not isinstance(node.step, CopyStep) and not reads_files:
            self._canonical[node.id] = key.digest
        parent = self.result(node.parent)
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
            record = None if self._reads_renewed(node) else self._find(key.digest, parent.snapshot)
            if record is not None:
                return self._served(record)
        if isinstance(node.step, CopyStep) and (node.step.reads_context or not node.step.remote):
            source = self.result(node.sources[0]) if node.step.from_stage else None
            if node.step.from_stage and source is None:
                return None
            content = await self._content(node, parent.snapshot, source)
            by_content = self._content_key(node, node.step, content)
            # Known even where its record is gone, as that of a RUN is.
            self._canonical[node.id] = by_content.digest
            record = self._find(by_content.digest, parent.snapshot)
            if record is not None:
                if not node.step.reads_context:
                    self._store.records.add_key(key.digest, KeyKind.DEFINITION, record)
                return self._served(record)
        if reads_files and (content_key := await self.bound_key(node)) is not None:
            self._canonical[node.id] = content_key.digest
            record = self._find(content_key.digest, parent.snapshot)
            if record is not None:
                self._store.records.add_key(key.digest, KeyKind.DEFINITION, record)
                return self._served(record)
        return None

    async def bound_key(self, node: Node) -> cache_keys.Key | None:
        """The content key of a RUN that has files mounted; None where it has none, or they are not known yet."""
        parent = self.result(node.parent)
        sources = [self.result(source) for source in node.sources]
        if not isinstance(node.step, RunStep) or not source_mounts(node.step) or parent is None or None in sources:
            return None
        if node.id not in self._bound:
            with placed(node):
                self._bound[node.id] = await self._steps.mounted(
                    node.step, [source.snapshot for source in sources if source]
                )
        return cache_keys.bound_key(node.step, node.platform, parent.canonical, self._bound[node.id])

    async def _look_up_link(self, node: Node, step: CopyStep, key: cache_keys.Key, parent: Result) -> Result | None:
        """As `look_up`, for a layer that depends on nothing below: a record on another snapshot serves too."""
        records = self._store.records
        if step.reads_context and not records.has_key(key.digest):
            return None
        by_name = not step.reads_context and not self._reads_renewed(node)
        record = records.find_anywhere(key.digest) if by_name else None
        if record is None and (step.reads_context or not step.remote):
            source = self.result(node.sources[0]) if step.from_stage else None
            if step.from_stage and source is None:
                return None
            content = await self._content(node, None, source)
            record = records.find_anywhere(cache_keys.link_key(step, node.platform, content).digest)
        if record is None:
            return None
        stacked = cache_keys.stacked_key(parent.canonical, record.canonical)
        here = self._find(stacked, parent.snapshot)
        if here is None:
            (changeset, *_) = self._store.snapshots.changesets(record.snapshot)
            snapshot = self._store.snapshots.add(parent.snapshot, changeset)
            kind = KeyKind.TEXT if step.reads_context else KeyKind.DEFINITION
            keys = {stacked: KeyKind.CONTENT, record.canonical: KeyKind.CONTENT, key.digest: kind}
            inputs = records.inputs(record)
            here = records.add(keys, snapshot, parent.snapshot, record.canonical, inputs, record.created)
        return replace(self._served(here), canonical=stacked)

    def _was_built(self, node: Node, key: cache_keys.Key, parent: Result) -> bool:
        """Whether this text was built before on what lies below, even if its record is gone."""
        return self._store.records.has_key(key.digest) or self._store.builds.has_succeeded(parent.canonical, node.text)

    def _reads_renewed(self, node: Node) -> bool:
        """Whether something that a node reads was made anew: then what it reads is not known by its key."""
        return not self._renewed.isdisjoint(node.sources)

    async def _content(self, node: Node, parent: int | None, source: Result | None) -> str:
        if node.id not in self._contents:  # what it reads and stands on never changes once it is known
            with placed(node):
                content = await self._steps.content(node, parent, source.snapshot if source else None)
            self._contents[node.id] = content
        return self._contents[node.id]

    def _find(self, key: str, parent: int | None) -> Record | None:
        """The record of a key, if what it made stands on the snapshot `parent` and can be read."""
        record = self._store.records.find(key, parent)
        return record if record is not None and self._readable(record) else None

    def _readable(self, record: Record) -> bool:
        """Whether the files that a step made are within reach. Those of what it stands on are, or that would not serve."""
        maps = self._store.snapshots.required_id_maps(record.snapshot)
        return maps is None or self._tree_map() in maps

    def _served(self, record: Record) -> Result:
        self._used.append(record)
        return Result(record.canonical, record.snapshot, record.created)

    def definition(self, node: Node) -> cache_keys.Key | None:
        """The definition key of a node; None where the key of an input is not known."""
        on = () if isinstance(node.step, CopyStep) and node.step.link else (node.parent,)
        found = [cache_keys.SCRATCH if below is None else self._canonical.get(below) for below in (*on, *node.sources)]
        if isinstance(node.step, CopyStep) and node.step.remote:
            found += self._steps.identities(node.step)
        inputs = [one for one in found if one is not None]
        if len(inputs) < len(found):
            return None
        return cache_keys.definition_key(node.step, node.platform, inputs)

    def _content_key(self, node: Node, step: CopyStep, content: str) -> cache_keys.Key:
        parent = self.result(node.parent)
        assert parent is not None
        return cache_keys.content_key(step, node.platform, parent.canonical, content)

    async def record(self, node: Node, made: Made) -> Result:
        """What was made of a node is known from now on, and to other builds."""
        definition, parent, bound_key = self.definition(node), self.result(node.parent), await self.bound_key(node)
        assert definition is not None and parent is not None
        keys = {definition.digest: KeyKind.DEFINITION}
        canonical, inputs = definition.digest, definition.inputs
        stacked = None
        if bound_key is not None:
            keys[bound_key.digest] = KeyKind.CONTENT
            canonical, inputs = bound_key.digest, bound_key.inputs
        if isinstance(node.step, CopyStep):
            content = self._content_key(node, node.step, made.content)
            if node.step.link:
                content = cache_keys.link_key(node.step, node.platform, made.content)
                stacked = cache_keys.stacked_key(parent.canonical, content.digest)
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
            keys, snapshot, parent.snapshot, canonical, inputs, int(time.time()), replace=anew, serves=self._readable
        )
        return Result(stacked or record.canonical, record.snapshot, record.created)
