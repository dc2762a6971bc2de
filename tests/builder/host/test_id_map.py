"""The id map of the steps' namespace: /etc/subuid, helpers, and the ids that exist."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.host import id_map
from pybuild.builder.host.id_map import Extent, IdMap, MapKind, find_helper, free_range, subordinate_ids

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me:100000:65536\n", [(100000, 65536)]),
        ("other:1:2\nme:5:6\nme:10:20\n", [(5, 6), (10, 20)]),
        ("1000:7:8\n", [(7, 8)]),
        ("me:x:8\nme:7\nme:7:0\nme\n\n:::\n", []),
        ("mean:1:2\n", []),
        (f"me:{'1' * 5000}:1\nme:1:{'1' * 5000}\nme:4294967296:1\nme:\u0661:1\nme:4294967295:1\n", [(4294967295, 1)]),
        ("", []),
    ],
    ids=["one", "several, in order", "by number", "malformed lines", "a longer name", "numbers that are no ids", "empty"],
)
def test_subordinate_ids_of_a_user(tmp_path: Path, text: str, expected: list[tuple[int, int]]) -> None:
    path = tmp_path / "subuid"
    path.write_text(text)
    assert subordinate_ids(str(path), "me", 1000) == expected


def test_a_missing_file_gives_no_ids(tmp_path: Path) -> None:
    assert subordinate_ids(str(tmp_path / "missing"), "me", 1000) == []


def put_helper(directory: Path, mode: int, owner: int) -> None:
    directory.mkdir()
    (directory / "newuidmap").write_text("")
    (directory / "newuidmap").chmod(mode)
    os.chown(directory / "newuidmap", owner, 0)


@pytest.mark.parametrize(
    ("users", "groups", "first"),
    [
        ("", "", 100_000),
        ("a:600000:65536\n", "", 100_000),
        ("a:100000:65536\n", "", 165_536),
        ("", "a:100000:65536\n", 165_536),
        ("b:165536:65536\na:100000:65536\n", "b:165536:65536\n", 231_072),
        ("a:165000:10\n", "", 165_536),
        ("nonsense\nb:x:y\n", "a:1\n", 100_000),
    ],
)
def test_a_free_range_is_one_that_nobody_has(tmp_path: Path, users: str, groups: str, first: int) -> None:
    (tmp_path / "u").write_text(users)
    (tmp_path / "g").write_text(groups)
    found = free_range((str(tmp_path / "u"), str(tmp_path / "g"), str(tmp_path / "missing")))
    assert found == (first, first + 65_535)


def test_a_helper_is_a_program_that_only_root_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_helper(tmp_path / "good", 0o4755, 0)
    monkeypatch.setattr(id_map, "_HELPER_DIRECTORIES", (str(tmp_path / "missing"), str(tmp_path / "good")))
    assert find_helper("newuidmap") == f"{tmp_path}/good/newuidmap"


@pytest.mark.parametrize(("mode", "owner"), [(0o4775, 0), (0o4757, 0), (0o4755, 1000)])
def test_a_helper_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int
) -> None:
    put_helper(tmp_path / "bad", mode, owner)
    monkeypatch.setattr(id_map, "_HELPER_DIRECTORIES", (str(tmp_path / "bad"),))
    with pytest.raises(PermissionError):
        find_helper("newuidmap")


def test_helpers_are_not_searched_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_helper(tmp_path / "bin", 0o755, 0)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(id_map, "_HELPER_DIRECTORIES", ())
    with pytest.raises(FileNotFoundError):
        find_helper("newuidmap")


def test_only_ids_that_exist_here_are_mapped() -> None:
    existing = (Extent(0, 100000, 1000), Extent(5000, 200000, 10))
    assert id_map._within([(500, 600), (4000, 1005), (9000, 5)], existing) == [(500, 500), (5000, 5)]


def test_subordinate_ranges_are_mapped_one_after_the_other() -> None:
    assert id_map._extents(1000, [(100000, 10), (300000, 5)]) == (
        Extent(0, 1000, 1),
        Extent(1, 100000, 10),
        Extent(11, 300000, 5),
    )


def test_different_maps_have_different_ids_and_names() -> None:
    one = IdMap(MapKind.RANGE, (Extent(0, 1000, 1), Extent(1, 100000, 10)), (Extent(0, 1000, 1),))
    other = IdMap(MapKind.RANGE, (Extent(0, 1000, 1), Extent(1, 200000, 10)), (Extent(0, 1000, 1),))
    assert [uid for uid in (0, 1, 10, 11) if one.has_uid(uid)] == [0, 1, 10]
    assert [gid for gid in (0, 1) if one.has_gid(gid)] == [0]
    assert one.name != other.name


def choose_with(monkeypatch: pytest.MonkeyPatch, capabilities: int, existing: tuple[Extent, ...]) -> IdMap:
    monkeypatch.setattr(id_map, "effective_capabilities", lambda: capabilities)
    monkeypatch.setattr(id_map, "_existing_ids", lambda kind: existing)
    monkeypatch.setattr(id_map, "subordinate_ids", lambda path, user, uid: [])
    return id_map.choose_id_map()


SETUID_SETGID = 1 << 7 | 1 << 6


@pytest.mark.parametrize(
    ("capabilities", "existing", "kind"),
    [
        (SETUID_SETGID, (Extent(0, 0, 1 << 32 - 1),), MapKind.IDENTITY),
        (SETUID_SETGID, (Extent(0, 0, 65536),), MapKind.IDENTITY),
        (SETUID_SETGID, (Extent(0, 0, 1),), MapKind.SINGLE),
        (1 << 7, (Extent(0, 0, 65536),), MapKind.SINGLE),
        (0, (Extent(0, 0, 1 << 32 - 1),), MapKind.SINGLE),
    ],
    ids=["root", "root of a container", "root of one id", "CAP_SETUID alone", "called root without capabilities"],
)
def test_capabilities_decide_and_not_the_uid(
    monkeypatch: pytest.MonkeyPatch, capabilities: int, existing: tuple[Extent, ...], kind: MapKind
) -> None:
    found = choose_with(monkeypatch, capabilities, existing)
    assert found.kind is kind
    assert bool(found.missing) is (kind is MapKind.SINGLE)
