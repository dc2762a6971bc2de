"""Registries that break, forget, refuse and redirect while a cache is written: the name means the old or the new cache."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.builder.errors import BuildError
from pybuild.store.formats.cache_image import cache_image
from pybuild.store.formats.cache_index import BUILDKIT_CONFIG, CacheIndex
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.reference import Reference
from pybuild.values import limits
from tests.support.caches import LINUX, CacheMachine, in_registry
from tests.support.fake_registry import fake_registry, reply
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.cache_places import RegistryCache
    from pybuild.store.formats.cache_index import CacheRecord
    from tests.support.fake_registry import Route, Seen

    Machines = Callable[[], CacheMachine]

remote = pytest.fixture(upload_registry)
REPOSITORY = "team/cache"


@pytest.fixture
def place(remote: UploadRegistry) -> RegistryCache:
    return in_registry(remote.host)


def digest_of(record: CacheRecord) -> Digest:
    assert record.layer is not None
    return record.layer.digest


def records(machine: CacheMachine, place: RegistryCache) -> tuple[CacheRecord, ...]:
    found = machine.read(place)
    assert found is not None, machine.notes()
    return found.index.records


def is_whole(remote: UploadRegistry) -> bool:
    """Whether every blob that the name needs is there."""
    data = remote.manifests.get(REPOSITORY, {}).get("main")
    if data is None:
        return True
    manifest = json.loads(data)
    wanted = {blob["digest"] for blob in (manifest["config"], *manifest["layers"])}
    return wanted <= set(remote.blobs[REPOSITORY])


@pytest.mark.parametrize("before", [False, True], ids=["first write", "merge"])
@pytest.mark.parametrize("when", ["lose", "lose_answer"])
def test_the_connection_dies_at_any_request(
    machines: Machines, remote: UploadRegistry, place: RegistryCache, when: str, before: bool
) -> None:
    other, machine = machines(), machines()
    old, new = (other.record("old"),) if before else (), (machine.record("a"), machine.record("b"))
    with limits.applied({"retries": 1}):
        for died in itertools.count():
            remote.blobs.clear()
            remote.manifests.clear()
            if before:
                other.write(place, *old)
            remote.seen.clear()
            setattr(remote, when, lambda _, at=died + 1: len(remote.seen) == at)
            try:
                machine.write(place, *new)
                break
            except BuildError as error:
                assert str(error).startswith(f"cannot write the cache {place}: ")
            finally:
                setattr(remote, when, lambda _: False)
            assert is_whole(remote)
            if before or remote.manifests.get(REPOSITORY):
                assert records(other, place) in (old, (*old, *new))
            machine.write(place, *new)
            assert records(other, place) == (*old, *new) and is_whole(remote)
    assert records(other, place) == (*old, *new)
    assert died >= 7


def test_layers_that_the_old_cache_lists_are_not_asked_for(
    machines: Machines, remote: UploadRegistry, place: RegistryCache
) -> None:
    one, two = machines(), machines()
    one.write(place, *(one.record(f"r{number}") for number in range(50)))
    remote.seen.clear()
    two.write(place, two.record("new"))
    asked = [seen.method for seen in remote.requests()]
    # Manifest and config are read; the new layer is asked for and sent, the new config is sent; the manifest is written.
    assert asked == ["GET", "GET", "HEAD", "POST", "PUT", "POST", "PUT", "PUT"]


def test_layers_of_an_image_that_was_just_pushed_there_are_not_asked_for(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    pushed, forgotten = machine.record("pushed"), machine.record("forgotten")
    digests = [digest_of(pushed), digest_of(forgotten)]
    machine.store.places.add(digests, Reference.parse(f"{remote.host}/{REPOSITORY}:app"), 1)
    remote.blobs[REPOSITORY] = {str(digests[0]): machine.blobs[digests[0]].read_bytes()}
    machine.write(place, pushed)
    assert [seen.method for seen in remote.requests()] == ["GET", "POST", "PUT", "PUT"]
    assert machine.write(place, forgotten).sent == 100  # the registry refuses the manifest, and is asked for all
    assert records(machine, place) == (pushed, forgotten) and is_whole(remote)


def test_writing_the_same_again_is_two_requests(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    one = machine.record("one")
    machine.write(place, one)
    remote.seen.clear()
    machine.write(place, one)
    assert [seen.method for seen in remote.requests()] == ["GET", "GET"]


def test_what_garbage_collection_removed_is_sent_again_or_left_out(
    machines: Machines, remote: UploadRegistry, place: RegistryCache
) -> None:
    one, two = machines(), machines()
    lost, ours = one.record("lost"), two.record("ours")
    above = one.record("above", lost)
    one.write(place, lost, above, one.record("ours"), one.record("stays"))
    for record in (lost, ours):
        del remote.blobs[REPOSITORY][str(digest_of(record))]
    remote.seen.clear()
    written = two.write(place, two.record("new"))
    assert two.notes() == [f"2 records of the cache {place} left out: their layers cannot be had any more"]
    assert [one.step.instruction for one in records(two, place)] == ["RUN ours", "RUN stays", "RUN new"]
    assert is_whole(remote)
    assert (written.sent, written.spared) == (200, 100)
    heads = [seen.path for seen in remote.requests("HEAD")]
    assert len(heads) <= 1 + 6  # for the new layer; once for all


def test_a_layer_of_another_repository_is_mounted(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    image = machine.record("image")
    digest = digest_of(image)
    remote.blobs["team/app"] = {str(digest): machine.blobs.pop(digest).read_bytes()}
    machine.store.places.add([digest], Reference.parse(f"{remote.host}/team/app:1"), 1)
    written = machine.write(place, image)
    assert is_whole(remote) and (written.sent, written.spared) == (0, 100)
    assert [seen for seen in remote.requests("POST") if "mount=" in seen.query]


def test_a_layer_of_another_registry_is_passed_on(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    there, nowhere = machine.record("there"), machine.record("nowhere")
    with fake_registry() as other:
        for record in (there, nowhere):
            machine.store.places.add([digest_of(record)], Reference.parse(f"{other.host}/team/app:1"), 1)
        other.on(f"/v2/team/app/blobs/{digest_of(there)}", reply(machine.blobs.pop(digest_of(there)).read_bytes()))
        del machine.blobs[digest_of(nowhere)]
        machine.write(place, there, nowhere)
    assert machine.notes() == [f"1 record of the cache {place} left out: their layers cannot be had any more"]
    assert records(machine, place) == (there,) and is_whole(remote)


def test_what_a_repository_has_is_known_afterwards(machine: CacheMachine, place: RegistryCache) -> None:
    one = machine.record("one")
    machine.write(place, one)
    (known,) = machine.store.places.of(digest_of(one))
    assert (known.domain, known.path) == (place.name.domain, place.name.path)


def test_a_busy_registry_is_asked_again(machine: CacheMachine, remote: UploadRegistry, place: RegistryCache) -> None:
    asked = set()

    def intercept(seen: Seen) -> Route | None:
        what = seen.method, seen.path.rpartition("/")[0], "uploads" in seen.path or seen.path
        if seen.path == "/v2/" or what in asked:
            return None
        asked.add(what)
        return reply(b"", 429, {"Retry-After": "0"})

    remote.intercept = intercept
    one = machine.record("one")
    machine.write(place, one)
    assert records(machine, place) == (one,)
    assert {method for method, *_ in asked} == {"GET", "HEAD", "POST", "PUT"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_writer_without_rights_gets_one_error(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache, status: int
) -> None:
    def intercept(seen: Seen) -> Route | None:
        return reply(b"", status) if seen.method in ("POST", "PUT") else None

    remote.intercept = intercept
    with pytest.raises(BuildError, match=f"^cannot write the cache {place}: ") as caught:
        machine.write(place, machine.record("one"))
    assert "\n" not in str(caught.value) and is_whole(remote)
    assert len(remote.requests("POST")) == 1


def test_a_manifest_that_is_refused_for_another_reason(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    one = machine.record("one")
    machine.write(place, one)
    remote.intercept = lambda seen: reply(status=400) if "/manifests/" in seen.path and seen.method == "PUT" else None
    with pytest.raises(BuildError, match="status 400"):
        machine.write(place, machine.record("two"))
    remote.intercept = lambda _: None
    assert records(machine, place) == (one,)


def put(remote: UploadRegistry, config: bytes, kind: str = MediaType.OCI_CONFIG, **members: Any) -> None:
    """Give the name another meaning."""
    described = Descriptor(kind, Digest.of(config), len(config)).to_json()
    manifest = {"schemaVersion": 2, "mediaType": MediaType.OCI_MANIFEST, "config": described, "layers": [], **members}
    remote.blobs.setdefault(REPOSITORY, {})[str(Digest.of(config))] = config
    remote.manifests.setdefault(REPOSITORY, {})["main"] = json.dumps(manifest).encode()


IMAGE = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
INLINE = cache_image(CacheIndex(), LINUX).config
KEPT: list[tuple[str, bytes, str, str]] = [
    ("an image", IMAGE, MediaType.OCI_CONFIG, "what has this name is not replaced: it is an image without a cache"),
    ("an inline cache", INLINE, MediaType.OCI_CONFIG, "an image has this name, and is not replaced by a cache"),
    ("BuildKit's cache", b"{}", BUILDKIT_CONFIG, "what has this name is not replaced: it is a cache of BuildKit.*"),
    ("a damaged image", b"{", MediaType.OCI_CONFIG, "what has this name is not replaced: config is not JSON.*"),
    ("an artifact", b"{}", "application/vnd.example+json", "what has this name is not replaced: it is not an image"),
]


@pytest.mark.parametrize(("config", "kind", "expected"), [one[1:] for one in KEPT], ids=[one[0] for one in KEPT])
def test_what_is_not_a_cache_is_never_replaced(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache, config: bytes, kind: str, expected: str
) -> None:
    put(remote, config, kind)
    before = remote.manifests[REPOSITORY]["main"]
    with pytest.raises(BuildError, match=f"^cannot write the cache {place}: {expected}$") as caught:
        machine.write(place, machine.record("one"))
    assert caught.value.hint
    assert remote.manifests[REPOSITORY]["main"] == before
    assert not remote.requests("POST", "PUT", "PATCH")


def test_a_damaged_cache_is_made_anew(machine: CacheMachine, remote: UploadRegistry, place: RegistryCache) -> None:
    damaged = json.dumps({**json.loads(INLINE), CACHE_MEMBER: "!"}).encode()
    put(remote, damaged, annotations={"pybuild.artifact-type": "application/vnd.pybuild.cache.v1"})
    one = machine.record("one")
    machine.write(place, one)
    assert machine.notes() == [f"the cache {place} is damaged and made anew: cache index: it is not base64"]
    assert records(machine, place) == (one,)


def test_a_cache_of_another_version_is_not_replaced(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    machine.write(place, machine.record("one"))
    remote.intercept = lambda _: None
    newer = json.loads(remote.manifests[REPOSITORY]["main"])
    config = json.loads(remote.blobs[REPOSITORY][newer["config"]["digest"]])
    from tests.builder.caches.test_read import packed

    config[CACHE_MEMBER] = packed({"version": 2})
    put(remote, json.dumps(config).encode(), layers=newer["layers"], annotations=newer["annotations"])
    with pytest.raises(BuildError, match="version 2 is not known"):
        machine.write(place, machine.record("two"))


def test_of_two_writers_at_once_the_last_one_wins(
    machines: Machines, remote: UploadRegistry, place: RegistryCache
) -> None:
    one, two = machines(), machines()
    first, second = one.record("first"), two.record("second")
    one.write(in_registry(remote.host, f"{REPOSITORY}:saved"), first)

    def other_writer(seen: Seen) -> Route | None:
        if seen.method == "PUT" and seen.path.endswith("/manifests/main"):
            tags = remote.manifests[REPOSITORY]
            tags["main"] = tags["saved"]
        return None

    remote.intercept = other_writer
    two.write(place, second)
    assert records(one, place) == (second,) and is_whole(remote)


def test_an_unreachable_registry_is_one_error(machine: CacheMachine) -> None:
    with fake_registry() as fake:
        place = in_registry(fake.host)
    with pytest.raises(BuildError, match=f"^cannot write the cache {place}: .*refused"):
        machine.write(place, machine.record("one"))


def test_many_small_layers_are_sent_side_by_side(
    machine: CacheMachine, remote: UploadRegistry, place: RegistryCache
) -> None:
    many = tuple(machine.record(f"r{number}") for number in range(70))
    assert machine.write(place, *many).sent == 7000
    assert records(machine, place) == many and is_whole(remote)
    assert len(remote.requests("POST")) == 71  # each once
