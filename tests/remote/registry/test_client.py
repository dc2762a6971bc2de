"""Manifests: from a name to the image for one platform, with right and hostile responses."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import RemoteError, Unreachable
from pybuild.remote.registry.config import RegistrySettings
from pybuild.remote.registry.documents import FetchedManifest
from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.values.errors import PybuildError
from tests.support.fake_registry import LINUX, FakeRegistry, Image, Setup, index, plain, redirect, reply

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.fake_registry import Handler, Route

ARM = Platform("linux", "arm64")


@pytest.fixture
def image() -> Image:
    return Image()


def fetch(fake: FakeRegistry, image: Image, tag: str = "1", platform: Platform = LINUX, **options: object) -> FetchedManifest:
    with plain(fake, **options).client() as client:
        return client.manifest(image.reference(fake, tag), platform)


def typed(data: bytes, media_type: str, **headers: str) -> Route:
    return reply(data, headers={"Content-Type": media_type, **headers})


@pytest.mark.parametrize("media_type", [MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST])
def test_a_manifest_is_found_by_its_tag(fake: FakeRegistry, media_type: str) -> None:
    image = Image(media_type=media_type)
    image.serve(fake)
    fetched = fetch(fake, image)
    assert fetched.data == image.manifest
    assert fetched.descriptor == Descriptor(media_type, Digest.of(image.manifest), len(image.manifest))
    (seen,) = fake.asked(image.path("manifests", "1"))
    for known in (MediaType.OCI_MANIFEST, MediaType.OCI_INDEX, MediaType.DOCKER_MANIFEST, MediaType.DOCKER_INDEX):
        assert known in seen.headers["accept"]
    assert seen.headers["user-agent"] == "pybuild"
    assert seen.headers["accept-encoding"] == "identity"


def test_the_default_tag_is_latest(fake: FakeRegistry, image: Image) -> None:
    image.serve(fake, "latest")
    with plain(fake).client() as client:
        assert client.manifest(Reference.parse(f"{fake.host}/team/app"), LINUX).data == image.manifest


def test_of_digest_and_tag_the_digest_decides(fake: FakeRegistry, image: Image) -> None:
    image.serve(fake)
    name = f"{fake.host}/team/app:nonsense@{image.descriptor.digest}"
    with plain(fake).client() as client:
        assert client.manifest(Reference.parse(name), LINUX).data == image.manifest


def test_the_config_is_read_into_memory(fake: FakeRegistry, image: Image) -> None:
    image.serve(fake)
    with plain(fake).client() as client:
        reference = image.reference(fake)
        fetched = client.manifest(reference, LINUX)
        assert client.config(reference, Manifest.from_bytes(fetched.data).config) == image.config


def test_a_config_larger_than_the_limit_is_not_requested(fake: FakeRegistry, image: Image) -> None:
    descriptor = Descriptor(MediaType.OCI_CONFIG, Digest.of(b""), (8 << 20) + 1)
    with plain(fake).client() as client, pytest.raises(InvalidImage, match="exceeds the limit of 8 MiB"):
        client.config(image.reference(fake), descriptor)
    assert fake.seen == []


# -- indexes


@pytest.mark.parametrize("media_type", [MediaType.OCI_INDEX, MediaType.DOCKER_INDEX])
def test_the_manifest_for_the_platform_is_selected_from_an_index(fake: FakeRegistry, image: Image, media_type: str) -> None:
    other = Image(b"other")
    image.serve(fake)
    other.serve(fake)
    arm = {**other.descriptor.to_json(), "platform": {"os": "linux", "architecture": "arm64"}}
    fake.on(
        image.path("manifests", "many"),
        typed(index(arm, image.descriptor.to_json(), media_type=media_type), media_type),
    )
    assert fetch(fake, image, "many").data == image.manifest
    assert fetch(fake, image, "many", ARM).data == other.manifest


def test_an_index_in_an_index_is_followed(fake: FakeRegistry, image: Image) -> None:
    image.serve(fake)
    inner = index(image.descriptor.to_json())
    fake.on(image.path("manifests", Digest.of(inner)), typed(inner, MediaType.OCI_INDEX))
    outer = index(Descriptor(MediaType.OCI_INDEX, Digest.of(inner), len(inner)).to_json())
    fake.on(image.path("manifests", "nested"), typed(outer, MediaType.OCI_INDEX))
    assert fetch(fake, image, "nested").data == image.manifest


def test_indexes_nested_too_deep_are_refused(fake: FakeRegistry, image: Image) -> None:
    data = index(image.descriptor.to_json())
    for _ in range(5):
        fake.on(image.path("manifests", Digest.of(data)), typed(data, MediaType.OCI_INDEX))
        data = index(Descriptor(MediaType.OCI_INDEX, Digest.of(data), len(data)).to_json())
    fake.on(image.path("manifests", "deep"), typed(data, MediaType.OCI_INDEX))
    with pytest.raises(InvalidImage, match="nested deeper than the limit of 4"):
        fetch(fake, image, "deep")


def test_an_index_that_names_itself_is_refused(fake: FakeRegistry, image: Image) -> None:
    """An index cannot contain its own digest, so it names another one, for which the registry sends the same index."""
    claimed = Descriptor(MediaType.OCI_INDEX, Digest.of(b"x"), 100).to_json()
    data = index({**claimed, "size": len(index(claimed))})
    for name in ("cycle", Digest.of(b"x")):
        fake.on(image.path("manifests", name), typed(data, MediaType.OCI_INDEX))
    with pytest.raises(DigestMismatch, match="expected sha256:2d711642b726"):
        fetch(fake, image, "cycle")


def test_an_index_without_the_platform_lists_its_platforms(fake: FakeRegistry, image: Image) -> None:
    fake.on(image.path("manifests", "1"), typed(index(image.descriptor.to_json()), MediaType.OCI_INDEX))
    with pytest.raises(NotFound, match=f"{fake.host}/team/app:1: .* no manifest for linux/arm64") as caught:
        fetch(fake, image, platform=ARM)
    assert caught.value.hint == "its platforms are: linux/amd64"


def changed(image: Image, **fields: object) -> Mapping[str, object]:
    return {**image.descriptor.to_json(), **fields}


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"size": 5}, DigestMismatch, "its descriptor says 5"),
        ({"size": 5 << 20}, InvalidImage, "exceed the limit of 4 MiB"),
        ({"size": -1}, InvalidImage, "size: expected an integer"),
        ({"digest": "sha256:../../../etc/passwd"}, InvalidImage, "invalid digest"),
        ({"digest": str(Digest.of(b""))}, NotFound, "there is no manifest sha256:e3b0c44"),
        ({"mediaType": MediaType.DOCKER_MANIFEST}, InvalidImage, "its descriptor says"),
    ],
    ids=["size", "large", "negative", "path", "digest", "type"],
)
def test_a_manifest_must_match_its_descriptor_in_the_index(
    fake: FakeRegistry, image: Image, fields: dict[str, object], kind: type[PybuildError], text: str
) -> None:
    image.serve(fake)
    fake.on(image.path("manifests", "many"), typed(index(changed(image, **fields)), MediaType.OCI_INDEX))
    with pytest.raises(kind, match=text):
        fetch(fake, image, "many")


# -- invalid manifests

GOOD = Image()
SCHEMA_1 = b'{"schemaVersion":1,"name":"team/app","tag":"1","architecture":"amd64","fsLayers":[],"history":[]}'
OCI, INDEX = MediaType.OCI_MANIFEST, MediaType.OCI_INDEX
BOTH = json.dumps({**json.loads(GOOD.manifest), "manifests": []}).encode()
FOREIGN = Image(
    layer_fields={
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "urls": ["http://169.254.169.254/"],
    }
)


@pytest.mark.parametrize(
    ("route", "kind", "text"),
    [
        (typed(SCHEMA_1, "application/vnd.docker.distribution.manifest.v1+prettyjws"), InvalidImage, "schema 1"),
        (typed(SCHEMA_1, "application/json"), InvalidImage, "schema 1"),
        (typed(b"<html>", "text/html"), InvalidImage, "unexpected Content-Type 'text/html'"),
        (typed(b"{", OCI), InvalidImage, "not JSON"),
        (typed(b"[" * 100_000, "application/json"), InvalidImage, "nested deeper"),
        (typed(GOOD.manifest, INDEX), InvalidImage, "unexpected media type"),
        (typed(GOOD.manifest, MediaType.DOCKER_MANIFEST), InvalidImage, "its media type is"),
        (typed(BOTH, OCI), InvalidImage, "also valid as an index"),
        (typed(FOREIGN.manifest, OCI), InvalidImage, "non-distributable"),
        (typed(b" " * ((4 << 20) + 1), OCI), RemoteError, "a manifest of more than 4 MiB"),
        (typed(GOOD.manifest, OCI, **{"Docker-Content-Digest": str(Digest.of(b""))}), DigestMismatch, "by its Docker-"),
        (typed(GOOD.manifest, OCI, **{"Docker-Content-Digest": "../../x"}), RemoteError, "is not a digest"),
        (typed(GOOD.manifest, OCI, **{"Content-Encoding": "gzip"}), RemoteError, "unexpected Content-Encoding"),
        (reply(GOOD.manifest, length=9999, headers={"Content-Type": OCI}), Unreachable, "the connection broke"),
        (reply(status=404), NotFound, "there is no manifest 1"),
        (reply(status=418), RemoteError, "status 418"),
        (reply(status=304), RemoteError, "status 304"),
    ],
    ids=[
        "schema 1", "schema 1, general type", "html", "no json", "deep", "index by header", "docker by header", "both", "foreign",
        "huge", "header lies", "header no digest", "gzip", "short", "missing", "teapot", "not modified",
    ],
)  # fmt: skip
def test_an_invalid_manifest_is_refused(
    fake: FakeRegistry, image: Image, route: Route, kind: type[PybuildError], text: str
) -> None:
    fake.on(image.path("manifests", "1"), route)
    with pytest.raises(kind, match=text) as caught:
        fetch(fake, image)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", ""])
def test_a_generic_content_type_is_allowed(fake: FakeRegistry, image: Image, content_type: str) -> None:
    fake.on(image.path("manifests", "1"), typed(image.manifest, content_type))
    assert fetch(fake, image).descriptor.media_type == MediaType.OCI_MANIFEST


def test_bytes_of_another_digest_are_refused(fake: FakeRegistry, image: Image) -> None:
    digest = Digest.of(b"something else")
    fake.on(image.path("manifests", digest), typed(image.manifest, MediaType.OCI_MANIFEST))
    with plain(fake).client() as client, pytest.raises(DigestMismatch, match=f"expected {digest}, got sha256:"):
        client.manifest(Reference.parse(f"{fake.host}/team/app@{digest}"), LINUX)


def test_urls_of_foreign_layers_are_not_fetched(
    fake: FakeRegistry, stranger: FakeRegistry, image: Image
) -> None:
    image.layer_fields = {"urls": [f"{stranger.url}/layer"]}
    image.serve(fake)
    with plain(fake).client() as client:
        manifest = Manifest.from_bytes(client.manifest(image.reference(fake), LINUX).data)
        fake.on(image.blob_path, reply(status=404))
        with pytest.raises(NotFound), io.BytesIO() as file:
            client.blob(image.reference(fake), manifest.layers[0], file)
    assert stranger.seen == []


def test_an_endless_manifest_is_cut_off_at_the_limit(fake: FakeRegistry, image: Image) -> None:
    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", MediaType.OCI_MANIFEST)
        handler.end_headers()
        while handler.send(b" " * 65536):
            pass
        handler.close_connection = True

    fake.on(image.path("manifests", "1"), route)
    with pytest.raises(RemoteError, match="a manifest of more than 4 MiB"):
        fetch(fake, image)


# -- mirrors


def mirrored(fake: FakeRegistry, *mirrors: str, hosts: tuple[FakeRegistry, ...]) -> Setup:
    registries = {host.host: RegistrySettings(plain_http=True) for host in hosts}
    registries[fake.host] = RegistrySettings(plain_http=True, mirrors=mirrors)
    return Setup(registries)


def test_a_mirror_is_asked_first_under_its_prefix(fake: FakeRegistry, stranger: FakeRegistry, image: Image) -> None:
    Image(repository="cache/hub/team/app").serve(stranger)
    setup = mirrored(fake, f"{stranger.host}/cache/hub", hosts=(stranger,))
    with setup.client() as client:
        assert client.manifest(image.reference(fake), LINUX).data == image.manifest
    assert fake.seen == []


@pytest.mark.parametrize(
    "route",
    [reply(status=404), reply(status=403), redirect("/"), typed(b"{", OCI), typed(b"x" * (5 << 20), OCI)],
    ids=["missing", "forbidden", "loop", "damaged", "huge"],
)
def test_a_mirror_that_fails_is_passed_over(
    fake: FakeRegistry, stranger: FakeRegistry, image: Image, route: Route
) -> None:
    image.serve(fake)
    stranger.on("/", route)
    stranger.on(image.path("manifests", "1"), route)
    with mirrored(fake, stranger.host, hosts=(stranger,)).client() as client:
        assert client.manifest(image.reference(fake), LINUX).data == image.manifest
    assert stranger.asked(image.path("manifests", "1"))


def test_a_wrong_blob_of_a_mirror_is_fetched_from_the_registry(
    fake: FakeRegistry, stranger: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    image.serve(fake)
    stranger.on(image.blob_path, reply(image.layer[::-1]))
    path = tmp_path / "blob"
    with mirrored(fake, stranger.host, hosts=(stranger,)).client() as client, open(path, "xb") as file:
        client.blob(image.reference(fake), image.blob, file)
    assert path.read_bytes() == image.layer


def test_if_all_fail_the_error_names_the_registry_and_the_hint_the_mirror(
    fake: FakeRegistry, stranger: FakeRegistry, image: Image
) -> None:
    setup = mirrored(fake, stranger.host, hosts=(stranger,))
    with setup.client() as client, pytest.raises(NotFound, match=f"{fake.host}/team/app: there is no") as caught:
        client.manifest(image.reference(fake), LINUX)
    assert f"the mirror failed: {stranger.host}/team/app" in str(caught.value.hint)


@pytest.mark.parametrize("down", [True, False], ids=["down", "busy"])
def test_a_mirror_that_is_down_is_asked_once(
    fake: FakeRegistry, stranger: FakeRegistry, image: Image, tmp_path: Path, down: bool
) -> None:
    image.serve(fake)
    stranger.on("/", reply(status=503))
    stranger.on(image.path("manifests", "1"), reply(status=503))
    mirror = "127.0.0.1:9" if down else stranger.host
    setup = mirrored(fake, mirror, hosts=(stranger,))
    setup.registries["127.0.0.1:9"] = RegistrySettings(plain_http=True)
    with setup.client() as client:
        client.manifest(image.reference(fake), LINUX)
        asked, waited = len(stranger.seen), len(setup.waits)
        for number in range(3):
            with open(tmp_path / str(number), "xb") as file:
                client.blob(image.reference(fake), image.blob, file)
        assert client.passed_over == (mirror,)
        (note,) = client.notes
    assert note.startswith(f"the mirror {mirror} is passed over: ")
    assert (len(stranger.seen), len(setup.waits)) == (asked, waited)
    assert waited <= 1
    setup.options["passed_over"] = (mirror,)
    with setup.client() as client:
        client.manifest(image.reference(fake), LINUX)
        assert client.notes == ()
    assert len(stranger.seen) == asked
