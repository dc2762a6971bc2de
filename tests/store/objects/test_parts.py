"""objects/parts.py lists every part of a store, and gc, fsck, usage and sealing handle each part in the list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.store import store as store_module
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.usage import StoredForm, Usage, usage
from pybuild.store.objects import context_memo
from pybuild.store.objects.build_logs import BuildLog
from pybuild.store.objects.builds import BuiltStep, Outcome, StoredBuild
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.objects.downloads import Downloaded
from pybuild.store.objects.parts import (
    CACHEDIR_TAG,
    CHANGESETS,
    DATABASE,
    INGEST,
    LOCK,
    MEMOS,
    PARTS,
    SEALED,
    TOCS,
    Part,
    Removal,
)
from pybuild.store.store import Store
from tests.support.stored import add_image, add_record, collect_in, hold, is_whole, measure, untag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE_PARTS = [part for part in PARTS if part.file_directories()]


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "s")) as opened:
        yield opened


@pytest.fixture
def full_store(new_store: Store) -> Store:
    """A store that has at least one row in each table and one file in each directory."""
    store = new_store
    snapshot = add_record(store, "key", None, 1)
    store.snapshots.set_chain("chain", snapshot)
    image = store.images.get(add_image(store, snapshot, "app:1"))
    store.indexes.add(store.indexes.of([image]), store.ingest.new_path())
    digest = store.blobs.put(b"pulled", store.ingest.new_path())
    store.changesets.add_claimed(LayerBlob(digest, digest, 6, Compression.UNCOMPRESSED))
    store.places.add([digest], Reference.parse("localhost:1/app"), 1)
    store.downloads.put("http://localhost/", Downloaded(digest, "", ""))
    hold(store, "cache").close()
    step = BuiltStep(0, None, (), "s", 1, 1, "RUN x", Outcome.RAN, False, "key", snapshot, (), "{}")
    store.builds.add(StoredBuild("b", "recipe", "target", "", (step,)))
    with store.metadata.transaction() as db:
        db.execute("INSERT INTO parses VALUES ('key', 'value')")
    BuildLog(store.logs, "b").close()
    memo = context_memo.Memo(context_memo.memo_path(store.memos, "/context"))
    memo.learn(context_memo.file_key(os.stat("/")), bytes(32))
    memo.save(store.ingest.new_path())
    with Store(store.root):
        collect_in(store)  # condemns the pulled layer, and waits for the other process
    return store


def tables(part: Part) -> list[str]:
    return [*filter(None, [part.table]), *part.more_tables]


def count(store: Store, table: str) -> int:
    ((rows,),) = store.metadata.all(f"SELECT count(*) FROM {table}")
    return int(str(rows))


def files(store: Store, part: Part) -> list[str]:
    """The files that are named by keys; if they are not, whatever is in the directory."""
    directories = [directory for directory, _ in part.file_directories()] or [part.directory]
    paths = [Path(store.root, directory) for directory in directories]
    return [str(file) for path in paths if path.exists() for file in path.iterdir()]


def test_a_new_store_has_the_listed_directories_and_nothing_else(new_store: Store) -> None:
    names = {name for name in os.listdir(new_store.root) if not name.startswith(DATABASE)}
    directories = [part.directory for part in PARTS if part.directory]
    assert names == {*directories, LOCK, CACHEDIR_TAG}
    assert len(directories) == len(set(directories))


def test_a_new_store_has_the_listed_tables_and_no_others(new_store: Store) -> None:
    in_database = [str(row[0]) for row in new_store.metadata.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
    listed = [table for part in PARTS for table in tables(part)]
    assert sorted(listed) == sorted(name for name in in_database if not name.startswith("sqlite_"))


def test_keys_and_boot_columns_are_those_of_the_tables(new_store: Store) -> None:
    for part in PARTS:
        if part.table:
            columns = new_store.metadata.all(f"SELECT name, pk FROM pragma_table_info('{part.table}')")
            assert (part.key, 1) in columns or part.table == "condemned"
            assert part.sealed == ("boot" in [name for name, _ in columns])


def test_each_kind_that_can_be_condemned_has_a_part() -> None:
    kinds = [part.condemned_as for part in PARTS if part.condemned_as]
    assert sorted(kinds, key=str) == sorted(Condemnable, key=str)
    assert all((part.removal is Removal.UNREACHED) == (part.condemned_as is not None) for part in PARTS)


def test_the_full_store_of_these_tests_has_something_of_each_part(full_store: Store) -> None:
    for part in PARTS:
        assert all(count(full_store, table) for table in tables(part))
        assert not part.directory or files(full_store, part)
    assert is_whole(full_store)


def test_gc_removes_each_part_as_the_list_says(full_store: Store) -> None:
    untag(full_store, "app:1")
    abandoned = Path(full_store.root, INGEST.directory, "abandoned")
    abandoned.mkdir()
    collect_in(full_store, 0)
    for part in PARTS:
        stays = part.removal in (Removal.OLDEST, Removal.UNLOCKED, Removal.RELEASED) and part is not MEMOS
        if part.table:
            assert (count(full_store, part.table) > 0) == stays, part
        if part.directory:
            assert (files(full_store, part) != []) == stays, part
    Store(full_store.root).close()
    assert not abandoned.exists()


def test_fsck_and_gc_find_the_orphans_of_each_part(full_store: Store) -> None:
    orphans = [f"{directory}/0123" for part in FILE_PARTS for directory, _ in part.file_directories()]
    for orphan in orphans:
        Path(full_store.root, orphan).parent.mkdir(exist_ok=True)
        Path(full_store.root, orphan).touch()
    assert sorted(fsck.check(full_store).garbage) == sorted(orphans)
    assert collect_in(full_store).leftovers == len(orphans)
    assert is_whole(full_store)


@pytest.mark.parametrize("part", FILE_PARTS, ids=lambda part: part.directory)
def test_fsck_finds_a_missing_file_of_each_part(full_store: Store, part: Part) -> None:
    path = files(full_store, part)[0]
    os.rename(path, full_store.ingest.new_path())
    assert fsck.check(full_store).damage


@pytest.mark.parametrize("part", SEALED, ids=lambda part: part.table)
def test_a_seal_seals_each_part(full_store: Store, part: Part) -> None:
    hold(full_store, "another cache").close()
    full_store.snapshots.add(None, full_store.changesets.add([], full_store.ingest.new_path()))
    full_store.seal()
    stands = " AND EXISTS (SELECT 1 FROM snapshots WHERE changeset = c.id)" if part in (CHANGESETS, TOCS) else ""
    assert full_store.metadata.all(f"SELECT * FROM {part.table} AS c WHERE boot IS NOT NULL{stands}") == []


def test_after_another_boot_nothing_is_unsealed(full_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    full_store.changesets.add([], full_store.ingest.new_path())
    hold(full_store, "another cache").close()
    monkeypatch.setattr(store_module, "_boot_id", lambda: "another boot")
    with Store(full_store.root) as opened:
        for part in SEALED:
            assert opened.metadata.all(f"SELECT * FROM {part.table} WHERE boot IS NOT NULL") == []


USED: dict[str, Callable[[Usage], int]] = {
    "blobs": lambda found: found.forms[StoredForm.BLOB].size,
    "tocs": lambda found: found.forms[StoredForm.TOC].size,
    "trees": lambda found: found.forms[StoredForm.TREE].count,
    "cachemounts": lambda found: found.forms[StoredForm.CACHE_MOUNT].size,
    "logs": lambda found: found.logs.count,
    "memo": lambda found: found.memos,
    "reserve": lambda found: found.reserve,
}


def test_usage_counts_each_directory_except_work_in_progress(full_store: Store) -> None:
    found = usage(full_store, measure)
    assert set(USED) == {part.directory for part in PARTS if part.directory and part is not INGEST}
    assert all(used(found) > 0 for used in USED.values())


@pytest.mark.parametrize(("algorithm", "digits"), [("sha256", 64), ("sha512", 128)])
def test_a_blob_is_where_the_list_says(new_store: Store, algorithm: str, digits: int) -> None:
    digest = Digest.parse(f"{algorithm}:{'0' * digits}")
    (place,) = [
        f"{new_store.root}/{directory}/{digest.hex}"
        for part in PARTS
        for directory, prefix in part.file_directories()
        if prefix == f"{digest.algorithm}:"
    ]
    assert new_store.blobs.path(digest) == place
