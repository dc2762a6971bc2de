"""What can be at the place of a cache, and the one note about everything that is not a cache."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from pybuild.builder.cache_places import LocalCache
from pybuild.builder.caches import find
from pybuild.builder.caches.layout import tagged_manifest
from pybuild.store.formats.cache_image import KIND_ANNOTATION, CacheImage, cache_image
from pybuild.store.formats.cache_index import BUILDKIT_CONFIG, BUILDKIT_MEMBER, CacheIndex
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.platform import Platform
from pybuild.values import limits
from tests.support.caches import LINUX, CacheMachine, cache_machine, in_registry
from tests.support.fake_registry import FakeRegistry, fake_registry, redirect, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pybuild.store.importing.members import DirectoryMembers

ARM = Platform("linux", "arm64")
TAG = {"org.opencontainers.image.ref.name": "latest"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheMachine]:
    found = cache_machine(tmp_path_factory.mktemp("m") / "machine")
    with found.store, found.pool:
        yield found


@dataclass
class Content:
    """An image as documents, of which a test spoils one. The root is the last of them."""

    documents: list[tuple[str, bytes]]  # media type, bytes

    @staticmethod
    def of(image: CacheImage) -> Content:
        return Content([(MediaType.OCI_CONFIG, image.config), (MediaType.OCI_MANIFEST, image.manifest)])

    def with_config(self, **members: object) -> Content:
        """The image with other members of its config (None: without it)."""
        config = {**json.loads(self.documents[0][1]), **members}
        data = json.dumps({name: value for name, value in config.items() if value is not None}).encode()
        return self.with_documents(data)

    def with_documents(
        self, config: bytes, kind: str = MediaType.OCI_CONFIG, size: int = -1, **manifest: object
    ) -> Content:
        """The image with another config, which has this size by its descriptor, and other members of its manifest."""
        descriptor = Descriptor(kind, Digest.of(config), len(config) if size < 0 else size).to_json()
        data = json.dumps({**json.loads(self.documents[1][1]), "config": descriptor, **manifest}).encode()
        return Content([(kind, config), (MediaType.OCI_MANIFEST, data)])

    def indexed(self, *others: dict[str, Any], platform: Platform = LINUX) -> Content:
        """An index that names the image and something else."""
        kind, data = self.documents[-1]
        entry = Descriptor(kind, Digest.of(data), len(data), platform=platform).to_json()
        index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": [entry, *others]}
        return Content([*self.documents, (MediaType.OCI_INDEX, json.dumps(index).encode())])

    @property
    def root(self) -> Descriptor:
        kind, data = self.documents[-1]
        return Descriptor(kind, Digest.of(data), len(data))

    def serve(self, fake: FakeRegistry) -> None:
        for kind, data in self.documents:
            answer = reply(data, headers={"Content-Type": kind})
            fake.on(f"/v2/team/cache/manifests/{Digest.of(data)}", answer)
            fake.on(f"/v2/team/cache/blobs/{Digest.of(data)}", answer)
        fake.on("/v2/team/cache/manifests/main", reply(data, headers={"Content-Type": kind}))

    def write(self, directory: Path, **annotations: str) -> None:
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for _, data in self.documents:
            (blobs / Digest.of(data).hex).write_bytes(data)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = replace(self.root, annotations=annotations or TAG).to_json()
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def packed(data: object) -> str:
    return base64.b64encode(zstandard.compress(json.dumps(data).encode())).decode()


LAYERS = [Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(b"l"), 1).to_json()]
BUILDKIT_INDEX = [*LAYERS, Descriptor(BUILDKIT_CONFIG, Digest.of(b"c"), 1).to_json()]
BUILDKIT = "is not used as a cache: it is a cache of BuildKit, which has another form; give pybuild a name of its own for its cache"
DAMAGED = "the cache PLACE is damaged and not used: "

FORMS: list[tuple[str, Callable[[Content], Content], str]] = [
    ("an image", lambda it: it.with_config(**{CACHE_MEMBER: None}), "PLACE is not used as a cache: it is an image without a cache"),
    ("BuildKit's manifest", lambda it: it.with_documents(b"{}", BUILDKIT_CONFIG), f"PLACE {BUILDKIT}"),
    (
        "BuildKit's index",
        lambda it: Content(
            [(MediaType.OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": BUILDKIT_INDEX}).encode())]
        ),
        f"PLACE {BUILDKIT}",
    ),
    (
        "BuildKit's index without its config",
        lambda it: Content([(MediaType.OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": LAYERS}).encode())]),
        f"PLACE {BUILDKIT}",
    ),
    (
        "BuildKit's inline cache",
        lambda it: it.with_config(**{CACHE_MEMBER: None, BUILDKIT_MEMBER: "bGF5ZXJz"}),
        "PLACE is not used as a cache: it is an image with an inline cache of BuildKit, which has another form",
    ),
    (
        "a chart of helm",
        lambda it: it.with_documents(b"{}", "application/vnd.cncf.helm.config.v1+json"),
        "PLACE is not used as a cache: it is not an image",
    ),
    (
        "an image of another platform",
        lambda it: it.indexed(platform=ARM),
        "PLACE is not used as a cache: it has no image for linux/amd64",
    ),
    (
        "another version",
        lambda it: it.with_config(**{CACHE_MEMBER: packed({"version": 2})}),
        "PLACE is not used as a cache: cache index: version 2 is not known; another version of pybuild wrote it",
    ),
    ("no base64", lambda it: it.with_config(**{CACHE_MEMBER: "!"}), DAMAGED + "cache index: it is not base64"),
    ("no text", lambda it: it.with_config(**{CACHE_MEMBER: 1}), DAMAGED + "config.pybuild.cache: expected a string"),
    (
        "a truncated index",
        lambda it: it.with_config(**{CACHE_MEMBER: json.loads(it.documents[0][1])[CACHE_MEMBER][:-24]}),
        DAMAGED + "cache index is not JSON: .*",
    ),
    ("no JSON", lambda it: it.with_documents(b"{"), DAMAGED + "config is not JSON: .*"),
    ("layers without digests", lambda it: it.with_config(rootfs={}), DAMAGED + "the manifest has 1 layers, the config 0"),
    ("a manifest that is none", lambda it: it.with_documents(b"{}", layers=3), DAMAGED + "manifest.layers: expected a list"),
    (
        "a config of a terabyte",
        lambda it: it.with_documents(b"{}", size=1 << 40),
        DAMAGED + ".*1099511627776 bytes exceeds the limit of 8 MiB.*",
    ),
    (
        "a manifest of a terabyte",
        lambda it: Content(
            [
                (
                    MediaType.OCI_INDEX,
                    json.dumps({"schemaVersion": 2, "manifests": [{**it.root.to_json(), "size": 1 << 40}]}).encode(),
                )
            ]
        ),
        DAMAGED + "its manifest exceeds the limit of 4 MiB.*",
    ),
    (
        "a bomb",
        lambda it: it.with_config(
            **{CACHE_MEMBER: base64.b64encode(zstandard.compress(bytes((32 << 20) + 1))).decode()}
        ),
        DAMAGED + "cache index: it exceeds the limit of 32 MiB.*",
    ),
]  # fmt: skip


@pytest.fixture
def content(machine: CacheMachine) -> Content:
    return Content.of(cache_image(CacheIndex((machine.record("one"),)), LINUX))


def the_note(machine: CacheMachine, place: object, expected: str) -> None:
    (note,) = machine.notes()
    assert re.fullmatch(expected.replace("PLACE", re.escape(str(place))), note), note


@pytest.mark.parametrize(("spoil", "expected"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_what_is_not_a_cache_in_a_registry_is_one_note(
    machine: CacheMachine, content: Content, spoil: Callable[[Content], Content], expected: str
) -> None:
    with fake_registry() as fake:
        spoil(content).serve(fake)
        place = in_registry(fake.host)
        assert machine.read(place) is None
        the_note(machine, place, expected)


@pytest.mark.parametrize(("spoil", "expected"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_what_is_not_a_cache_in_a_directory_is_one_note(
    machine: CacheMachine, content: Content, tmp_path: Path, spoil: Callable[[Content], Content], expected: str
) -> None:
    spoil(content).write(tmp_path / "cache")
    place = LocalCache(str(tmp_path / "cache"))
    assert machine.read(place) is None
    the_note(machine, place, expected)


CARRIERS: list[tuple[str, Callable[[Content], Content], bool]] = [
    ("a cache", lambda it: it, True),
    ("an index of images", lambda it: it.indexed({**it.root.to_json(), "platform": {"os": "linux", "architecture": "arm64"}}), True),
    ("an image with an inline cache", lambda it: it.with_documents(it.documents[0][1], annotations={}), False),
]  # fmt: skip


@pytest.mark.parametrize(("carry", "only"), [one[1:] for one in CARRIERS], ids=[one[0] for one in CARRIERS])
def test_a_cache_is_read_wherever_it_is(
    machine: CacheMachine, content: Content, tmp_path: Path, carry: Callable[[Content], Content], only: bool
) -> None:
    carry(content).write(tmp_path / "cache")
    with fake_registry() as fake:
        carry(content).serve(fake)
        remote, local = machine.read(in_registry(fake.host)), machine.read(LocalCache(str(tmp_path / "cache")))
    assert machine.notes() == []
    assert remote is not None and local is not None
    assert remote.index == local.index and remote.is_only_cache is local.is_only_cache is only
    assert remote.config_digest == Digest.of(content.documents[0][1])


def test_reading_takes_two_requests_and_follows_redirects(machine: CacheMachine, content: Content) -> None:
    with fake_registry() as fake, fake_registry() as storage:
        content.serve(fake)
        path = f"/v2/team/cache/blobs/{Digest.of(content.documents[0][1])}"
        fake.on(path, redirect(f"{storage.url}/blob"))
        storage.on("/blob", reply(content.documents[0][1]))
        assert machine.read(in_registry(fake.host)) is not None
        assert [seen.path for seen in fake.seen if seen.path != "/v2/"] == ["/v2/team/cache/manifests/main", path]


def _unused_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def test_nothing_there_and_nobody_there(machine: CacheMachine) -> None:
    with fake_registry() as fake:
        place = in_registry(fake.host)
        assert machine.read(place) is None
        the_note(machine, place, "no cache at PLACE yet")
    nobody = in_registry(_unused_port())
    assert machine.read(nobody) is None
    the_note(machine, nobody, "the cache PLACE is not used: .*refused.*")


def _slow(handler: Any) -> None:
    handler.until_closed()


ANSWERS: list[tuple[str, dict[str, Any], str]] = [
    ("forbidden", {"main": reply(status=403)}, "the cache PLACE is not used: .*access to manifest main is forbidden.*"),
    ("unauthorized", {"main": reply(status=401)}, "the cache PLACE is not used: .*"),
    ("a server error", {"main": reply(status=501)}, "the cache PLACE is not used: .*status 501.*"),
    ("no config", {"config": reply(status=404)}, DAMAGED + ".*there is no blob sha256:.*"),
    ("another config", {"config": reply(b"x" * 10)}, "the cache PLACE is (damaged and )?not used: .*"),
    ("slow", {"main": _slow}, "the cache PLACE is not used: it was not read within 1 seconds; .*PYBUILD_LIMIT_CACHE_SECONDS.*"),
    ("slow config", {"config": _slow}, "the cache PLACE is not used: it was not read within 1 seconds; .*"),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "expected"), [one[1:] for one in ANSWERS], ids=[one[0] for one in ANSWERS])
def test_a_registry_that_does_not_answer_well(
    machine: CacheMachine, content: Content, answers: dict[str, Any], expected: str
) -> None:
    paths = {"main": "manifests/main", "config": f"blobs/{Digest.of(content.documents[0][1])}"}
    with fake_registry() as fake:
        content.serve(fake)
        for name, answer in answers.items():
            fake.on(f"/v2/team/cache/{paths[name]}", answer)
        slow = {"cache-seconds": 1} if "1 seconds" in expected else {}
        with limits.applied(slow):
            assert machine.read(in_registry(fake.host)) is None
        the_note(machine, in_registry(fake.host), expected)


def _link_to(path: str, target: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        os.rename(directory / path, directory.parent / "outside")
        os.symlink(target, directory / path)

    return change


def _fifo(path: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / path).unlink()
        os.mkfifo(directory / path)

    return change


def _config(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def found(directory: Path) -> None:
        blobs = (directory / "blobs" / "sha256").iterdir()
        change(next(path for path in blobs if b"rootfs" in path.read_bytes()))

    return found


def _index(**members: object) -> Callable[[Path], None]:
    return lambda directory: _rewrite(directory / "index.json", members)


def _rewrite(path: Path, members: dict[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def _empty(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _remove(directory: Path) -> None:
    _empty(directory)
    directory.rmdir()


def _file(directory: Path) -> None:
    _remove(directory)
    directory.write_text("")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


OTHER = Descriptor(MediaType.OCI_MANIFEST, Digest.of(b"other"), 5)
LAYOUTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("nothing", _remove, "no cache at PLACE yet"),
    ("an empty directory", _empty, "no cache at PLACE yet"),
    ("a file", _file, "PLACE is not used as a cache: it is not a directory"),
    ("another directory", lambda d: (d / "oci-layout").unlink(), "PLACE is not used as a cache: it is a directory with something else than an OCI layout"),
    ("no index yet", lambda d: (d / "index.json").unlink(), "no cache at PLACE yet"),
    ("no image", _index(manifests=[]), "no cache at PLACE yet"),
    ("another tag", _index(manifests=[{**OTHER.to_json(), "annotations": {"org.opencontainers.image.ref.name": "v2"}}]), "no cache at PLACE yet"),
    ("a newer layout", lambda d: _rewrite(d / "oci-layout", {"imageLayoutVersion": "2.0.0"}), DAMAGED + "oci-layout.imageLayoutVersion: expected 1.0.0"),
    ("a damaged index", lambda d: os.truncate(d / "index.json", 1), DAMAGED + "index is not JSON: .*"),
    ("a huge index", lambda d: os.truncate(d / "index.json", 1 << 40), DAMAGED + ".index.json. of 1099511627776 bytes exceeds the limit of 4 MiB.*"),
    ("an index that is a link", _link_to("index.json", "../outside"), DAMAGED + ".*.index.json. is a symbolic link or is behind one"),
    ("an index that is a fifo", _fifo("index.json"), DAMAGED + ".*.index.json. is not a regular file"),
    ("blobs behind a link", _link_to("blobs", "../outside"), DAMAGED + ".* is a symbolic link or is behind one"),
    ("no blobs", _link_to("blobs", "nowhere"), DAMAGED + ".* is a symbolic link or is behind one"),
    ("no config", _config(lambda path: path.unlink()), DAMAGED + "the archive has no blob sha256:.*"),
    ("a config that is a directory", _config(_directory), DAMAGED + ".* is not a regular file"),
    ("a truncated config", _config(lambda path: os.truncate(path, 10)), DAMAGED + "blob sha256:.*: the bytes do not match the digest"),
    ("a config that grew", _config(lambda path: os.truncate(path, 1 << 40)), DAMAGED + "blob sha256:.*: the bytes do not match the digest"),
    ("a config that is a link", _config(_endless), DAMAGED + ".* is a symbolic link or is behind one"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [one[1:] for one in LAYOUTS], ids=[one[0] for one in LAYOUTS])
def test_a_hostile_or_unfinished_directory_is_one_note(
    machine: CacheMachine, content: Content, tmp_path: Path, change: Callable[[Path], None], expected: str
) -> None:
    directory = tmp_path / "cache"
    content.write(directory)
    change(directory)
    place = LocalCache(str(directory))
    assert machine.read(place) is None
    the_note(machine, place, expected)


def test_a_tag_alone_is_preferred_and_a_single_image_needs_none(
    machine: CacheMachine, content: Content, tmp_path: Path
) -> None:
    content.write(tmp_path / "one", unrelated="x")
    assert machine.read(LocalCache(str(tmp_path / "one"), "main")) is not None
    content.write(tmp_path / "two")
    full = replace(OTHER, annotations={**TAG, "io.containerd.image.name": "docker.io/library/app:latest"})
    entry = json.loads((tmp_path / "two" / "index.json").read_text())["manifests"][0]
    _rewrite(tmp_path / "two" / "index.json", {"manifests": [full.to_json(), entry]})
    assert machine.read(LocalCache(str(tmp_path / "two"))) is not None
    assert machine.notes() == []


def test_an_annotation_marks_what_is_nothing_but_a_cache(content: Content) -> None:
    assert json.loads(content.documents[1][1])["annotations"] == {KIND_ANNOTATION: "application/vnd.pybuild.cache.v1"}


def test_a_cache_that_is_replaced_while_it_is_read(
    machine: CacheMachine, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content.write(tmp_path / "cache")
    newer = cache_image(CacheIndex((machine.record("newer"),)), LINUX)
    def replaced(members: DirectoryMembers, place: LocalCache) -> Descriptor | None:
        found = tagged_manifest(members, place)
        if (tmp_path / "cache" / "blobs" / "sha256" / content.root.digest.hex).exists():
            _empty(tmp_path / "cache")
            Content.of(newer).write(tmp_path / "cache")
        return found

    monkeypatch.setattr(find, "tagged_manifest", replaced)
    cache = machine.read(LocalCache(str(tmp_path / "cache")))
    assert cache is not None and cache.digest == newer.digest and machine.notes() == []
