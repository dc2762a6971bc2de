"""The reserve: made where there is room, given to what frees space, and made again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.store.errors import NoSpace
from pybuild.store.objects.reserve import keep_reserve, release_reserve, reserve_size
from pybuild.store.store import Access, Store
from tests.support.disks import fill_bytes
from tests.support.overlays import in_private_mounts, mount_tmpfs


def test_a_new_store_has_a_reserve_that_takes_its_room(tmp_path: Path) -> None:
    Store(str(tmp_path / "s")).close()
    room = (tmp_path / "s/reserve/room").stat()
    assert room.st_size == reserve_size(str(tmp_path / "s")) >= 256 << 10
    assert room.st_blocks * 512 >= room.st_size
    assert len(os.listdir(tmp_path / "s/reserve")) == 5


def test_a_reserve_grows_with_the_database(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as store:
        before = reserve_size(root)
        with store.metadata.transaction() as db:
            db.execute("INSERT INTO parses VALUES ('key', zeroblob(2000000))")
    Store(root).close()
    assert reserve_size(root) >= 4_000_000 > before


def test_a_reserve_counts_tables_that_are_still_in_the_log(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as store:
        with store.metadata.transaction() as db:
            db.execute("INSERT INTO parses VALUES ('key', zeroblob(2000000))")
        Store(root).close()
        assert os.path.getsize(f"{root}/metadata.db") < 100_000
        assert reserve_size(root) >= 4_000_000


@pytest.mark.parametrize("options", ["size=2m", "size=64m,nr_inodes=40"])
def test_a_small_disk_has_no_reserve(tmp_path: Path, options: str) -> None:
    def work() -> object:
        mount_tmpfs(str(tmp_path), options)
        Store(f"{tmp_path}/s").close()
        return reserve_size(f"{tmp_path}/s")

    assert in_private_mounts(work) == 0


def test_a_reserve_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    def work() -> object:
        mount_tmpfs(str(tmp_path), "size=8m")
        Store(f"{tmp_path}/s").close()
        release_reserve(f"{tmp_path}/s")
        fill_bytes(tmp_path)
        keep_reserve(f"{tmp_path}/s", 1 << 20, at_once=True)
        return os.listdir(tmp_path / "s/reserve")

    assert in_private_mounts(work) == []


def test_without_a_reserve_leftovers_and_memos_make_room(tmp_path: Path) -> None:
    """A store of an earlier version has none."""

    def work() -> object:
        mount_tmpfs(str(tmp_path), "size=8m")
        root = tmp_path / "s"
        Store(str(root)).close()
        release_reserve(str(root))
        (root / "memo/context").write_bytes(bytes(1 << 20))
        fill_bytes(tmp_path)
        with pytest.raises(NoSpace, match="No space left on device"):
            Store(str(root))
        with Store(str(root), Access.FREE) as store:
            opened = store.metadata.one("SELECT count(*) FROM blobs")
        return opened, os.listdir(root / "memo"), reserve_size(str(root)) > 0

    assert in_private_mounts(work) == ((0,), [], True)


def test_what_frees_space_gets_the_reserve_when_it_needs_it(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    attempts = []

    def work() -> str:
        attempts.append(reserve_size(root) > 0)
        if len(attempts) == 1:
            raise NoSpace("full")
        return "done"

    with Store(root, Access.FREE) as store:
        assert store.freeing(work) == "done"
    assert attempts == [True, False]
    assert reserve_size(root) > 0
