"""The records that caches of other machines offer, and how one becomes a record of the store.

An offer is a claim. Its layer stays where it is until something needs the bytes. They are checked then, and a layer that
is not there, or not what was said of it, strikes out the offer: the plan is solved again without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from pybuild.builder.cache_places import LocalCache, RegistryCache
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.claimed_layers import stack_claimed
from pybuild.store.objects.records import KeyKind
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pybuild.store.formats.cache_index import CachedLayer, CacheIndex, CacheRecord
    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.records import Record
    from pybuild.store.store import Store


@frozen
class Offer:
    """A record of a cache, which has a layer, and all caches that have the blob of this layer."""

    record: CacheRecord
    layer: CachedLayer
    chain: Digest  # the chain ID of the result
    places: tuple[RegistryCache | LocalCache, ...]


class Offers:
    """The records of all caches that the user named. Caches that are named first come first."""

    def __init__(
        self, caches: Iterable[tuple[RegistryCache | LocalCache, CacheIndex]], unusable: Iterable[str] = ()
    ) -> None:
        """`unusable` are the digests of layers that cannot be had or are not what was said of them."""
        struck, caches = set(unusable), list(caches)
        places: dict[Digest, dict[RegistryCache | LocalCache, None]] = {}
        for place, index in caches:
            for held in index.layers:
                places.setdefault(held.digest, {})[place] = None
        self._records: dict[str, list[CacheRecord]] = {}  # by key, also those without a layer
        self._offers: dict[str, list[Offer]] = {}  # by key
        self._on_layers: dict[tuple[str, Digest | None], list[Offer]] = {}  # by key and by what they stand on
        for _, index in caches:
            for record in index.records:
                layer, chain = record.layer, record.chain
                for key, kind in record.keys.items():
                    self._records.setdefault(key, []).append(record)
                    if layer is None or chain is None or str(layer.digest) in struck or kind == KeyKind.TEXT.value:
                        continue
                    offer = Offer(record, layer, chain, tuple(places[layer.digest]))
                    self._offers.setdefault(key, []).append(offer)
                    self._on_layers.setdefault((key, record.below), []).append(offer)

    def __bool__(self) -> bool:
        """Whether there is any offer."""
        return bool(self._offers)

    def has_key(self, key: str) -> bool:
        """Whether any record has this key, even a TEXT key."""
        return key in self._records

    def canonical(self, key: str) -> str | None:
        """The canonical key of the step that has this key; None if no record has it, or only as a TEXT key."""
        for record in self._records.get(key, ()):
            if record.keys[key] != KeyKind.TEXT.value:
                return record.canonical
        return None

    def find(self, keys: Sequence[str], below: Digest | None) -> Iterator[Offer]:
        """The offers with one of these keys that stand on the layers with the chain ID `below` (None: on no layer)."""
        seen = set()
        for offer in (offer for key in keys for offer in self._on_layers.get((key, below), ())):
            if offer.chain not in seen:
                seen.add(offer.chain)
                yield offer

    def find_anywhere(self, keys: Sequence[str]) -> Iterator[Offer]:
        """The offers with one of these keys, whatever they stand on."""
        return (offer for key in keys for offer in self._offers.get(key, ()))


NO_OFFERS = Offers(())


def adopt(
    store: Store,
    offer: Offer,
    below: int | None,
    keys: Mapping[str, KeyKind],
    inputs: str,
    now: int,
) -> Record:
    """Record an offer as the result of a step on the snapshot `below`.

    It gets only keys that were computed here, and the fields that they were made from: a cache cannot put a result under
    the key of a step that nobody asked for. Raises StoreError.
    """
    layer, record = offer.layer, offer.record
    blob = LayerBlob(layer.diff_id, layer.digest, layer.size, layer.compression)
    with store.metadata.transaction():
        for place in offer.places:
            match place:
                case RegistryCache(name=name):
                    store.places.add([layer.digest], name, now)
                case LocalCache(path=path):
                    store.places.add_directory([layer.digest], path, now)
                case _:
                    assert_never(place)
        snapshot = stack_claimed(store.changesets, store.snapshots, below, offer.chain, blob, record.clamp)
        return store.records.adopt(keys, snapshot, record.canonical, inputs, record.created, now)
