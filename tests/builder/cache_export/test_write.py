"""Writing a cache to a real registry and to a directory, and reading it on another machine."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.cache_places import LocalCache, RegistryCache
from pybuild.builder.errors import BuildError
from pybuild.store.formats.cache_index import CachedTable
from tests.support.caches import CacheMachine, in_registry
from tests.support.registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.registry import DockerRegistry

    Machines = Callable[[], CacheMachine]
    Place = RegistryCache | LocalCache


@pytest.fixture(params=["registry", "directory"])
def place(request: pytest.FixtureRequest, registry: DockerRegistry, tmp_path: Path) -> Place:
    if request.param == "directory":
        return LocalCache(str(tmp_path / "cache"))
    return in_registry(registry.host, f"{request.node.name.partition('[')[0]}:main")


def test_another_machine_reads_what_one_wrote(machines: Machines, place: Place) -> None:
    one, two = machines(), machines()
    lower = one.record("lower", size=1000)
    upper = one.record("upper", lower)
    written = one.write(place, lower, upper)
    assert (written.records, written.layers, written.sent, written.spared) == (2, 2, 1100, 0)
    found = two.read(place)
    assert found is not None and found.index.records == (lower, upper)
    assert found.digest == written.digest and found.is_only_cache
    assert two.notes() == []
    reported = one.reported()
    assert (reported.place, reported.records, reported.sent) == (str(place), 2, 1100)


def test_the_same_records_again_send_nothing(machine: CacheMachine, place: Place) -> None:
    records = machine.record("lower"), machine.record("other")
    first = machine.write(place, *records)
    again = machine.write(place, *records)
    assert again.digest == first.digest
    assert (again.sent, again.spared) == (0, 200)


def test_a_machine_adds_its_records_and_sends_its_layers_only(machines: Machines, place: Place) -> None:
    one, two = machines(), machines()
    theirs, ours = one.record("theirs"), two.record("ours", size=30)
    one.write(place, theirs)
    written = two.write(place, ours)
    assert (written.records, written.sent, written.spared) == (2, 30, 100)
    found = one.read(place)
    assert found is not None and found.index.records == (theirs, ours)


def test_the_budget_drops_what_was_used_longest_ago(machine: CacheMachine, place: Place) -> None:
    old, new, newest = (machine.record(f"r{used}", used=used) for used in (1, 2, 3))
    machine.write(place, old, new)
    machine.write(place, newest, most=2)
    found = machine.read(place)
    assert found is not None and found.index.records == (new, newest)
    machine.write(place, size=150)
    found = machine.read(place)
    assert found is not None and found.index.records == (newest,)
    machine.write(place, most=0)
    found = machine.read(place)
    assert found is not None and found.index.records == ()


def test_without_records_nothing_is_written(machine: CacheMachine, place: Place) -> None:
    assert machine.write(place).digest is None
    assert machine.read(place) is None
    assert machine.notes() == [f"no cache at {place} yet"]


def test_a_layer_that_no_place_has_is_left_out_with_all_that_stands_on_it(machine: CacheMachine, place: Place) -> None:
    lost = machine.record("lost")
    above, other = machine.record("above", lost), machine.record("other")
    assert lost.layer is not None
    del machine.blobs[lost.layer.digest]
    assert machine.write(place, lost, above, other).records == 1
    assert machine.notes() == [f"2 records of the cache {place} left out: their layers cannot be had any more"]
    found = machine.read(place)
    assert found is not None and found.index.records == (other,)


def test_tables_of_contents_travel_and_a_lost_one_takes_no_record_along(machine: CacheMachine, place: Place) -> None:
    one, two = machine.record("one"), machine.record("two")
    there, lost = machine.layer(b"pack"), machine.layer(b"lost pack")
    tables = [CachedTable(record.chain, None, pack) for record, pack in ((one, there), (two, lost)) if record.chain]
    del machine.blobs[lost.digest]
    written = machine.write(place, one, two, tables=tuple(tables))
    assert (written.records, written.layers) == (2, 3)
    assert machine.notes() == []
    found = machine.read(place)
    assert found is not None and found.index.records == (one, two) and found.index.tables == (tables[0],)


def test_a_layer_in_the_directory_of_another_cache_is_copied(
    machines: Machines, place: Place, tmp_path: Path
) -> None:
    one, two = machines(), machines()
    other = LocalCache(str(tmp_path / "other"))
    there, lost = one.record("there"), one.record("lost")
    one.write(other, there, lost)
    assert there.layer is not None and lost.layer is not None
    two.store.places.add_directory([there.layer.digest, lost.layer.digest], other.path, 1)
    (tmp_path / "other" / "blobs" / "sha256" / lost.layer.digest.hex).unlink()
    assert two.write(place, there, lost).records == 1
    found = one.read(place)
    assert found is not None and found.index.records == (there,)


def test_skopeo_reads_and_copies_a_cache(machine: CacheMachine, place: Place, tmp_path: Path) -> None:
    written = machine.write(place, machine.record("one"), machine.record("two"))
    if isinstance(place, LocalCache):
        name, options = f"oci:{place.path}:latest", []
    else:
        name, options = f"docker://{place.name}", ["--src-tls-verify=false"]
    subprocess.run(["skopeo", "copy", "-q", *options, name, f"oci:{tmp_path}/copy:x"], check=True)
    assert machine.read(LocalCache(str(tmp_path / "copy"), "x")) is not None
    inspect = ["skopeo", "inspect", *(["--tls-verify=false"] if options else []), name]
    shown = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
    assert shown["Digest"] == str(written.digest)
    assert len(shown["Layers"]) == 2


def test_a_digest_cannot_be_written(machine: CacheMachine, registry: DockerRegistry) -> None:
    name = in_registry(registry.host, f"a/b@sha256:{'0' * 64}")
    with pytest.raises(BuildError, match=r"cannot write the cache .*: the cache itself determines its digest"):
        machine.write(name, machine.record("one"))


def test_a_registry_with_a_password_and_a_user_without_one(machine: CacheMachine, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "closed", login=("user", "secret")) as closed:
        place = in_registry(closed.host)
        assert machine.read(place) is None
        (note,) = machine.notes()
        assert note.startswith(f"the cache {place} is not used: ")
        with pytest.raises(BuildError, match=f"^cannot write the cache {place}: ") as caught:
            machine.write(place, machine.record("one"))
    assert "\n" not in str(caught.value) and "login" in (caught.value.hint or "")
