"""The records that could serve a node, of the store and of other machines, and which of them to take.

Two checkouts of one source have files of different times. So a key can have several records on the same layers, each with
a layer of its own, and the steps of a machine stand on its own layers. The best record is the one under which most later
steps have records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.caches.offers import Offer
from pybuild.builder.plan.graph import CopyStep, RunStep, source_mounts
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.records import Record
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pybuild.builder.caches.offers import Offers
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.solve.cache_keys import Key
    from pybuild.builder.solve.node_keys import NodeKeys
    from pybuild.store.formats.digest import Digest
    from pybuild.store.store import Store

_FAR = 100  # steps; those behind do not decide which record is taken


@frozen
class Below:
    """What a step stands on: a snapshot of the store, if the layers are in its tables, and their chain ID, if known.

    Both are None for an empty root filesystem. Only offers are found by chain ID: without any, none is computed.
    """

    snapshot: int | None
    chain: Digest | None
    stored: bool = True  # whether the store has the snapshot: it does not have that of an offer
    known: bool = True  # whether the chain ID is known


class Candidates:
    """Finds and compares the records for the nodes of one plan."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        keys: NodeKeys,
        offers: Offers,
        clamp: int | None,
        readable: Callable[[Record], bool],
        keys_ahead: Callable[[Node], Awaitable[Sequence[Key]]],
    ) -> None:
        """`keys_ahead` gives the keys of a node that do not need the files below it."""
        self._store = store
        self._keys = keys
        self._offers = offers
        self._clamp = clamp
        self._readable = readable
        self._keys_ahead = keys_ahead
        self._chains: dict[int | None, Digest | None] = {}  # by snapshot
        self._above: dict[int, list[Node]] = {}  # the nodes that stand on a node
        for node in plan.nodes:
            if node.parent is not None and not node.fresh:
                self._above.setdefault(node.parent, []).append(node)

    def below(self, snapshot: int | None) -> Below:
        """A snapshot of the store."""
        if snapshot is None:
            return Below(None, None)
        chain = self._chain(snapshot) if self._offers else None
        return Below(snapshot, chain, known=chain is not None)

    def _chain(self, snapshot: int) -> Digest | None:
        """The chain ID of a snapshot's layers; None if a layer has no tar yet. Each layer is asked for once."""
        unknown: list[int] = []
        below: int | None = snapshot
        while below is not None and below not in self._chains:
            unknown.append(below)
            below = self._store.snapshots.parent(below)
        for one in reversed(unknown):
            chain, diff_id = self._chains.get(below), self._store.snapshots.diff_id(one, self._clamp)
            if diff_id is not None and below is not None:
                diff_id = None if chain is None else chain_id((chain, diff_id))
            self._chains[one], below = diff_id, one
        return self._chains[snapshot]

    async def best(self, node: Node, keys: Sequence[Key], below: Below) -> Record | Offer | None:
        """The best record for a node, by any of its keys; None if there is none. Of equals the first one of the store."""
        found = self._find(node, keys, below)
        if len(found) < 2:
            return found[0] if found else None
        scores = [await self._later_hits(node, one, _FAR) for one in found]
        return found[scores.index(max(scores))]

    def _find(self, node: Node, keys: Sequence[Key], below: Below) -> list[Record | Offer]:
        found: list[Record | Offer] = []
        if below.stored:
            stored = (one for key in keys for one in _stored(self._store, key, below.snapshot))
            found += {one.id: one for one in stored if self._readable(one)}.values()
        if below.known and self._offers:
            chains = {self.below(one.snapshot).chain for one in found if isinstance(one, Record)}
            digests = [key.digest for key in keys]
            found += [
                offer
                for offer in self._offers.find(digests, below.chain)
                if offer.chain not in chains and _may_serve(node, offer, digests)
            ]
        return found

    async def _later_hits(self, node: Node, found: Record | Offer, far: int) -> int:
        """How many of the steps that stand on a node have records, if this one is taken."""
        if isinstance(found, Offer):
            below, canonical, claimed = Below(None, found.chain, stored=False), found.record.canonical, True
        else:
            below, canonical, claimed = (
                self.below(found.snapshot),
                found.canonical,
                self._store.records.is_claimed(found),
            )
        hits = 0
        with self._keys.supposing(node, canonical, claimed=claimed):
            for child in self._above.get(node.id, ()) if far else ():
                candidates = self._find(child, await self._keys_ahead(child), below)
                if candidates:
                    hits += 1 + max([await self._later_hits(child, one, far - 1) for one in candidates])
        return hits


def _stored(store: Store, key: Key, parent: int | None) -> list[Record]:
    return store.records.find_all(key.digest, parent, claimed=key.claimed)


def _may_serve(node: Node, offer: Offer, keys: Sequence[str]) -> bool:
    """Whether what an offer says of itself can be true. Only its bytes show whether it is.

    The canonical key of a step that reads files is made of these, so it cannot be computed here.
    """
    reads_files = isinstance(node.step, CopyStep) or (isinstance(node.step, RunStep) and source_mounts(node.step))
    return bool(reads_files) or offer.record.canonical in keys
