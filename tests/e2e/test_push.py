"""Pushing to a real registry: what skopeo reads there, and what a second push sends."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.store.formats.media_types import MediaType
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cli import Done
    from tests.support.people import Person

LOGIN = ("me", "secret")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("locked"), login=LOGIN) as found:
        yield found


def skopeo(*arguments: str | Path) -> bytes:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True).stdout


def fetched(name: str, directory: Path, *options: str) -> str:
    """The digest of an image in a registry, after skopeo has fetched and checked every blob of it."""
    skopeo("copy", "--quiet", "--src-tls-verify=false", *options, f"docker://{name}", f"oci:{directory}:x")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", *(option.replace("--src-", "--") for option in options), f"docker://{name}")
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def manifest_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    return found


def pushed(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("pushed ")]


def test_an_image_is_in_the_registry_as_in_the_store(registry: DockerRegistry, person: Person, tmp_path: Path) -> None:
    name = f"{registry.host}/p/u{re.sub('[^a-z0-9]', '', person.home.name.lower())}"
    context = person.context("c", f"FROM {BASE}\nCOPY file /\n", file="1\n")
    pybuild = person.pybuild()
    digest = pybuild("-t", name, context).out
    done = pybuild("push", name)
    assert done.out == digest
    assert fetched(name, tmp_path / "got") == digest.strip()
    assert "0 B sent" in pushed(pybuild("push", name))[0]
    pybuild("reset")
    assert pybuild("pull", name).out == digest


def test_all_names_of_a_build_are_pushed_at_once(registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\n", file="names\n")
    names = [f"{registry.host}/names/{rest}" for rest in ("a:1", "a:2", "a:latest", "b:1", "c:1")]
    done = pybuild(*(f"--tag={name}" for name in names), "--push", "--metadata-file", tmp_path / "m", context)
    assert [line.split()[1] for line in pushed(done)] == names
    for name in names:
        assert fetched(name, tmp_path / "got") == done.out.strip()
    found = json.loads((tmp_path / "m").read_text())
    assert found["containerimage.digest"] == found["containerimage.descriptor"]["digest"] == done.out.strip()
    assert found["image.name"] == ",".join(names)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_an_output_has_its_own_names_and_compression(
    registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path, compression: str
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\n", file="compression\n")
    one, other = (f"{registry.host}/compression/{compression}:{tag}" for tag in (1, 2))
    output = f'type=registry,"name={one},{other}",compression={compression},force-compression=true'
    metadata, iid = tmp_path / "m", tmp_path / "i"
    done = pybuild("-t", "app", "-o", output, "--metadata-file", metadata, "--iidfile", iid, context)
    assert fetched(one, tmp_path / "got") == fetched(other, tmp_path / "got") == done.out.strip()
    manifest = manifest_of(one)
    suffix = "" if compression == "uncompressed" else f"+{compression}"
    assert {layer["mediaType"] for layer in manifest["layers"]} == {MediaType.OCI_LAYER + suffix}
    found = json.loads(metadata.read_text())
    assert (found["containerimage.digest"], found["image.name"]) == (done.out.strip(), f"{one},{other}")
    assert iid.read_text() == found["containerimage.config.digest"] == manifest["config"]["digest"]


def test_docker_types_are_written_where_they_are_asked_for(
    registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\n", file="docker\n")
    name = f"{registry.host}/docker/types:1"
    pybuild("-t", "app", "-o", "type=oci,dest=/dev/null,compression=zstd", context)
    done = pybuild("export", "app", "-o", f"type=registry,name={name},oci-mediatypes=false")
    assert len(pushed(done)) == 1
    manifest = manifest_of(name)
    assert manifest["mediaType"] == MediaType.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == MediaType.DOCKER_CONFIG
    assert {layer["mediaType"] for layer in manifest["layers"]} == {MediaType.DOCKER_LAYER_GZIP}
    digest = fetched(name, tmp_path / "got")
    pybuild("reset")
    assert pybuild("pull", name).out.strip() == digest
    # What was pulled with docker's types keeps them, and its digest.
    again = f"{registry.host}/docker/again:1"
    assert pybuild("push", name, again).out.strip() == digest == fetched(again, tmp_path / "got")


def test_annotations_keep_the_types_of_oci(registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\n")
    name = f"{registry.host}/docker/annotated:1"
    done = pybuild("--annotation=a=b", "-o", f"type=registry,name={name},oci-mediatypes=false", context)
    assert "note: a manifest of docker's media type has no annotations" in done.err
    manifest = manifest_of(name)
    assert (manifest["mediaType"], manifest["annotations"]) == (MediaType.OCI_MANIFEST, {"a": "b"})


def test_only_what_the_registry_lacks_is_sent(registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/lacks/app"
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\n", file=os.urandom(3_000_000))
    pybuild("-t", f"{name}:1", "--push", context)
    write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\nCOPY more /\n", more=os.urandom(50_000))
    done = pybuild("-t", f"{name}:2", "--push", context)
    assert re.search(r"\(5\d\.\d kB sent, 4\.\d MB spared\)", pushed(done)[0]), done.err


def test_layers_of_another_repository_are_not_sent(registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    base = f"{registry.host}/mount/base:1"
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\n", file=os.urandom(3_000_000))
    pybuild("-t", "app", context)
    pybuild("push", "app", base)
    pybuild("rmi", "app")
    pybuild("pull", base)
    name = f"{registry.host}/mount/app:1"
    done = pybuild("-t", name, "--push", write_context(tmp_path / "d", f"FROM {base}\nLABEL a=b\n"))
    assert re.search(r"\(\d+ B sent, 4\.\d MB spared\)", pushed(done)[0]), done.err
    assert fetched(name, tmp_path / "got") == done.out.strip()


def test_the_newest_platform_is_pushed_unless_one_is_named(
    registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY Buildfile /\n")
    name = f"{registry.host}/platforms/app:1"
    digests = [pybuild("-t", name, f"--platform=linux/{one}", context).out for one in ("arm64", "s390x")]
    assert pybuild("push", name).out == digests[1]
    assert pybuild("push", name, "--platform=linux/arm64").out == digests[0] != digests[1]
    assert f"sha256:{hashlib.sha256(skopeo('inspect', '--raw', '--tls-verify=false', f'docker://{name}')).hexdigest()}\n" == digests[0]
    assert "has no image for linux/amd64" in pybuild.refused("push", name, "--platform=linux/amd64")


def test_a_registry_with_a_password(locked: DockerRegistry, person: Person, tmp_path: Path) -> None:
    name = f"{locked.host}/p/u{re.sub('[^a-z0-9]', '', person.home.name.lower())}"
    without = person.pybuild(HOME=str(person.home), DOCKER_CONFIG=str(person.home))
    error = without.refused("push", BASE, name)
    assert f"error: {name}: access denied without credentials" in error
    auth = base64.b64encode(":".join(LOGIN).encode()).decode()
    (person.home / "config.json").write_text(json.dumps({"auths": {locked.host: {"auth": auth}}}))
    (person.home / "config.json").chmod(0o644)
    digest = without("push", BASE, name).out.strip()
    assert fetched(name, tmp_path / "got", f"--src-creds={':'.join(LOGIN)}") == digest


def test_a_push_that_fails_leaves_the_image_in_the_store(pybuild: Pybuild, tmp_path: Path) -> None:
    with socket.socket() as unused:  # a port at which nobody listens
        unused.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{unused.getsockname()[1]}/app"
        error = pybuild.refused("-t", name, "--push", write_context(tmp_path / "c", f"FROM {BASE}\nLABEL a=b\n"))
    assert "Connection refused" in error
    assert "hint: the image is in the store: pybuild push sends it" in error
    assert json.loads(pybuild("inspect", name).out)["config"]["config"]["Labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["push", "none:1"], 1, "no image none:1 in the store"),
        (["push", BASE, "A"], 1, "invalid image name"),
        (["push", BASE, f"localhost/a@sha256:{'0' * 64}"], 1, "the image itself determines the digest"),
        (["--push", "."], 1, "there is no name to push the image to"),
        (["-o", "type=registry", "."], 1, "there is no name to push the image to"),
    ],
)
def test_what_cannot_be_pushed_is_refused_at_once(
    pybuild: Pybuild, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    write_context(tmp_path, f"FROM {BASE}\nRUN exit 9\n")
    assert message in pybuild.refused(*arguments, status=status, cwd=tmp_path)


def test_a_digest_needs_a_destination(registry: DockerRegistry, pybuild: Pybuild) -> None:
    digest = json.loads(pybuild("inspect", BASE).out)["digest"]
    assert "give DESTINATION" in pybuild.refused("push", digest, status=2)
    assert pybuild("push", digest, f"{registry.host}/by/digest").out.strip() == digest


def test_events_of_a_push(registry: DockerRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/events/app:1"
    done = pybuild("-t", name, "--push", "--progress=json", write_context(tmp_path / "c", f"FROM {BASE}\nLABEL a=c\n"))
    *_, transfer = [event for event in done.events if event["event"] == "transfer"]
    assert (transfer["kind"], transfer["done"]) == ("pushed", transfer["total"])
    (event,) = [event for event in done.events if event["event"] == "pushed"]
    assert (event["image"], event["manifest"], event["sent"]) == (name, done.out.strip(), transfer["total"])


def test_a_registry_with_a_certificate_of_its_own(pybuild: Pybuild, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", tls=True, login=LOGIN) as secure:
        name = f"{secure.host}/team/app:1"
        auth = base64.b64encode(":".join(LOGIN).encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {secure.host: {"auth": auth}}}))
        entitled = pybuild.with_environment({"DOCKER_CONFIG": str(tmp_path), "PYBUILD_CONFIG": str(tmp_path / "toml")})
        (tmp_path / "toml").write_text("")
        assert "its certificate is not trusted" in entitled.refused("push", BASE, name)
        digest = entitled("push", "--no-tls-verify", BASE, name).out
        (tmp_path / "toml").write_text(f'[registry."{secure.host}"]\nca-files = ["{secure.authority}"]\n')
        context = write_context(tmp_path / "c", f"FROM {BASE}\nLABEL a=b\n")
        assert entitled("-t", name, "--push", context).out != digest
        assert entitled("pull", "-q", name).out == entitled("push", name).out
