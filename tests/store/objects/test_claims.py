"""Layers that are elsewhere: claims, places, and what becomes of them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.store import store as store_module
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.repair import repair
from pybuild.store.maintenance.tables import replace_damaged_tables, restore_images
from pybuild.store.objects import schema
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.store import Store
from tests.support.stored import add_image, collect_in, is_whole, untag

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = b"a layer"
BLOB = LayerBlob(Digest.of(b"its tar"), Digest.of(DATA), len(DATA), Compression.UNCOMPRESSED)
DEBIAN = Reference.parse("registry.test:5000/debian:12")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "s")) as opened:
        yield opened


def add_claimed(store: Store, *, place: bool = True) -> str:
    """A snapshot on a claimed layer, with the name base:1; returns the changeset."""
    if place:
        store.places.add([BLOB.digest], DEBIAN, 1)
    changeset = store.changesets.add_claimed(BLOB)
    snapshot = store.snapshots.add(None, changeset)
    store.snapshots.set_chain("claim:1", snapshot)
    store.records.add({}, snapshot, None, "key", "{}", 1)
    return changeset


def fetch(store: Store, data: bytes = DATA) -> None:
    path = store.ingest.new_path()
    Path(path).write_bytes(data)
    store.changesets.adopt_blob(path, BLOB)


def read(store: Store, changeset: str) -> None:
    store.changesets.mark_read(changeset, Toc.write(store.ingest.new_path(), [Entry(b"d", Kind.DIRECTORY)]))


def test_the_place_that_was_seen_last_comes_first(store: Store) -> None:
    other = Reference.parse("debian")
    for name, now in ((DEBIAN, 1), (other, 2), (DEBIAN, 3), (Reference.parse("a/b:c"), 2)):
        store.places.add([BLOB.digest, BLOB.diff_id], name, now)
    assert [str(place) for place in store.places.of(BLOB.digest)] == [
        str(DEBIAN), "docker.io/a/b:c", "docker.io/library/debian",
    ]  # fmt: skip
    assert store.places.of(Digest.of(b"other")) == ()


def test_only_what_this_process_was_told_counts_as_seen(store: Store) -> None:
    store.places.add([BLOB.digest], DEBIAN, 1)
    store.places.add([BLOB.diff_id], DEBIAN, 2)
    assert store.places.seen_in(replace(DEBIAN, tag="other")) == {BLOB.digest, BLOB.diff_id}
    with Store(str(store.root)) as other:
        assert other.places.of(BLOB.digest) and other.places.seen_in(DEBIAN) == set()


def test_a_claim_is_trusted_only_after_it_was_read(store: Store) -> None:
    changeset = add_claimed(store)
    assert store.changesets.unread(changeset) == store.changesets.absent_blob(changeset) == BLOB
    assert store.changesets.absent_blobs() == [BLOB]
    assert store.changesets.any_blob(changeset) is None
    fetch(store)
    assert store.changesets.unread(changeset) == store.changesets.any_blob(changeset) == BLOB
    assert store.changesets.absent_blob(changeset) is None and store.changesets.absent_blobs() == []
    assert store.changesets.blobs_of(BLOB.diff_id) == []  # another image with this diff_id does not get it
    read(store, changeset)
    assert store.changesets.unread(changeset) is None
    assert store.changesets.blobs_of(BLOB.diff_id) == [BLOB]


def test_a_layer_that_was_read_gets_its_blob_back(store: Store) -> None:
    changeset = add_claimed(store)
    fetch(store)
    read(store, changeset)
    with store.metadata.transaction() as db:
        db.execute("DELETE FROM blobs WHERE digest = ?", (str(BLOB.digest),))
    assert store.changesets.unread(changeset) is None
    assert store.changesets.absent_blob(changeset) == BLOB
    assert fsck.check(store).damage == ()
    fetch(store)
    assert store.changesets.blobs_of(BLOB.diff_id) == [BLOB]


def test_fsck_asks_for_a_place(store: Store) -> None:
    changeset = add_claimed(store)
    assert is_whole(store)
    with store.metadata.transaction() as db:
        db.execute("DELETE FROM places")
    (problem,) = fsck.check(store).damage
    assert problem == f"changeset {changeset}: its blob is missing, and no registry is known to have it"
    assert repair(store) == [f"layer {changeset}: dropped, because no form of it is left"]
    assert is_whole(store)


@pytest.mark.parametrize("place", [True, False])
def test_a_damaged_blob_of_a_layer_counts_as_elsewhere(store: Store, place: bool) -> None:
    changeset = add_claimed(store, place=place)
    fetch(store)
    path = store.blobs.path(BLOB.digest)
    os.chmod(path, 0o600)
    Path(path).write_bytes(b"A layer")
    lines = repair(store)
    reason = f"blob {BLOB.digest}: dropped, because its bytes are damaged or missing"
    if place:
        assert lines == [f"{reason}; it can be fetched again from {DEBIAN.familiar}"]
        assert store.changesets.absent_blob(changeset) == BLOB
    else:
        assert lines == [reason, f"layer {changeset}: dropped, because no form of it is left"]
    collect_in(store)
    assert is_whole(store)


@pytest.mark.parametrize("place", [True, False])
def test_a_power_cut_that_takes_the_blob_leaves_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: bool
) -> None:
    root = str(tmp_path / "s")
    with Store(root) as store:
        changeset = add_claimed(store, place=place)
        store.seal()
        fetch(store)
        path = Path(store.blobs.path(BLOB.digest))
    path.chmod(0o600)
    path.write_bytes(bytes(len(DATA)))
    monkeypatch.setattr(store_module, "_boot_id", lambda: "another")
    with Store(root) as store:
        assert store.changesets.absent_blob(changeset) == (BLOB if place else None)
        assert (store.metadata.one("SELECT 1 FROM changesets") is not None) == place
        assert fsck.check(store).damage == ()


def test_gc_forgets_the_places_of_what_is_gone(store: Store) -> None:
    changeset = add_claimed(store)
    snapshot = store.snapshots.by_chain("claim:1")
    fetch(store)
    add_image(store, snapshot, "base:1")
    store.places.add([Digest.of(b"never claimed")], DEBIAN, 1)
    with store.metadata.transaction() as db:
        db.execute("DELETE FROM records")
    for _ in range(2):
        collect_in(store)
    assert store.places.of(BLOB.digest) and store.changesets.unread(changeset)
    assert not store.places.of(Digest.of(b"never claimed"))
    untag(store, "base:1")
    for _ in range(2):
        collect_in(store)
    assert store.metadata.all("SELECT * FROM places") == store.metadata.all("SELECT * FROM claims") == []
    assert is_whole(store)


def test_new_tables_keep_images_whose_layers_are_elsewhere(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as store:
        add_claimed(store)
        fetch(store)
        digest = add_image(store, store.snapshots.by_chain("claim:1"), "base:1")
        with store.metadata.transaction() as db:
            db.execute("DELETE FROM blobs WHERE digest = ?", (str(BLOB.digest),))
        os.unlink(store.blobs.path(BLOB.digest))
    with closing(sqlite3.connect(f"{root}/metadata.db")) as db, db:
        db.execute("DROP TABLE records")
    old = replace_damaged_tables(root)
    assert old is not None
    with Store(root) as store:
        list(restore_images(store, old))
        assert store.images.find("base:1").manifest_digest == digest
        assert store.changesets.absent_blobs() == [BLOB]
        assert is_whole(store)


def test_unread_layers_of_earlier_versions_become_claims(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as store:
        store.blobs.put(DATA, store.ingest.new_path())
    os.unlink(f"{root}/metadata.db")
    with closing(sqlite3.connect(f"{root}/metadata.db", isolation_level=None)) as db:
        for text in (schema.FIRST_TABLES, *(schema.MIGRATIONS[version] for version in range(3, 10))):
            for statement in schema.statements(text):
                db.execute(statement)
        db.execute("INSERT INTO blobs (digest, size) VALUES (?, ?)", (str(BLOB.digest), BLOB.size))
        db.execute("INSERT INTO changesets VALUES ('0123456789abcdef', NULL)")
        db.execute(
            "INSERT INTO unread VALUES ('0123456789abcdef', ?, ?, ?)",
            (str(BLOB.diff_id), str(BLOB.digest), BLOB.compression.value),
        )
        db.execute("PRAGMA user_version = 9")
    with Store(root) as store:
        assert store.changesets.unread("0123456789abcdef") == BLOB
        assert store.changesets.absent_blobs() == []
        assert fsck.check(store).damage == ()
