"""The id map in which the ids of the steps are not those of pybuild."""

from __future__ import annotations

import os

import pytest

from pybuild.builder.host import shifted_ids
from pybuild.builder.host.id_map import Extent, IdMap, MapKind
from pybuild.builder.host.shifted_ids import shifted

ALL = (Extent(0, 0, (1 << 32) - 1),)
CONTAINER = (Extent(0, 0, 65_536),)
PODMAN = 0x800405FB  # CapEff of its default container


def shift(
    monkeypatch: pytest.MonkeyPatch, existing: tuple[Extent, ...], capabilities: int = PODMAN, own: int = 0
) -> IdMap:
    monkeypatch.setattr(shifted_ids, "effective_capabilities", lambda: capabilities)
    monkeypatch.setattr(os, "geteuid", lambda: own)
    monkeypatch.setattr(os, "getegid", lambda: own)
    return shifted(IdMap(MapKind.IDENTITY, existing, existing))


def outside(id_map: IdMap, inside: int) -> int:
    """The id in the namespace above."""
    (found,) = (e.outside + inside - e.inside for e in id_map.uids if e.inside <= inside < e.inside + e.count)
    return found


@pytest.mark.parametrize(
    ("existing", "own", "root", "steps"),
    [
        (ALL, 0, 65_536, (1 << 32) - 1 - 65_536),
        (CONTAINER, 0, 1, 65_535),
        ((Extent(0, 0, 1000), Extent(1000, 1000, 70_000)), 0, 1, 70_999),
        ((Extent(0, 0, 1), Extent(100_000, 100_000, 200_000)), 0, 100_000, 200_000),
    ],
)
def test_ids_are_rotated(
    monkeypatch: pytest.MonkeyPatch, existing: tuple[Extent, ...], own: int, root: int, steps: int
) -> None:
    found = shift(monkeypatch, existing, own=own)
    assert found.kind is MapKind.SHIFTED
    assert outside(found, 0) == root
    assert found.step_maps() == (f"0 0 {steps}\n", f"0 0 {steps}\n")
    assert found.has_uid(steps - 1)
    assert not found.has_uid(steps)
    total = sum(extent.count for extent in existing)
    assert sum(extent.count for extent in found.uids) == total, "workers have every id"
    assert any(outside(found, inside) == own for inside in range(steps, min(total, steps + 70_000)))
    assert all(extent.outside > own for extent in found.uids if extent.inside < steps)


@pytest.mark.parametrize(
    ("existing", "capabilities"),
    [
        ((Extent(0, 0, 65_535),), PODMAN),  # the last user of a system, nobody, would be missing
        ((Extent(0, 0, 1),), PODMAN),
        (ALL, PODMAN & ~(1 << 1)),  # without CAP_DAC_OVERRIDE it could not read what steps leave
    ],
)
def test_ids_stay_where_others_would_not_do(
    monkeypatch: pytest.MonkeyPatch, existing: tuple[Extent, ...], capabilities: int
) -> None:
    assert shift(monkeypatch, existing, capabilities).kind is MapKind.IDENTITY


def test_the_map_of_an_ordinary_user_stays() -> None:
    own = IdMap(MapKind.RANGE, (Extent(0, 1000, 1), Extent(1, 100_000, 65_536)), (Extent(0, 1000, 1),), ("a", "b"))
    assert shifted(own) is own
    assert own.step_maps() == ("0 0 1\n1 1 65536\n", "0 0 1\n")


def test_trees_of_different_maps_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {shift(monkeypatch, existing).name for existing in (ALL, CONTAINER)}
    assert len(names | {IdMap(MapKind.IDENTITY, ALL, ALL).name}) == 3
