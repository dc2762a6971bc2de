"""pybuild cache ls and prune, on caches in a registry and in directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.cache_places import LocalCache
from tests.support.caches import CacheMachine, cache_machine, in_registry
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[CacheMachine]:
    found = cache_machine(tmp_path / "machine")
    with found.store, found.pool:
        yield found


@pytest.fixture
def place(machine: CacheMachine, tmp_path: Path) -> LocalCache:
    """A cache with an older and a newer step, which stands on it, and another one."""
    found = LocalCache(str(tmp_path / "cache"))
    lower = machine.record("lower", used=1000, size=2000)
    machine.write(found, lower, machine.record("upper", lower, used=3000), machine.record("other", used=2000))
    return found


def test_ls_lists_the_steps_used_last_first(pybuild: Pybuild, place: LocalCache, tmp_path: Path) -> None:
    first, *lines = pybuild("--root", tmp_path / "none", "cache", "ls", place.path).out.splitlines()
    assert first.split() == ["STAGE", "SIZE", "LAST", "USED", "KEY", "STEP"]
    assert [line.rpartition("  ")[2] for line in lines[:3]] == ["RUN upper", "RUN other", "RUN lower"]
    assert lines[2].startswith("app") and "2.0 kB  1970-01-01 " in lines[2]
    assert lines[3] == "3 records, 3 layers: 2.2 kB"
    assert not (tmp_path / "none").exists()  # to look at a cache needs no store


def test_ls_gives_json(pybuild: Pybuild, place: LocalCache) -> None:
    found = json.loads(pybuild("cache", "ls", "--json", f"oci:{place.path}:latest").out)
    assert {name: found[name] for name in ("place", "image", "layers", "size")} == {
        "place": place.path, "image": False, "layers": 3, "size": 2200,
    }  # fmt: skip
    assert found["manifest"].startswith("sha256:")
    last = found["records"][-1]
    assert (last["stage"], last["instruction"], last["size"], last["last_used"]) == ("app", "RUN lower", 2000, 1000)
    assert len(last["key"]) == 64 and last["layer"].startswith("sha256:")


def test_prune_keeps_what_was_used_last(pybuild: Pybuild, place: LocalCache, machine: CacheMachine) -> None:
    assert pybuild("cache", "prune", "--max-records", "2", place.path).out == "1 record removed, 2 left: 2 layers, 2.1 kB\n"
    assert pybuild("cache", "prune", "--max-size", "5g", place.path).out == "0 records removed, 2 left: 2 layers, 2.1 kB\n"
    assert pybuild("cache", "prune", "-q", "--max-size", "1k", place.path).out == ""
    assert pybuild("cache", "ls", place.path).out == "0 records, 0 layers: 0 B\n"


def test_a_cache_in_a_registry(pybuild: Pybuild, machine: CacheMachine, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        place = in_registry(registry.host)
        machine.write(place, machine.record("one", used=1), machine.record("two", used=2))
        for name in (str(place), f"docker://{place.name}"):
            assert "2 records, 2 layers" in pybuild("cache", "ls", name).out
        assert "1 record removed, 1 left" in pybuild("cache", "prune", "--max-records=1", place).out
        assert "0 left: 0 layers" in pybuild("cache", "prune", "--max-records=0", place).out
        image = f"{registry.host}/team/app:1"
        pybuild("-q", "-t", image, "--push", write_context(tmp_path / "c", f"FROM {BASE}\n"))
        expected = f"error: {image} is not used as a cache: it is an image without a cache"
        assert pybuild.refused("cache", "ls", image).splitlines()[0] == expected
        refusal = pybuild.refused("cache", "prune", "--max-records=1", image)
        assert "what has this name is not replaced: it is an image without a cache" in refusal
        absent = f"{registry.host}/team/none:latest"
        assert f"no cache at {absent} yet" in pybuild.refused("cache", "ls", absent)
        assert f"there is no cache at {absent}" in pybuild.refused("cache", "prune", "--max-records=1", absent)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ls"], "Missing argument 'PLACE'"),
        (["ls", "oci-archive:x.tar"], "a cache is in a registry or in a directory"),
        (["ls", "oci:"], "the path is missing"),
        (["ls", "/no/such/directory"], "neither a directory nor a name in a registry"),
        (["prune", "a/b"], "give --max-records, --max-size or both"),
        (["prune", "--max-size", "much", "a/b"], "--max-size: "),
        (["prune", "--max-records", "-1", "a/b"], "--max-records"),
    ],
)
def test_usage_errors(pybuild: Pybuild, arguments: list[str], expected: str) -> None:
    assert expected in pybuild.refused("cache", *arguments, status=2)


def test_instructions_of_others_do_not_reach_the_terminal(
    pybuild: Pybuild, machine: CacheMachine, tmp_path: Path
) -> None:
    machine.write(LocalCache(str(tmp_path / "cache")), machine.record("\x1b]0;title\x07\n" + 100 * "x"))
    lines = pybuild("cache", "ls", tmp_path / "cache").out.splitlines()
    assert "RUN \\x1b]0;title\\x07\\x0a" in lines[1] and lines[1].endswith("x…")
    assert len(lines) == 3
