"""Records: keys that are claimed, and striking out what stands on a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.records import KeyKind
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pybuild.store.objects.records import Record

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "s")) as opened:
        yield opened


def a_layer(store: Store, name: str, parent: int | None = None) -> tuple[int, str]:
    """A snapshot on a layer of another machine, and the digest of its blob."""
    blob = LayerBlob(Digest.of(b"tar " + name.encode()), Digest.of(name.encode()), 1, Compression.GZIP)
    return store.snapshots.add(parent, store.changesets.add_claimed(blob)), str(blob.digest)


def add(store: Store, snapshot: int, parent: int | None, keys: dict[str, KeyKind], canonical: str) -> Record:
    return store.records.add(keys, snapshot, parent, canonical, "{}", 1)


def test_a_claimed_key_and_another_one_do_not_find_each_other(store: Store) -> None:
    claimed = add(store, a_layer(store, "claimed")[0], None, {KEY: KeyKind.CLAIMED}, KEY)
    computed = add(store, a_layer(store, "computed")[0], None, {KEY: KeyKind.DEFINITION}, KEY)
    assert claimed != computed
    assert store.records.find_all(KEY, None) == [computed] == [store.records.find_anywhere(KEY)]
    assert store.records.find_all(KEY, None, claimed=True) == [claimed] == [store.records.find_anywhere(KEY, claimed=True)]
    assert store.records.is_claimed(claimed) and not store.records.is_claimed(computed)
    # The first writer wins among those of its kind.
    assert add(store, a_layer(store, "again")[0], None, {KEY: KeyKind.CLAIMED}, KEY) == claimed
    assert add(store, a_layer(store, "once more")[0], None, {KEY: KeyKind.CONTENT}, KEY) == computed


def test_a_key_that_was_computed_stays_so(store: Store) -> None:
    record = add(store, a_layer(store, "one")[0], None, {KEY: KeyKind.CONTENT, OTHER: KeyKind.CLAIMED}, OTHER)
    assert store.records.is_claimed(record)
    store.records.add_key(KEY, KeyKind.CLAIMED, record)
    assert store.records.find_all(KEY, None) == [record]
    store.records.add_key(OTHER, KeyKind.CONTENT, record)
    assert not store.records.is_claimed(record)


def test_striking_counts_what_goes(store: Store) -> None:
    below, digest = a_layer(store, "below")
    above, _ = a_layer(store, "above", below)
    beside, _ = a_layer(store, "beside")
    for number, (snapshot, parent) in enumerate(((below, None), (above, below), (beside, None))):
        add(store, snapshot, parent, {}, str(number))
    assert store.records.strike(str(Digest.of(b"nothing"))) == 0
    assert store.records.strike(digest) == 2
    assert store.records.strike(digest) == 0
    assert store.records.of_snapshot(beside) is not None
