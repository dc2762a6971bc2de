"""What caches offer, and where the layers of an offer are looked for."""

from __future__ import annotations

from dataclasses import replace

from pybuild.builder.cache_places import LocalCache
from pybuild.builder.caches.offers import Offers
from pybuild.store.formats.cache_index import CachedLayer, CachedStep, CacheIndex, CacheRecord
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest

KEY = "a" * 64
LAYER = CachedLayer(Digest.of(b"tar"), Digest.of(b"blob"), 1, Compression.GZIP)
RECORD = CacheRecord({KEY: "content"}, KEY, 1, 1, CachedStep("", 1, "RUN x", "{}"), LAYER)
ONE, OTHER = LocalCache("/one"), LocalCache("/other")


def test_a_layer_that_several_caches_have_can_come_from_each() -> None:
    (offer,) = Offers([(ONE, CacheIndex((RECORD,))), (OTHER, CacheIndex((RECORD,)))]).find([KEY], None)
    assert offer.places == (ONE, OTHER)


def test_another_blob_of_the_same_layer_serves_after_the_first_one_was_struck_out() -> None:
    other = replace(RECORD, layer=replace(LAYER, digest=Digest.of(b"another compression")))
    caches = [(ONE, CacheIndex((RECORD,))), (OTHER, CacheIndex((other,)))]
    assert [offer.places for offer in Offers(caches).find([KEY], None)] == [(ONE,)]
    assert [offer.places for offer in Offers(caches, {str(LAYER.digest)}).find([KEY], None)] == [(OTHER,)]


def test_only_records_on_the_same_layers_are_found() -> None:
    below = Digest.of(b"below")
    found = Offers([(ONE, CacheIndex((RECORD, replace(RECORD, below=below))))])
    assert [offer.record.below for offer in found.find([KEY], below)] == [below]
    assert len(list(found.find_anywhere([KEY]))) == 2
