"""Caches in directories: other images stay, what nothing needs goes, and whoever is killed leaves a whole cache."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.cache_places import LocalCache
from pybuild.builder.errors import BuildError
from pybuild.store.exporting import layout
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from tests.support.caches import CacheMachine
from tests.support.fake_registry import fake_registry, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pybuild.store.formats.cache_index import CacheRecord

    Machines = Callable[[], CacheMachine]


@pytest.fixture
def place(tmp_path: Path) -> LocalCache:
    return LocalCache(str(tmp_path / "cache"))


def blobs(place: LocalCache) -> set[str]:
    return set(os.listdir(f"{place.path}/blobs/sha256"))


def digest_of(record: CacheRecord) -> Digest:
    assert record.layer is not None
    return record.layer.digest


def needed(machine: CacheMachine, *places: LocalCache) -> set[str]:
    """The blobs that caches need."""
    found: set[Digest] = set()
    for place in places:
        cache = machine.read(place)
        assert cache is not None, machine.notes()
        found |= {cache.digest, cache.config_digest, *(layer.digest for layer in cache.manifest.layers)}
    return {digest.hex for digest in found}


def test_blobs_that_only_the_old_cache_needed_go(machine: CacheMachine, place: LocalCache) -> None:
    other = LocalCache(place.path, "other")
    old, shared, new = machine.record("old", used=1), machine.record("shared", used=2), machine.record("new", used=3)
    machine.write(other, shared)
    machine.write(place, old, shared)
    left = f"{place.path}/blobs/sha256/{'0' * 64}"
    with open(left, "w") as file:
        file.write("of nobody")
    machine.write(place, new, most=1)
    assert blobs(place) == needed(machine, place, other) | {"0" * 64}
    assert digest_of(old).hex not in blobs(place) and digest_of(shared).hex in blobs(place)


def test_if_another_image_cannot_be_read_nothing_goes(machine: CacheMachine, place: LocalCache) -> None:
    other = LocalCache(place.path, "other")
    machine.write(other, machine.record("theirs"))
    machine.write(place, machine.record("old", used=1))
    cache = machine.read(other)
    assert cache is not None
    os.unlink(f"{place.path}/blobs/sha256/{cache.digest.hex}")
    before = blobs(place)
    machine.write(place, machine.record("new"), most=1)
    assert before < blobs(place)


def test_other_images_stay(machine: CacheMachine, place: LocalCache, tmp_path: Path) -> None:
    subprocess.run(["umoci", "init", "--layout", place.path], check=True)
    subprocess.run(["umoci", "new", "--image", f"{place.path}:image"], check=True)
    assert machine.read(place) is None
    machine.write(place, machine.record("one"))
    listed = subprocess.run(["umoci", "list", "--layout", place.path], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == ["image", "latest"]
    stat = subprocess.run(["umoci", "stat", "--image", f"{place.path}:image"], capture_output=True)
    assert stat.returncode == 0
    with pytest.raises(BuildError, match="it is an image without a cache"):
        machine.write(LocalCache(place.path, "image"), machine.record("one"))


def test_a_directory_with_other_files_is_refused(machine: CacheMachine, place: LocalCache) -> None:
    os.mkdir(place.path)
    with open(f"{place.path}/mine", "w") as file:
        file.write("x")
    with pytest.raises(BuildError, match="something else than an OCI layout"):
        machine.write(place, machine.record("one"))
    assert os.listdir(place.path) == ["mine"]


def test_a_layer_that_is_lost_there_is_written_again(machine: CacheMachine, place: LocalCache) -> None:
    one, two = machine.record("one"), machine.record("two")
    machine.write(place, one)
    os.unlink(f"{place.path}/blobs/sha256/{digest_of(one).hex}")
    written = machine.write(place, two)
    assert (written.records, written.sent) == (2, 200)
    assert blobs(place) == needed(machine, place)


def test_a_layer_that_is_elsewhere_is_fetched(machine: CacheMachine, place: LocalCache) -> None:
    there, nowhere = machine.record("there"), machine.record("nowhere")
    with fake_registry() as other:
        for record in (there, nowhere):
            machine.store.places.add([digest_of(record)], Reference.parse(f"{other.host}/team/app:1"), 1)
        other.on(f"/v2/team/app/blobs/{digest_of(there)}", reply(machine.blobs.pop(digest_of(there)).read_bytes()))
        del machine.blobs[digest_of(nowhere)]
        machine.write(place, there, nowhere)
    assert f"1 record of the cache {place} left out: their layers cannot be had any more" in machine.notes()
    cache = machine.read(place)
    assert cache is not None and cache.index.records == (there,)
    assert blobs(place) == needed(machine, place)


@pytest.mark.parametrize("before", [False, True], ids=["first write", "merge"])
def test_a_writer_that_is_killed_leaves_the_old_or_the_new_cache(
    machines: Machines, tmp_path: Path, before: bool
) -> None:
    other, machine = machines(), machines()
    old = (other.record("old", used=1), other.record("older", used=0))
    new = machine.record("a"), machine.record("b")
    for number in itertools.count(1):
        place = LocalCache(str(tmp_path / f"cache{number}"))
        if before:
            other.write(place, *old)
        child = os.fork()
        if not child:
            _kill_at(number)
            machine.write(place, *new, most=3)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        assert os.WIFSIGNALED(status)
        found = other.read(place)
        assert (found is not None) is before or found is not None
        if found is not None:
            assert found.index.records in (old, (old[0], *new), new)
            assert needed(other, place) <= blobs(place)
        machine.write(place, *new, most=3)
        assert needed(other, place) <= blobs(place)
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert number > 8


def _kill_at(number: int) -> None:
    """In this process, let the call with this number that changes a file be the last one."""
    calls = itertools.count(1)
    for name in ("rename", "unlink", "link", "mkdir"):
        real = getattr(os, name)

        def counted(*arguments: object, real: Callable[..., object] = real, **options: object) -> object:
            if next(calls) == number:
                os.kill(os.getpid(), 9)
            return real(*arguments, **options)

        setattr(os, name, counted)


def test_another_writer_removes_a_layer_meanwhile(
    machines: Machines, place: LocalCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines(), machines()
    shared, new = two.record("shared"), two.record("new")
    two.write(place, shared)
    write = layout._write_layout
    removed: list[Digest] = []

    def race(*arguments: object, **options: object) -> None:
        if not removed:
            removed.append(digest_of(shared))
            os.unlink(f"{place.path}/blobs/sha256/{digest_of(shared).hex}")
        write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(layout, "_write_layout", race)
    two.write(place, new)
    assert removed
    cache = one.read(place)
    assert cache is not None and cache.index.records == (shared, new)
    assert blobs(place) == needed(one, place)


def test_writers_side_by_side_never_leave_a_broken_cache(machines: Machines, place: LocalCache) -> None:
    reader, writers = machines(), [machines(), machines(), machines()]
    children = []
    for number, machine in enumerate(writers):
        steps = [machine.record(f"{number}-{step}", used=step) for step in range(12)]
        child = os.fork()
        if not child:
            try:
                for step in steps:
                    machine.write(place, step, most=2)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert needed(reader, place) <= blobs(place)
    reader.write(place, reader.record("last", used=99), most=1)
    cache = reader.read(place)
    assert cache is not None and len(cache.index.records) == 1


def test_umoci_reads_a_cache(machine: CacheMachine, place: LocalCache) -> None:
    machine.write(place, machine.record("one"))
    command = ["umoci", "stat", "--json", "--image", f"{place.path}:latest"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert "history" in shown
