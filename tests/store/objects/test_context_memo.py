"""Memos of contexts are stored and limited, and a damaged one is not used."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import pytest

from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.gc import collect
from pybuild.store.objects import context_memo
from pybuild.store.objects.context_memo import Memo, file_key, is_settled, memo_path, prune
from pybuild.store.store import Store

DAY = 86400
SHA = bytes(range(32))


def key(number: int) -> bytes:
    return number.to_bytes(40, "little")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A memo of three files."""
    path = tmp_path / "memo" / "context"
    path.parent.mkdir()
    write(path, 1, 2, 3)
    return path


def write(path: Path, *numbers: int) -> None:
    """Add files to a memo."""
    known = Memo(str(path))
    for number in numbers:
        known.learn(key(number), SHA)
    known.save(str(path.parent.parent / "scratch"))


def found(path: Path) -> list[int]:
    known = Memo(str(path))
    return [number for number in range(10) if known.find(key(number)) == SHA]


def on_day(monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    monkeypatch.setattr(time, "time", lambda: day * DAY + 100.0)


def test_the_next_memo_finds_what_was_learned_and_nothing_else(path: Path) -> None:
    assert found(path) == [1, 2, 3]
    write(path, 5)
    assert found(path) == [1, 2, 3, 5]


def test_an_unchanged_memo_is_not_written(path: Path) -> None:
    before = path.stat().st_ino
    known = Memo(str(path))
    assert known.find(key(1)) == SHA
    known.save(str(path.parent.parent / "scratch"))
    assert path.stat().st_ino == before


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1], id="a byte short"),
        pytest.param(lambda data: data[:-76], id="a row short"),
        pytest.param(lambda data: data[:10], id="nothing but a beginning"),
        pytest.param(lambda data: data + bytes(76), id="a row long"),
        pytest.param(lambda data: flipped(data, 3), id="another format"),
        pytest.param(lambda data: flipped(data, 9), id="another checksum"),
        pytest.param(lambda data: flipped(data, 12), id="another file"),
        pytest.param(lambda data: flipped(data, len(data) - 10), id="another digest"),
        pytest.param(lambda data: bytes(len(data)), id="zeros"),
    ],
)
def test_a_damaged_memo_is_empty_and_is_replaced(path: Path, damage: object) -> None:
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert found(path) == []
    write(path, 4)
    assert found(path) == [4]


def test_a_memo_that_cannot_be_read_or_written_raises_no_error(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for place in (tmp_path / "directory", tmp_path / "no" / "where"):
        write(place, 1)
        assert found(place) == []
    assert not (tmp_path / "no").exists()


def test_unused_rows_are_removed_after_some_days(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_day(monkeypatch, 20_000)
    write(path.with_name("other"), 1, 2)
    on_day(monkeypatch, 20_000 + context_memo.KEPT_DAYS)
    assert Memo(str(path.with_name("other"))).find(key(2)) == SHA  # used, but not saved
    known = Memo(str(path.with_name("other")))
    assert known.find(key(1)) == SHA
    known.save(str(path.parent.parent / "scratch"))
    on_day(monkeypatch, 20_001 + context_memo.KEPT_DAYS)
    write(path.with_name("other"), 3)
    assert found(path.with_name("other")) == [1, 3]


def test_the_oldest_rows_beyond_the_limit_are_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_memo, "ROWS_LIMIT", 4)
    on_day(monkeypatch, 20_000)
    other = path.with_name("other")
    write(other, 1, 2)
    on_day(monkeypatch, 20_001)
    write(other, 3, 4, 5, 6)
    assert found(other) == [3, 4, 5, 6]


def test_a_memo_beyond_the_size_limit_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_memo, "ROWS_LIMIT", 2)
    assert found(path) == []


# Which files


SECOND = 1_000_000_000
NOW = 2_000_000_000 * SECOND + 123_456_789


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [
        pytest.param(-SECOND, -SECOND, True, id="both a second ago"),
        pytest.param(-10 * SECOND, 0, False, id="an attribute was set right now"),
        pytest.param(0, -10 * SECOND, False, id="written right now"),
        pytest.param(-10 * SECOND, -50_000_000, False, id="within a step of the clock"),
        pytest.param(10 * SECOND, -10 * SECOND, False, id="of the future"),
        pytest.param(-10 * SECOND, 10 * SECOND, False, id="changed in the future"),
        pytest.param(-SECOND, -2 * SECOND - 123_456_789, False, id="whole seconds, within a step"),
        pytest.param(-SECOND, -4 * SECOND - 123_456_789, False, id="whole seconds, and written since"),
        pytest.param(-5 * SECOND, -4 * SECOND - 123_456_789, True, id="whole seconds, long ago"),
    ],
)
def test_a_file_is_settled_if_any_change_would_change_its_times(mtime: int, ctime: int, settled: bool) -> None:
    class Status:
        st_mtime_ns = NOW + mtime
        st_ctime_ns = NOW + ctime

    assert is_settled(Status(), NOW) is settled  # type: ignore[arg-type]


def test_every_change_of_a_file_changes_its_key(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")
    os.utime(file, ns=(5, 5))
    keys = {file_key(file.stat())}

    def another() -> int:
        keys.add(file_key(file.stat()))
        return len(keys)

    os.utime(file, ns=(5, 6))
    assert another() == 2
    file.write_bytes(b"four")
    assert another() == 3
    (tmp_path / "g").write_bytes(b"four")
    os.rename(tmp_path / "g", file)
    assert another() == 4
    assert file_key(file.stat()) == file_key(os.lstat(file))


def test_a_context_has_the_same_memo_under_every_name(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "link").symlink_to("context")
    names = {memo_path("m", str(tmp_path / name)) for name in ("context", "link", "context/../link/.")}
    assert len(names) == 1
    assert memo_path("m", str(tmp_path)) not in names


# In a store


def old(path: Path, days: float) -> Path:
    when = path.stat().st_mtime - days * DAY
    os.utime(path, (when, when))
    return path


def test_memos_beyond_the_limits_and_old_ones_are_removed(path: Path) -> None:
    directory = path.parent
    for number in range(4):
        write(directory / str(number), 1)
        old(directory / str(number), number + 1)
    old(path, 30)
    (directory / "damaged").write_bytes(b"x")
    assert prune(str(directory), dry_run=True)[0] == 2
    assert prune(str(directory)) == (2, 1 + 12 + 3 * 76)
    assert sorted(os.listdir(directory)) == ["0", "1", "2", "3"]
    assert prune(str(directory), files=3) == (1, 12 + 76)
    assert prune(str(directory), size=2 * (12 + 76)) == (1, 12 + 76)
    assert sorted(os.listdir(directory)) == ["0", "1"]


def test_writing_a_new_memo_removes_old_ones(path: Path) -> None:
    old(path, 30)
    write(path.with_name("new"), 1)
    assert os.listdir(path.parent) == ["new"]


def test_fsck_lists_a_damaged_memo_and_gc_removes_it(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        write(Path(store.memos, "good"), 1)
        row = struct.pack("<8sI", b"pbmemo1\n", zlib.crc32(b"x")) + b"x"
        Path(store.memos, "bad").write_bytes(row)
        report = fsck.check(store)
        assert (report.damage, report.garbage) == ((), ("memo/bad",))
        assert collect(store, None, lambda _: 0, lambda _: None, dry_run=True).leftovers == 1
        assert collect(store, None, lambda _: 0, lambda _: None).size == len(row)
        assert os.listdir(store.memos) == ["good"]
        assert collect(store, 0, lambda _: 0, lambda _: None).leftovers == 1
        assert os.listdir(store.memos) == []
