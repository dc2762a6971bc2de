"""A real registry: Debian's docker-registry, filled by skopeo."""

from __future__ import annotations

import base64
import http.client
import io
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import Unauthorized, Unreachable
from pybuild.remote.registry.config import RegistrySettings
from pybuild.remote.registry.credentials import Credentials
from pybuild.store.errors import DigestMismatch, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from tests.support.archive import read_archive
from tests.support.fake_registry import FakeRegistry, Setup, index, plain
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pybuild.remote.registry.documents import FetchedManifest
    from tests.support.fake_registry import Handler, Route

USER, PASSWORD = "me", "pass: wörd"


@pytest.fixture(scope="module", params=["plain", "password", "tls", "tls and password"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base_archive: Path
) -> Iterator[DockerRegistry]:
    login = (USER, PASSWORD) if "password" in request.param else None
    with docker_registry(tmp_path_factory.mktemp("registry"), tls="tls" in request.param, login=login) as found:
        found.push(base_archive, "team/base:1")
        yield found


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        found.push(base_archive, "team/base:1")
        yield found


def entitled(registry: DockerRegistry, directory: Path) -> Setup:
    """A client with the registry's authority and password, if it has them."""
    path = directory / "config.json"
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path.write_text(json.dumps({"auths": {registry.host: {"auth": auth}} if registry.login else {}}))
    authorities = () if registry.authority is None else (str(registry.authority),)
    settings = RegistrySettings(ca_files=authorities)
    return Setup({registry.host: settings}, credentials=Credentials({"DOCKER_CONFIG": str(directory)}))


def reference(registry: DockerRegistry, rest: str = "team/base:1") -> Reference:
    return Reference.parse(f"{registry.host}/{rest}")


def manifest_of(fetched: FetchedManifest) -> Manifest:
    return Manifest.from_bytes(fetched.data, fetched.descriptor.media_type)


def test_an_image_is_read_as_it_was_pushed(registry: DockerRegistry, tmp_path: Path, base_archive: Path) -> None:
    with entitled(registry, tmp_path).client() as client:
        name = reference(registry)
        fetched = client.manifest(name, Platform.host())
        manifest = manifest_of(fetched)
        check_image(manifest, ImageConfig.from_bytes(client.config(name, manifest.config)))
        for layer in manifest.layers:
            with io.BytesIO() as file:
                client.blob(name, layer, file)
                assert Digest.of(file.getvalue()) == layer.digest
    assert str(fetched.descriptor.digest) == read_archive(base_archive).digest


def test_an_image_by_digest_is_the_same(registry: DockerRegistry, tmp_path: Path, base_archive: Path) -> None:
    digest = read_archive(base_archive).digest
    with entitled(registry, tmp_path).client() as client:
        fetched = client.manifest(reference(registry, f"team/base@{digest}"), Platform.host())
    assert str(fetched.descriptor.digest) == digest


def test_a_missing_image_is_named(registry: DockerRegistry, tmp_path: Path) -> None:
    with entitled(registry, tmp_path).client() as client:
        for rest in ("team/base:2", "team/none:1", f"team/base@{Digest.of(b'')}"):
            with pytest.raises(NotFound, match=f"{registry.host}/team/(base|none): there is no manifest"):
                client.manifest(reference(registry, rest), Platform.host())


def test_a_missing_password_or_authority_is_an_error(registry: DockerRegistry) -> None:
    setup = Setup()
    if registry.authority is None and registry.login is None:
        with setup.client() as client:
            client.manifest(reference(registry), Platform.host())
        return
    kind, text = (Unauthorized, "access denied") if registry.authority is None else (Unreachable, "is not trusted")
    with setup.client() as client, pytest.raises(kind, match=text) as caught:
        client.manifest(reference(registry), Platform.host())
    assert caught.value.hint


def test_credentials_of_skopeo_login_are_read(tmp_path: Path, base_archive: Path) -> None:
    with docker_registry(tmp_path / "registry", login=(USER, PASSWORD)) as registry:
        registry.push(base_archive, "team/base:1")
        path = tmp_path / "auth.json"
        command = [
            "skopeo",
            "login",
            "--tls-verify=false",
            "--authfile",
            str(path),
            "-u",
            USER,
            "--password-stdin",
            registry.host,
        ]
        subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True)
        setup = Setup(credentials=Credentials({"REGISTRY_AUTH_FILE": str(path)}))
        with setup.client() as client:
            assert client.manifest(reference(registry), Platform.host()).descriptor.size


@pytest.mark.parametrize("form", ["v2s2", "oci"])
def test_both_kinds_of_manifest_are_read(open_registry: DockerRegistry, base_archive: Path, form: str) -> None:
    open_registry.push(base_archive, f"team/{form}:1", "--format", form)
    with Setup().client() as client:
        fetched = client.manifest(reference(open_registry, f"team/{form}:1"), Platform.host())
        manifest = manifest_of(fetched)
        assert client.config(reference(open_registry, f"team/{form}:1"), manifest.config)
    expected = MediaType.DOCKER_MANIFEST if form == "v2s2" else MediaType.OCI_MANIFEST
    assert fetched.descriptor.media_type == manifest.media_type == expected


def put_manifest(registry: DockerRegistry, path: str, data: bytes, media_type: str) -> None:
    connection = http.client.HTTPConnection(registry.host)
    connection.request("PUT", f"/v2/{path}", data, {"Content-Type": media_type})
    assert connection.getresponse().status == 201
    connection.close()


def test_the_manifest_for_this_machine_is_selected_from_an_index(open_registry: DockerRegistry, base_archive: Path) -> None:
    open_registry.push(base_archive, "team/many:base")
    with Setup().client() as client:
        base = client.manifest(reference(open_registry, "team/many:base"), Platform.host()).descriptor
        other = {**base.to_json(), "platform": {"os": "plan9", "architecture": "mips"}}
        host = Platform.host()
        ours = Descriptor(base.media_type, base.digest, base.size, platform=host).to_json()
        put_manifest(open_registry, "team/many/manifests/1", index(other, ours), MediaType.OCI_INDEX)
        name = reference(open_registry, "team/many:1")
        assert client.manifest(name, host).descriptor == base
        with pytest.raises(NotFound, match="no manifest for linux/s390x") as caught:
            client.manifest(name, Platform("linux", "s390x"))
    assert caught.value.hint == f"its platforms are: {host}, plan9/mips"


def test_a_wrong_size_in_a_descriptor_is_an_error(open_registry: DockerRegistry) -> None:
    name = reference(open_registry)
    with Setup().client() as client:
        layer = manifest_of(client.manifest(name, Platform.host())).layers[0]
        for size in (layer.size - 1, layer.size + 1):
            wrong = Descriptor(layer.media_type, layer.digest, size)
            with pytest.raises(DigestMismatch, match=f"{layer.size} bytes instead of {size}"):
                client.blob(name, wrong, io.BytesIO())


def cut(registry: DockerRegistry, at: int) -> Route:
    """Forward a request to the registry, and break the connection after `at` bytes of the body."""

    def route(handler: Handler) -> None:
        connection = http.client.HTTPConnection(registry.host)
        connection.request("GET", handler.path, headers={k: v for k, v in handler.headers.items() if k != "Host"})
        answer = connection.getresponse()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            handler.send_header(name, value)
        handler.end_headers()
        handler.send(answer.read(at))
        if answer.length:
            handler.cut()
        connection.close()

    return route


def test_a_real_registry_resumes_a_download(open_registry: DockerRegistry, fake: FakeRegistry) -> None:
    name = reference(open_registry)
    setup = plain(fake)
    with setup.client() as client:
        layer = manifest_of(client.manifest(name, Platform.host())).layers[0]
        path = f"/v2/team/base/blobs/{layer.digest}"
        fake.on(path, cut(open_registry, 100_000), cut(open_registry, 200_000), cut(open_registry, layer.size))
        with io.BytesIO() as file:
            client.blob(reference_at(fake), layer, file)
            assert Digest.of(file.getvalue()) == layer.digest
    first, second, third = (seen.headers.get("range", "bytes=0-") for seen in fake.asked(path))
    assert first == "bytes=0-"
    assert 0 < int(second[6:-1]) < int(third[6:-1]) <= 300_000


def reference_at(fake: FakeRegistry) -> Reference:
    return Reference.parse(f"{fake.host}/team/base:1")
