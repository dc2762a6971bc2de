"""The keys of the nodes of one plan, as far as they can be computed: each from what is known of the nodes that it reads.

A node has a canonical key, from which the keys of later nodes are made. That of a RUN is known from its text. That of a
COPY is made of the files at their destination, so it needs the layers below the step, unless a record tells it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import CopyError
from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep
from pybuild.builder.solve import cache_keys
from pybuild.store.system.disk_full import no_space
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.plan.graph import Node
    from pybuild.builder.solve.cache_keys import Key
    from pybuild.builder.steps.make import StepMaker
    from pybuild.store.store import Store


@frozen
class NodeResult:
    """The result of a node, from the cache or made by this build."""

    canonical: str  # the key from which later steps build theirs
    snapshot: int | None
    created: int  # when the step ran, seconds since the epoch
    claimed: bool = (
        False  # whether `canonical` is only what a cache of another machine says, or was made from such a key
    )


_NOTHING = NodeResult(cache_keys.SCRATCH, None, 0)


@contextmanager
def errors_at(node: Node, store: Store) -> Iterator[None]:
    """Add the place of a step in the recipe to every error that it raises, even to that of a full disk."""
    try:
        yield
    except PybuildError as error:
        raise error.at(node.span, platform=node.label) from error
    except OSError as error:
        if isinstance(full := no_space(error, f"the store {store.root}", path=store.root), PybuildError):
            raise full.at(node.span, platform=node.label) from error
        raise


class NodeKeys:
    """The results that are known, and the keys that follow from them."""

    def __init__(self, store: Store, steps: Callable[[], StepMaker]) -> None:
        """`steps` is called when a key needs the content of files."""
        self._store = store
        self._new_steps = steps
        self.results: dict[int, NodeResult] = {}  # by node
        self.canonical: dict[int, str] = {}  # the known canonical keys, by node, also of nodes without a result
        self._claimed: set[int] = set()  # those nodes whose canonical keys are claimed
        self._mounted: dict[int, list[str]] = {}  # of a RUN: digests of the files that it mounts
        self._contents: dict[int, str] = {}  # of a COPY: the digest of what it would copy, if that was read
        self._sources: dict[int, str] = {}  # of a COPY: the digest of its sources; "" if they do not give one

    @property
    def steps(self) -> StepMaker:
        return self._new_steps()

    def know(self, node: Node, result: NodeResult) -> None:
        """Remember the result of a node."""
        self.results[node.id] = result
        self.learn(node, result.canonical, claimed=result.claimed)

    def learn(self, node: Node, canonical: str, *, claimed: bool) -> None:
        """Remember the canonical key of a node, whose result need not be known."""
        self.canonical[node.id] = canonical
        (self._claimed.add if claimed else self._claimed.discard)(node.id)

    @contextmanager
    def supposing(self, node: Node, canonical: str, *, claimed: bool) -> Iterator[None]:
        """Inside the `with`, a node has this canonical key."""
        before, was_claimed = self.canonical.get(node.id), node.id in self._claimed
        self.learn(node, canonical, claimed=claimed)
        try:
            yield
        finally:
            if before is None:
                del self.canonical[node.id]
                self._claimed.discard(node.id)
            else:
                self.learn(node, before, claimed=was_claimed)

    def _made_from(self, key: Key, *nodes: int | None) -> Key:
        """The key, which was made from the canonical keys of these nodes: it is claimed if one of them is."""
        return key if self._claimed.isdisjoint(nodes) else replace(key, claimed=True)

    def result(self, node: int | None) -> NodeResult | None:
        """The result of a node, if it is known. None stands for scratch, whose result is empty."""
        return _NOTHING if node is None else self.results.get(node)

    def canonical_of(self, node: int | None) -> str | None:
        """The canonical key of a node, if it is known. None stands for scratch."""
        return cache_keys.SCRATCH if node is None else self.canonical.get(node)

    def definition(self, node: Node) -> Key | None:
        """The definition key of a node; None if the key of an input is not known."""
        parents = () if isinstance(node.step, CopyStep) and node.step.link else (node.parent,)
        keys = [self.canonical_of(below) for below in (*parents, *node.sources)]
        if isinstance(node.step, CopyStep) and node.step.remote:
            keys += self.steps.identities(node.step)
        inputs = [key for key in keys if key is not None]
        if len(inputs) < len(keys):
            return None
        key = cache_keys.definition_key(node.step, node.platform, inputs)
        return self._made_from(key, *parents, *node.sources)

    def most_exact(self, node: Node) -> Key | None:
        """The most exact key of a node without a result, as far as its inputs are known. For explanations."""
        content, parent = self._contents.get(node.id), self.result(node.parent)
        if isinstance(node.step, CopyStep) and content is not None and parent is not None:
            if node.step.link:
                return cache_keys.link_key(node.step, node.platform, content)
            return self.content_key(node, node.step, content)
        if isinstance(node.step, CopyStep) and (source_key := self.known_source_key(node)) is not None:
            return source_key
        if isinstance(node.step, RunStep) and node.id in self._mounted and parent is not None:
            return cache_keys.mounting_key(node.step, node.platform, parent.canonical, self._mounted[node.id])
        return None if isinstance(node.step, BaseStep) else self.definition(node)

    async def content(self, node: Node, parent: int | None, source: NodeResult | None) -> str:
        """The digest of what a COPY would copy. Computed once, because known inputs of a node do not change."""
        if node.id not in self._contents:
            with errors_at(node, self._store):
                content = await self.steps.content(node, parent, source.snapshot if source else None)
            self._contents[node.id] = content
        return self._contents[node.id]

    def content_key(self, node: Node, step: CopyStep, content: str) -> Key:
        """The key of a COPY from `content`. The result of the parent is known."""
        parent = self.result(node.parent)
        assert parent is not None
        return self._made_from(cache_keys.content_key(step, node.platform, parent.canonical, content), node.parent)

    async def source_key(self, node: Node, step: CopyStep, source: NodeResult | None) -> Key | None:
        """The key of a COPY from its sources alone; None if the parent has no known key, or the sources give none."""
        parent = self.canonical_of(node.parent)
        if parent is None:
            return None
        if node.id not in self._sources:
            try:
                with errors_at(node, self._store):
                    self._sources[node.id] = await self.steps.sources(node, source.snapshot if source else None)
            except CopyError:
                self._sources[node.id] = ""  # the look-up by content tells it, or the step itself
        return self.source_key_of(step, node, self._sources[node.id])

    def sources_of(self, node: Node) -> str:
        """The digest of the sources of a COPY; "" if they were not read, or for another step."""
        return self._sources.get(node.id, "")

    def know_sources(self, node: Node, sources: str) -> None:
        """Remember the digest of the sources of a COPY that has just run."""
        if sources:
            self._sources[node.id] = sources

    def known_source_key(self, node: Node) -> Key | None:
        """The source key of a COPY, if its sources were read."""
        assert isinstance(node.step, CopyStep)
        return self.source_key_of(node.step, node, self._sources.get(node.id, ""))

    def source_key_of(self, step: CopyStep, node: Node, sources: str) -> Key | None:
        """The key of a COPY from the digest of its sources; None for ""."""
        parent = self.canonical_of(node.parent)
        if not sources or parent is None:
            return None
        return self._made_from(cache_keys.source_key(step, node.platform, parent, sources), node.parent)

    async def mounted_key(self, node: Node, step: RunStep) -> Key | None:
        """The content key of a RUN that mounts files; None if they are not known yet."""
        parent = self.result(node.parent)
        sources = [self.result(source) for source in node.sources]
        if parent is None or None in sources:
            return None
        if node.id not in self._mounted:
            with errors_at(node, self._store):
                self._mounted[node.id] = await self.steps.mounted(
                    step, [source.snapshot for source in sources if source]
                )
        key = cache_keys.mounting_key(step, node.platform, parent.canonical, self._mounted[node.id])
        return self._made_from(key, node.parent)
