"""The index of a cache that travels: reading it back, hostile ones, and putting two together within a budget."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.cache_index import (
    CachedLayer,
    CachedMount,
    CachedStep,
    CacheIndex,
    CacheRecord,
    read_index,
)
from pybuild.store.formats.cache_merge import merged, not_after
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import LAYER_TYPES, MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER, ExecConfig, ImageConfig, chain_id
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.values import limits

BASE = Digest.of(b"base")


def a_layer(name: str, size: int = 10) -> CachedLayer:
    return CachedLayer(Digest.of(name.encode()), Digest.of(f"blob of {name}".encode()), size, Compression.GZIP)


def a_record(name: str, below: CacheRecord | None = None, *, used: int = 5, size: int = 10) -> CacheRecord:
    """A record of a step of its own, on the base or on another record."""
    key = Digest.of(name.encode()).hex
    step = CachedStep("app", 2, f"RUN {name}", '{"step": "RUN"}')
    chain = BASE if below is None else below.chain
    return CacheRecord({key: "definition"}, key, 3, used, step, a_layer(name, size), chain, below is None)


def image(index: CacheIndex) -> tuple[Manifest, ImageConfig]:
    """An image that carries an index."""
    layers = index.layers
    diff_ids = tuple(layer.diff_id for layer in layers)
    config = ImageConfig(
        "amd64", "linux", "", None, "", ExecConfig(), diff_ids, (), {CACHE_MEMBER: index.to_member(layers)}
    )  # fmt: skip
    blobs = tuple(Descriptor(LAYER_TYPES[layer.compression], layer.digest, layer.size) for layer in layers)
    return Manifest(Descriptor(MediaType.OCI_CONFIG, Digest.of(b"{}"), 2), blobs), config


def read_back(index: CacheIndex) -> CacheIndex | None:
    manifest, config = image(index)
    return read_index(Manifest.from_bytes(manifest.to_bytes()), ImageConfig.from_bytes(config.to_bytes()))


def carrying(data: object) -> tuple[Manifest, ImageConfig]:
    """An image with one layer whose member holds this JSON."""
    manifest, config = image(CacheIndex((a_record("one"),)))
    text = base64.b64encode(zstandard.compress(json.dumps(data).encode())).decode()
    return manifest, replace(config, extra={CACHE_MEMBER: text})


def test_an_index_is_read_back_as_it_was_written() -> None:
    one = a_record("one")
    two = replace(a_record("two", one), clamp=1, keys={"a" * 64: "content", "b" * 64: "text"})
    alone = replace(one, layer=None, below=None, on_base=False)
    scratch = replace(a_record("scratch"), below=None, on_base=False)
    index = CacheIndex((one, two, alone, scratch))
    assert read_back(index) == index


DAY = 86_400


def a_mount(name: str, *, used: int = 5, size: int = 10) -> CachedMount:
    return CachedMount(Digest.of(name.encode()).hex, name, a_layer(f"mount {name}", size), 4, used, name == "secret")


def test_cache_mounts_are_read_back_as_they_were_written() -> None:
    index = CacheIndex((a_record("one"),), mounts=(a_mount("pip"), a_mount("secret")))
    assert read_back(index) == index
    odd = read_back(CacheIndex(mounts=(replace(a_mount("pip"), name="a\udc80" + "b" * 5000),)))
    assert odd is not None and odd.mounts[0].name == "a?" + "b" * 4094


MOUNT = {"key": "a" * 64, "name": "pip", "layer": 0, "saved": 1, "used": 1}


def test_a_mount_that_does_not_say_so_counts_as_one_with_secrets() -> None:
    found = read_index(*carrying({"version": 1, "records": [], "mounts": [MOUNT]}))
    assert found is not None and found.mounts[0].secret


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "../../x"}, "SHA-256"),
        ({"name": 7}, "name"),
        ({"layer": 1}, "position of a layer"),
        ({"layer": None}, "layer"),
        ({"saved": -1}, "saved"),
        ({"used": 1 << 60}, "used"),
    ],
)
def test_a_mount_that_is_not_one(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidImage, match=said):
        read_index(*carrying({"version": 1, "records": [], "mounts": [{**MOUNT, **change}]}))


def test_a_mount_replaces_the_one_with_its_key() -> None:
    old, new = a_mount("pip"), replace(a_mount("pip", used=7), layer=a_layer("new"))
    other = a_mount("npm")
    assert merged(CacheIndex(mounts=(old, other)), CacheIndex(mounts=(new,)), most=9).mounts == (new, other)


def test_times_of_use_of_mounts_count_in_days() -> None:
    old = CacheIndex(mounts=(a_mount("pip"),))
    assert merged(old, CacheIndex(mounts=(a_mount("pip", used=4 + DAY),)), most=9) == old
    later = CacheIndex(mounts=(a_mount("pip", used=5 + DAY),))
    assert merged(old, later, most=9) == later


def test_a_budget_keeps_what_was_used_last_and_records_before_mounts() -> None:
    early, late = a_record("early", used=5), a_record("late", used=5 + 2 * DAY)
    same, newer = a_mount("same", used=4 + DAY), a_mount("newer", used=5 + DAY)
    index = CacheIndex((early, late), mounts=(same, newer))

    def kept(size: int, most: int = 9) -> tuple[list[str], list[str]]:
        found = merged(CacheIndex(), index, most=most, most_bytes=size)
        return [record.step.instruction for record in found.records], [mount.name for mount in found.mounts]

    assert kept(40) == (["RUN early", "RUN late"], ["same", "newer"])
    assert kept(30) == (["RUN early", "RUN late"], ["newer"])
    assert kept(20) == (["RUN late"], ["newer"])
    assert kept(10) == (["RUN late"], [])
    assert kept(40, most=0) == ([], ["same", "newer"]), "the number of records does not count mounts"
    many = CacheIndex(mounts=tuple(a_mount(f"m{number}", used=number) for number in range(150)))
    assert [mount.used for mount in merged(CacheIndex(), many, most=0).mounts] == list(range(50, 150))


def test_an_image_without_an_index() -> None:
    manifest, config = image(CacheIndex())
    assert read_index(manifest, replace(config, extra={})) is None


RECORD = {"keys": {"a" * 64: "content"}, "canonical": "a" * 64, "created": 1, "used": 1, "step": {"number": 0}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keys": {"../../x": "content"}}, "SHA-256"),
        ({"keys": {"a" * 64: "magic"}}, "the kinds"),
        ({"canonical": "b"}, "SHA-256"),
        ({"created": -1}, "created"),
        ({"used": 1 << 60}, "used"),
        ({"layer": 1, "parent": ""}, "position of a layer"),
        ({"layer": 0, "parent": "sha256:zz"}, "digest"),
        ({"layer": 0}, "parent"),
        ({"step": {"number": "x"}}, "number"),
    ],
)
def test_a_record_that_is_not_one(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidImage, match=said):
        read_index(*carrying({"version": 1, "records": [{**RECORD, **change}]}))


@pytest.mark.parametrize("text", ["%", "AAAA", base64.b64encode(zstandard.compress(b"[]")).decode(), 7])
def test_a_member_that_is_not_an_index(text: object) -> None:
    manifest, config = image(CacheIndex())
    with pytest.raises(InvalidImage):
        read_index(manifest, replace(config, extra={CACHE_MEMBER: text}))  # type: ignore[dict-item]


def test_an_index_of_another_version() -> None:
    with pytest.raises(InvalidImage, match="version 2 is not known"):
        read_index(*carrying({"version": 2, "records": []}))


def test_an_index_that_expands_without_end_is_not_expanded() -> None:
    manifest, config = image(CacheIndex())
    compressor = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(compressor.compress(b" " * (1 << 20)) for _ in range(1 << 10)) + compressor.flush()  # 1 GiB
    with limits.applied({"cache-index-bytes": 1 << 20}), pytest.raises(InvalidImage, match="limit of 1 MiB"):
        read_index(manifest, replace(config, extra={CACHE_MEMBER: base64.b64encode(bomb).decode()}))


def test_records_of_two_machines_are_put_together() -> None:
    base = a_record("base step")
    here, there = a_record("here", base), a_record("there", base)
    both = merged(CacheIndex((base, here)), CacheIndex((base, there)), most=10)
    assert both.records == (base, here, there)


def test_one_step_with_two_results_keeps_both() -> None:
    """Two checkouts have other times in the layer of the same COPY, and each has steps that stand on its own."""
    one = a_record("copy")
    other = replace(one, layer=a_layer("the same files at other times"))
    both = merged(CacheIndex((one, a_record("run", one))), CacheIndex((other, a_record("run", other))), most=10)
    assert len(both.records) == 4


def test_the_same_result_gets_the_keys_of_both_and_the_later_use() -> None:
    one = a_record("one", used=5)
    for used, expected in ((9, 5), (90_000, 90_000)):  # the same day, a day later
        other = replace(one, keys={"f" * 64: "content"}, used=used, created=8)
        (found,) = merged(CacheIndex((one,)), CacheIndex((other,)), most=10).records
        assert found == replace(one, keys={**one.keys, **other.keys}, used=expected)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 100), st.integers(0, 50)), max_size=20),
    st.integers(0, 12),
    st.none() | st.integers(0, 200),
)
def test_a_budget_keeps_whole_stacks(shape: list[tuple[int, int, int]], most: int, most_bytes: int | None) -> None:
    records: list[CacheRecord] = []
    for number, (below, used, size) in enumerate(shape):
        parent = records[below % len(records)] if records and below else None
        records.append(a_record(str(number), parent, used=used, size=size))
    kept = merged(CacheIndex(), CacheIndex(tuple(records)), most=most, most_bytes=most_bytes)
    assert len(kept.records) <= most
    assert most_bytes is None or sum(layer.size for layer in kept.layers) <= most_bytes
    chains = {record.chain for record in kept.records} | {BASE}
    assert all(record.below in chains for record in kept.records)
    newest = max(records, key=lambda record: record.used, default=None)
    if newest is not None and newest.on_base and most >= 1 and most_bytes is None:
        assert newest in kept.records


def test_a_time_in_the_future_does_not_keep_a_record() -> None:
    liar, honest = a_record("liar", used=1 << 39), a_record("honest", used=50)
    old = not_after(CacheIndex((liar,)), 40)
    assert merged(old, CacheIndex((honest,)), most=1).records == (honest,)


def test_a_mount_that_was_saved_in_the_future_was_saved_now() -> None:
    layer = a_record("r").layer
    assert layer is not None
    (mount,) = not_after(CacheIndex(mounts=(CachedMount("a" * 64, "pip", layer, 1 << 37, 3),)), 40).mounts
    assert (mount.saved, mount.used) == (40, 3)


def test_what_stands_on_a_record_that_is_gone_goes_too() -> None:
    lost = a_record("lost")
    assert merged(CacheIndex(), CacheIndex((a_record("child", lost),)), most=10).records == ()


def test_the_chain_of_a_record_is_that_of_the_image() -> None:
    one = a_record("one")
    assert one.layer is not None
    assert one.chain == chain_id((BASE, one.layer.diff_id))
