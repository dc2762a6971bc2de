"""gc while builds go on: it removes everything except what a process might need, and survives crashes and errors."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybuild.store.errors import NoSpace, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.gc import Freed, exceeds
from pybuild.store.maintenance.usage import Reason, StoredForm, usage
from pybuild.store.objects import schema
from pybuild.store.objects.cache_mounts import CacheMountInUse, Sharing
from pybuild.store.store import Store
from pybuild.store.system.directories import remove_tree
from tests.support.archives import Archive
from tests.support.overlays import in_private_mounts, mount_tmpfs
from tests.support.stored import add_image, add_layer, add_record, collect_in, hold, is_whole, measure
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "s")) as opened:
        yield opened


# -- what gc removes


def test_gc_removes_what_nothing_reaches_and_keeps_the_rest(store: Store) -> None:
    base = add_layer(store)
    image = add_image(store, base, "base:1")
    record = add_record(store, "k", base, 5)
    unnamed = add_image(store, add_layer(store))
    dangling = add_layer(store, record)
    store.changesets.add([], store.ingest.new_path())
    for part in ("blobs/sha256/" + "0" * 64, "tocs/x"):
        Path(store.root, part).write_bytes(b"12345")
    os.makedirs(f"{store.root}/trees/x/fs/deep")

    would = collect_in(store, dry_run=True)
    assert not is_whole(store) and store.snapshots.parent(dangling) == record
    freed = collect_in(store)
    assert (freed.layers, freed.blobs, freed.images, freed.records, freed.leftovers) == (2, 1, 0, 0, 3)
    assert freed == would
    assert is_whole(store)
    with pytest.raises(NotFound):
        store.snapshots.parent(dangling)
    assert store.images.get(image) and store.images.get(unnamed)
    assert store.records.find("k", base) is not None
    assert collect_in(store) == Freed(kept=freed.kept)


def test_an_image_that_lost_its_last_name_is_removed(store: Store) -> None:
    old = add_image(store, add_layer(store), "app:1")
    two = add_image(store, add_layer(store), "lib:1", "lib:2")
    new = add_image(store, add_layer(store), "app:1", "lib:1")
    assert collect_in(store).images == 1
    assert store.images.all() == sorted([two, new])
    with pytest.raises(NotFound):
        store.images.get(old)
    store.images.tag([Reference.parse("lib:2")], store.images.get(new), 2)
    assert collect_in(store).images == 1
    assert store.images.all() == [new]


def test_a_limit_of_zero_keeps_named_images_and_the_records_they_stand_on(store: Store) -> None:
    base = add_layer(store)
    add_image(store, base, "base:1")
    mine = add_record(store, "mine", base, 1)
    add_record(store, "other", base, 9)
    add_image(store, mine, "app:1")
    add_image(store, add_layer(store))
    with hold(store, "cache"):
        pass
    freed = collect_in(store, 0)
    assert (freed.records, freed.images, freed.cache_mounts, freed.layers) == (1, 1, 1, 2)
    assert store.records.find("mine", base) is not None and store.records.find("other", base) is None
    assert store.cache_mounts.all() == []
    assert is_whole(store)


def test_a_limit_removes_the_least_recently_used_first(store: Store) -> None:
    base = add_layer(store)
    add_image(store, base, "base:1")
    snapshots = {key: add_record(store, key, base, used, size=100_000) for key, used in (("a", 3), ("b", 1), ("c", 2))}
    deeper = add_record(store, "d", snapshots["a"], 3, size=100_000)
    with hold(store, "cache", now=0) as held:
        Path(held.path, "f").write_bytes(bytes(100_000))
    kept = collect_in(store).kept
    assert not exceeds(store, kept, measure) and exceeds(store, kept - 1, measure)
    assert collect_in(store, kept) == Freed(kept=kept)

    assert collect_in(store, kept - 1).cache_mounts == 1
    assert collect_in(store, kept - 150_000).records == 1
    assert store.records.find("b", base) is None and store.records.find("c", base) is not None
    assert collect_in(store, kept - 350_000).records == 1
    assert store.records.find("c", base) is None
    assert store.records.find("d", snapshots["a"]) is not None
    assert collect_in(store, kept - 550_000).records == 1
    assert store.records.find("a", base) is not None and store.records.find("d", snapshots["a"]) is None
    with pytest.raises(NotFound):
        store.snapshots.parent(deeper)
    assert is_whole(store)


def test_a_used_record_keeps_the_older_record_it_stands_on(store: Store) -> None:
    below = add_record(store, "below", None, 1)
    above = add_record(store, "above", below, 9)
    size = collect_in(store).kept
    store.records.mark_used([], 9)
    assert collect_in(store, size).records == 0
    assert store.snapshots.parent(above) == below


# -- while other processes use the store


def test_gc_waits_for_processes_that_may_have_found_an_object(store: Store) -> None:
    lost = add_layer(store)
    other = Store(store.root)
    freed = collect_in(store)
    assert (freed.layers, freed.size) == (0, 0) and freed.waiting > 1000
    assert store.snapshots.parent(lost) is None

    later = Store(store.root)  # opened after gc condemned the object: it does not keep it
    other.close()
    assert collect_in(store).layers == 1
    with pytest.raises(NotFound):
        later.snapshots.parent(lost)
    later.close()
    assert store.metadata.all("SELECT * FROM condemned") == store.metadata.all("SELECT * FROM waits") == []
    assert is_whole(store)


def test_a_process_that_asks_for_a_condemned_object_spares_it(store: Store) -> None:
    data = b"of two layers"
    digest = store.blobs.put(data, store.ingest.new_path())
    snapshot = add_layer(store)
    store.snapshots.set_chain("chain", snapshot)
    image = add_image(store, add_layer(store), "app:1")
    add_image(store, add_layer(store), "app:1")  # takes the name
    before = Store(store.root)
    assert collect_in(store).waiting
    with Store(store.root) as later:
        assert later.blobs.has(digest)
        assert later.snapshots.by_chain("chain") == snapshot
        assert later.images.get(image).snapshot is not None
        before.close()
        freed = collect_in(store)
        assert (freed.size, freed.waiting > 2000) == (0, True)
        build = Build(later, {digest: data}, [snapshot])
        build.check()
        assert later.images.get(image).config
    freed = collect_in(store)
    assert (freed.layers, freed.images) == (2, 1)
    assert not store.blobs.has(digest) and store.snapshots.by_chain("chain") is None
    assert is_whole(store)


def test_a_condemned_object_that_became_part_of_an_image_stays(store: Store) -> None:
    with Store(store.root) as building:
        snapshot = add_layer(building)
        assert collect_in(store).waiting
        image = add_image(building, snapshot, "app:1")
    assert collect_in(store).layers == 0
    assert store.images.get(image).snapshot == snapshot
    assert is_whole(store)


def test_an_interrupted_gc_does_not_remove_objects_too_early(store: Store) -> None:
    """The first gc condemns an object, but does not write the list of processes to wait for: the next gc writes it."""
    lost = add_layer(store)
    with Store(store.root):
        collect_in(store)
        with store.metadata.transaction() as db:
            db.execute("DELETE FROM waits")
        assert collect_in(store).layers == 0
        assert store.snapshots.parent(lost) is None
    assert collect_in(store).layers == 1


@dataclass
class Build:
    """A process that has the store open, and what it has found or made."""

    store: Store
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    snapshots: list[int] = field(default_factory=list)

    def check(self) -> None:
        for digest, data in self.blobs.items():
            with open(self.store.blobs.path(digest), "rb") as file:
                assert file.read() == data
        for snapshot in self.snapshots:
            for changeset in self.store.snapshots.changesets(snapshot):
                assert self.store.changesets.tree_name(changeset, "map") is not None
                assert self.store.changesets.any_blob(changeset) is not None
                self.store.changesets.toc(changeset)


DATA = [b"one", b"two", b"three"]
ACTIONS = st.sampled_from(
    ["open", "close", "blob", "layer", "find", "record", "image", "chain", "gc", "gc 0", "gc 4000"]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ACTIONS, st.integers(0, 3)), min_size=8, max_size=40))
def test_no_build_loses_anything_in_any_sequence_of_builds_and_gcs(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int]]
) -> None:
    root = str(tmp_path_factory.mktemp("gc") / "s")
    builds: list[Build] = []
    for action, number in [("open", 0), *script]:
        build = builds[number % len(builds)] if builds else None
        match action:
            case "open":
                builds.append(Build(Store(root)))
            case _ if build is None:
                continue
            case "close":
                build.store.close()
                builds.remove(build)
            case "blob":
                data = DATA[number % len(DATA)]
                build.blobs[build.store.blobs.put(data, build.store.ingest.new_path())] = data
            case "layer":
                build.snapshots.append(
                    add_layer(build.store, build.snapshots[-1] if number and build.snapshots else None)
                )
            case "record":
                parent = build.snapshots[-1] if number and build.snapshots else None
                build.snapshots.append(add_record(build.store, f"k{number}", parent, number))
            case "find":
                record = build.store.records.find(f"k{number}", None)
                build.snapshots += [] if record is None else [record.snapshot]
            case "image" if build.snapshots:
                names = [f"app:{number}"] if number else []
                build.store.images.get(add_image(build.store, build.snapshots[-1], *names))
            case "chain":
                if build.snapshots:
                    build.snapshots.append(build.store.snapshots.set_chain(f"c{number}", build.snapshots[-1]))
                elif (found := build.store.snapshots.by_chain(f"c{number}")) is not None:
                    build.snapshots.append(found)
            case "gc" | "gc 0" | "gc 4000":
                with Store(root) as collector:
                    collect_in(collector, int(action[3:]) if action[3:] else None)
                    assert is_whole(collector)
        for each in builds:
            each.check()
    for build in builds:
        build.store.close()
    with Store(root) as last:
        collect_in(last, 0)
        assert is_whole(last)
        named = {tag.manifest for tag in last.images.tags()}
        assert set(last.images.all()) == named
        assert last.metadata.all("SELECT * FROM condemned") == []


# -- cache mounts


def test_a_shared_cache_mount_has_one_directory(store: Store) -> None:
    with hold(store, "k") as one, Store(store.root) as other, hold(other, "k") as two:
        assert one.path == two.path
        assert hold(other, "other key").path != one.path


def test_a_private_cache_mount_gets_a_new_directory_only_if_all_are_in_use(store: Store) -> None:
    with hold(store, "k", Sharing.PRIVATE) as one:
        with hold(store, "k", Sharing.PRIVATE) as two, hold(store, "k", Sharing.SHARED) as three:
            assert len({one.path, two.path, three.path}) == 3
        paths = {two.path, three.path}
        assert hold(store, "k", Sharing.PRIVATE).path in paths
    assert len(store.cache_mounts.all()) == 3


def test_a_locked_cache_mount_never_gets_a_second_directory(store: Store) -> None:
    made = store.ingest.new_directory()
    with hold(store, "k", Sharing.LOCKED) as one:
        busy = CacheMountInUse(store.cache_mounts.all()[0].id)
        assert store.cache_mounts.find("k", Sharing.LOCKED, 2) == busy
        assert store.cache_mounts.adopt("k", "/k", made, Sharing.LOCKED, 2) == busy
        assert os.path.isdir(made)
    with hold(store, "k", Sharing.LOCKED) as again:
        assert again.path == one.path
    assert len(store.cache_mounts.all()) == 1


def test_a_cache_mount_in_use_is_not_removed_and_not_measured(store: Store) -> None:
    with hold(store, "k") as held:
        Path(held.path, "f").write_bytes(bytes(50_000))
        assert collect_in(store, 0).cache_mounts == 0
        assert store.cache_mounts.all()[0].size is None
        assert store.cache_mounts.in_use(store.cache_mounts.all()[0].id)
    found = usage(store, measure)
    assert found.reasons[Reason.CACHE_MOUNT].size > 50_000
    assert store.cache_mounts.all()[0].size == found.reasons[Reason.CACHE_MOUNT].size
    assert collect_in(store, 0).cache_mounts == 1
    assert is_whole(store)


def test_fsck_reports_a_lost_cache_mount_and_the_next_use_creates_it_again(store: Store) -> None:
    hold(store, "k").close()
    remove_tree(os.open(f"{store.root}/cachemounts", os.O_RDONLY), store.cache_mounts.all()[0].id)
    assert "cache mount /k" in fsck.check(store).damage[0]
    hold(store, "k").close()
    assert is_whole(store)


def test_unsealed_cache_mounts_are_dropped_at_the_next_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(str(tmp_path / "s")) as opened:
        hold(opened, "sealed").close()
        opened.seal()
        hold(opened, "lost").close()
    monkeypatch.setattr("pybuild.store.store._boot_id", lambda: "another boot")
    with Store(str(tmp_path / "s")) as opened:
        assert [mount.name for mount in opened.cache_mounts.all()] == ["/sealed"]
        assert collect_in(opened).leftovers == 1
        assert is_whole(opened)


# -- df


def test_every_byte_is_counted_once_for_the_first_of_its_reasons(store: Store) -> None:
    base = add_layer(store, size=10_000)
    add_image(store, base, "base:1")
    top = add_record(store, "k", base, 7, size=20_000)
    add_image(store, top, "app:1")
    add_record(store, "k2", top, 8, size=30_000)
    add_layer(store, size=40_000)
    hold(store, "cache").close()
    found = usage(store, measure)
    assert sum(part.size for part in found.reasons.values()) == sum(part.size for part in found.forms.values())
    rest = found.tables + found.memos + found.logs.size + found.reserve
    assert found.total == rest + sum(part.size for part in found.forms.values())
    by_name = {item.name: item for item in found.lines}
    app, base_item = by_name["docker.io/library/app:1"], by_name["docker.io/library/base:1"]
    assert app.size > 30_000 and base_item.size > 10_000
    assert app.own + base_item.own == found.reasons[Reason.IMAGE].size < app.size + base_item.size
    assert [item.own > 30_000 for item in found.lines if item.reason is Reason.RECORD] == [True, False]
    assert found.reasons[Reason.NOTHING].size > 40_000
    assert found.reasons[Reason.NOTHING].size == collect_in(store).size
    assert found.forms[StoredForm.TREE].count == 4


# -- crashes and errors

COLLECT = """
import os, sys
from pybuild.store.errors import StoreError
from pybuild.store.system.directories import remove_tree
from pybuild.store.maintenance.gc import collect
from pybuild.store.store import Store
try:
    with Store(sys.argv[1]) as store:
        collect(store, 0, lambda _: 0, lambda path: remove_tree(store.ingest.fd, os.path.basename(path)))
except (StoreError, OSError) as error:
    print(type(error).__name__, error)
    sys.exit(7)
"""


def prepare(root: str) -> None:
    """A store with objects of every kind."""
    with Store(root) as opened:
        base = add_layer(opened)
        add_image(opened, base, "base:1")
        add_record(opened, "k", base, 1)
        add_image(opened, add_layer(opened), "app:1")
        add_image(opened, add_layer(opened), "app:1")
        hold(opened, "cache").close()
        opened.seal()


def after(root: str) -> tuple[object, ...]:
    """The state of a store after gc."""
    with Store(root) as opened:
        collect_in(opened, 0)
        assert is_whole(opened)
        assert os.listdir(f"{root}/ingest") == [opened.ingest.name]
        return (len(opened.images.all()), opened.cache_mounts.all(), len(os.listdir(f"{root}/trees")))


def traced(root: str, inject: str) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={inject}", sys.executable, "-c", COLLECT, root]
    return subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)


@pytest.mark.parametrize("call", ["rename", "unlink,unlinkat", "pwrite64", "rmdir"])
def test_a_killed_gc_leaves_a_store_that_the_next_one_finishes(tmp_path: Path, call: str) -> None:
    for number in (1, 2, 4, 9, 20):
        root = str(tmp_path / f"s{number}")
        prepare(root)
        done = traced(root, f"{call}:signal=SIGKILL:when={number}")
        with Store(root) as opened:
            assert fsck.check(opened).damage == ()
        assert after(root) == (2, [], 2)
        if done.returncode == 0:
            return
        assert done.returncode in (-9, 137), done.stderr


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("rename", "EIO"),
        ("unlink", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("fdatasync", "EIO"),
        ("rmdir", "EIO"),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_disk_error_ends_gc_and_harms_nothing(tmp_path: Path, call: str, error: str, number: int) -> None:
    root = str(tmp_path / "s")
    prepare(root)
    done = traced(root, f"{call}:error={error}:when={number}")
    assert done.returncode in (0, 7), done.stderr
    with Store(root) as opened:
        assert fsck.check(opened).damage == ()
        assert opened.images.find("base:1") and opened.images.find("app:1")
    assert after(root) == (2, [], 2)


def test_gc_removes_leftovers_first_because_the_disk_may_be_full(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()

    def fill() -> object:
        mount_tmpfs(str(place), "size=4m")
        root = f"{place}/s"
        prepare(root)
        with Store(root) as opened:
            leftover = Path(root, "blobs/sha256", "0" * 64)
            leftover.write_bytes(bytes(1 << 20))
            with pytest.raises(OSError, match="space"), open(place / "filler", "wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            with pytest.raises((NoSpace, OSError)):
                for number in range(10_000):
                    opened.blobs.put(b"%d" % number * 1000, opened.ingest.new_path())
            freed = collect_in(opened, 0)
            return (freed.leftovers, freed.records, is_whole(opened))

    assert in_private_mounts(fill) == (1, 1, True)


# -- stores of earlier versions


@pytest.mark.parametrize("version", range(schema.FIRST, schema.VERSION))
def test_a_store_of_an_earlier_version_is_migrated(tmp_path: Path, version: int) -> None:
    root = str(tmp_path / "s")
    Store(root).close()
    os.unlink(f"{root}/metadata.db")
    texts = [schema.FIRST_TABLES, *(schema.MIGRATIONS[later] for later in range(schema.FIRST + 1, version + 1))]
    with closing(sqlite3.connect(f"{root}/metadata.db", isolation_level=None)) as db:
        for statement in (each for text in texts for each in schema.statements(text)):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
    path = tmp_path / "archive.tar"
    path.write_bytes(Archive(layers=[tar(entry(b"f", data=b"hello"))]).data())
    with Store(root) as opened:
        import_archive(opened, str(path), None, 1)
        hold(opened, "cache").close()
        collect_in(opened)
        assert is_whole(opened)
        assert opened.metadata.one("PRAGMA user_version") == (schema.VERSION,)
