"""The last builds of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import StoreError
from pybuild.store.objects.builds import (
    KEPT_BUILDS,
    TEXT_LIMIT,
    BuiltStep,
    MountedFiles,
    Outcome,
    StoredBuild,
    matching_build,
)
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


def build(name: str, key: str = "key", instruction: str = "RUN x", outcome: Outcome = Outcome.RAN) -> StoredBuild:
    base = BuiltStep(0, None, (), "s", 0, 1, "FROM x", Outcome.CACHED, False, "base", None, (), "{}")
    mounted = (MountedFiles(7, "/a,b", "/t"), MountedFiles(None, "/", "/u"))
    step = BuiltStep(1, 0, (0, 7), "s", 1, 3, instruction, outcome, True, key, 9, ("A", "B"), f'"{key}"', mounted)
    return StoredBuild(name, "/r", "t", "", (base, step))


def test_a_build_comes_back_as_it_was(store: Store) -> None:
    store.builds.add(build("2"))
    store.builds.add(build("1"))
    assert store.builds.all() == [build("1"), build("2")]


def test_old_builds_are_removed_with_all_their_rows(store: Store) -> None:
    for number in range(1000, 1000 + 3 * KEPT_BUILDS):
        store.builds.add(build(str(number), f"key {number}"))
    left = store.builds.all()
    assert KEPT_BUILDS <= len(left) <= KEPT_BUILDS + 10
    assert left[-1] == build(str(999 + 3 * KEPT_BUILDS), f"key {999 + 3 * KEPT_BUILDS}")
    for table, rows in (("build_steps", 2 * len(left)), ("step_inputs", len(left) + 1)):
        assert store.metadata.one(f"SELECT count(*) FROM {table}") == (rows,)


def test_a_build_is_found_by_either_end_of_its_name(store: Store) -> None:
    for name in ("20260101-aa", "20260102-ab"):
        store.builds.add(build(name))
    ids = store.builds.ids()
    assert ids == ["20260101-aa", "20260102-ab"]
    assert [matching_build(ids, name) for name in ("20260101", "ab", "x")] == ["20260101-aa", "20260102-ab", None]
    with pytest.raises(StoreError, match="the ids of 2 builds begin or end with 2026: 20260102-ab, 20260101-aa"):
        matching_build(ids, "2026")


@pytest.mark.parametrize(
    ("below", "instruction", "outcome", "had"),
    [
        ("base", "RUN x", Outcome.RAN, True),
        ("base", "RUN x", Outcome.CACHED, True),
        ("base", "RUN x", Outcome.FAILED, False),
        ("base", "RUN y", Outcome.RAN, False),
        ("other", "RUN x", Outcome.RAN, False),
    ],
)
def test_has_succeeded(
    store: Store, below: str, instruction: str, outcome: Outcome, had: bool
) -> None:
    store.builds.add(build("1", outcome=outcome))
    assert store.builds.has_succeeded(below, instruction) is had


def test_a_long_instruction_is_cut_and_still_found(store: Store) -> None:
    long = "RUN " + "x" * 2 * TEXT_LIMIT
    store.builds.add(build("1", instruction=long))
    assert store.builds.all()[0].steps[1].instruction == long[:TEXT_LIMIT]
    assert store.builds.has_succeeded("base", long)
