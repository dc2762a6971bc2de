"""pybuild copy between every two kinds of places, with real registries, and skopeo as the reader."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.platform import Platform
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.fake_registry import Image, fake_registry
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.cli import Done


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DockerRegistry, DockerRegistry]]:
    with (
        docker_registry(tmp_path_factory.mktemp("one")) as one,
        docker_registry(tmp_path_factory.mktemp("two")) as two,
    ):
        yield one, two


@pytest.fixture(scope="module")
def one(registries: tuple[DockerRegistry, DockerRegistry]) -> DockerRegistry:
    return registries[0]


@pytest.fixture(scope="module")
def two(registries: tuple[DockerRegistry, DockerRegistry]) -> DockerRegistry:
    return registries[1]


def skopeo(*arguments: object) -> bytes:
    return subprocess.run(["skopeo", *map(str, arguments)], check=True, capture_output=True).stdout


def raw(place: str) -> bytes:
    """The manifest at a place, as it lies there."""
    tls = ["--tls-verify=false"] if place.startswith("docker://") else []
    return skopeo("inspect", "--raw", *tls, place)


def digest_at(place: str, directory: Path) -> str:
    """The digest of an image, after skopeo has fetched and checked all of it."""
    tls = ["--src-tls-verify=false"] if place.startswith("docker://") else []
    skopeo("copy", "--quiet", "--all", *tls, place, f"oci:{directory}:x")
    return f"sha256:{hashlib.sha256(raw(place)).hexdigest()}"


def put(registry: DockerRegistry, repository: str, name: str, data: bytes, media_type: str) -> None:
    connection = http.client.HTTPConnection(registry.host)
    connection.request("PUT", f"/v2/{repository}/manifests/{name}", data, {"Content-Type": media_type})
    response = connection.getresponse()
    assert response.status == 201, response.read()
    connection.close()


def put_blob(registry: DockerRegistry, repository: str, data: bytes) -> Descriptor:
    connection = http.client.HTTPConnection(registry.host)
    connection.request("POST", f"/v2/{repository}/blobs/uploads/")
    location = connection.getresponse().getheader("Location") or ""
    connection.close()
    connection = http.client.HTTPConnection(registry.host)
    digest = Digest.of(data)
    path = location.split(registry.host, 1)[-1]
    connection.request("PUT", f"{path}&digest={digest}", data, {"Content-Type": "application/octet-stream"})
    assert connection.getresponse().status == 201
    connection.close()
    return Descriptor("application/octet-stream", digest, len(data))


def dumped(**fields: Any) -> bytes:
    """JSON as no tool of ours writes it, so that a manifest that was written anew would show."""
    return json.dumps({"schemaVersion": 2, **fields}, indent=3).encode()


def copied(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("copied ")]


@pytest.fixture
def image(pybuild: Pybuild, tmp_path: Path) -> str:
    """The digest of store:app."""
    files = {"file": b"1" * 1000, "more": os.urandom(1_500_000)}
    return pybuild("-t", "app", write_context(tmp_path / "c", f"FROM {BASE}\nCOPY file /\nCOPY more /\n", **files)).out.strip()


def test_every_kind_of_place(
    one: DockerRegistry, two: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path
) -> None:
    """One image through all kinds of places, and from each of them back into a registry."""
    places = [
        f"docker://{one.host}/kinds/app:1",
        f"docker://{two.host}/kinds/other:1",
        f"oci:{tmp_path}/layout:v1",
        f"oci-archive:{tmp_path}/archive.tar:v1",
        f"docker-archive:{tmp_path}/docker.tar:app:v1",
        "store:again",
    ]
    before = "store:app"
    for place in places:
        done = pybuild("copy", before, place)
        assert done.out.strip() == image
        assert len(copied(done)) == 1
        before = place
    for number, place in enumerate(places[2:]):
        target = f"docker://{two.host}/back/app:{number}"
        assert pybuild("copy", "-q", place, target).out.strip() == image
        assert digest_at(target, tmp_path / "got") == image
    skopeo("copy", "-q", places[4], f"oci:{tmp_path}/by-skopeo:1")
    assert pybuild("inspect", "again").out == pybuild("inspect", "app").out
    assert raw(f"oci:{tmp_path}/layout:v1") == raw(places[0])
    pybuild.assert_whole()


def test_pipes(one: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path) -> None:
    archive = subprocess.run(
        [*pybuild.command, "copy", "store:app", "oci-archive:-"], env=pybuild.env(), check=True, capture_output=True
    )
    assert image in archive.stderr.decode()
    target = f"docker://{one.host}/pipes/app:1"
    assert pybuild("copy", "oci-archive:-", target, stdin=archive.stdout).out.strip() == image
    (tmp_path / "a.tar.gz").write_bytes(subprocess.run(["gzip"], input=archive.stdout, check=True, capture_output=True).stdout)
    assert pybuild("copy", f"oci-archive:{tmp_path}/a.tar.gz", f"{target}gz").out.strip() == image
    with open(tmp_path / "plain.tar", "wb") as file:
        file.write(archive.stdout)
    with open(tmp_path / "plain.tar", "rb") as file:  # standard input that can be read in any order
        command = [*pybuild.command, "copy", "oci-archive:-", f"{target}file"]
        subprocess.run(command, env=pybuild.env(), stdin=file, check=True, capture_output=True)
    assert digest_at(f"{target}file", tmp_path / "got") == digest_at(f"{target}gz", tmp_path / "got") == image


def test_what_is_there_is_not_sent(
    one: DockerRegistry, two: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path
) -> None:
    source, target = f"docker://{one.host}/spare/app:1", f"docker://{two.host}/spare/app:1"
    pybuild("copy", "store:app", source)
    assert "MB sent)" in copied(pybuild("copy", source, target))[0]
    assert "(0 B sent, it was there)" in copied(pybuild("copy", source, target))[0]
    assert "(0 B sent, 2." in copied(pybuild("copy", source, target.replace(":1", ":2")))[0]  # another tag
    assert "(0 B sent, 2." in copied(pybuild("copy", source, f"docker://{one.host}/spare/mounted:1"))[0]
    assert digest_at(f"docker://{one.host}/spare/mounted:1", tmp_path / "got") == image
    newer = write_context(tmp_path / "d", "FROM app\nCOPY new /\n", new=os.urandom(50_000))
    digest = pybuild("-t", "newer", newer).out.strip()
    assert "(51." in copied(pybuild("copy", "store:newer", target.replace(":1", ":3")))[0]
    assert "(51." in copied(pybuild("copy", target.replace(":1", ":3"), source.replace(":1", ":3")))[0]
    assert digest_at(source.replace(":1", ":3"), tmp_path / "got") == digest
    layout = f"oci:{tmp_path}/layout"
    pybuild("copy", source, layout)
    assert "(51." in copied(pybuild("copy", source.replace(":1", ":3"), layout))[0]
    pybuild("reset")
    pybuild("copy", source, "store:a")
    assert "(51." in copied(pybuild("copy", source.replace(":1", ":3"), "store:b"))[0]
    assert "(0 B sent, 2." in copied(pybuild("copy", f"{layout}:1", "store:c"))[0]


def test_no_blob_lies_on_the_disk_between_two_registries(
    one: DockerRegistry, two: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path
) -> None:
    source, target = f"docker://{one.host}/stream/app:1", f"docker://{two.host}/stream/app:1"
    pybuild("copy", "store:app", source)
    # A process that writes a file of more than 100 KiB gets SIGXFSZ. No store is needed.
    command = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *pybuild.command, "copy", source, target]
    environment = {**pybuild.env(), "PYBUILD_ROOT": "/proc/none", "TMPDIR": str(tmp_path)}
    before = os.listdir(tmp_path)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert digest_at(target, tmp_path / "got") == image
    assert {*os.listdir(tmp_path)} == {*before, "got"}


# -- indexes


@pytest.fixture
def index(one: DockerRegistry, pybuild: Pybuild, tmp_path: Path) -> tuple[str, dict[str, str], bytes]:
    """An index in the first registry: its name, the digests of its images by platform, and its bytes."""
    name = f"{one.host}/index/app"
    entries, digests = [], {}
    host = str(Platform.host())
    for platform in ("linux/s390x", host):
        context = write_context(tmp_path / "i", "FROM scratch\nCOPY file /\n", file=platform)
        digests[platform] = pybuild("-t", "one", f"--platform={platform}", context).out.strip()
        pybuild("push", "-q", digests[platform], f"{name}:{platform.replace('/', '-')}")
        data = raw(f"docker://{name}:{platform.replace('/', '-')}")
        system, architecture = platform.split("/")[:2]
        entry = Descriptor(MediaType.OCI_MANIFEST, Digest.of(data), len(data), platform=Platform(system, architecture))
        entries.append(entry.to_json())
    # An attestation as BuildKit adds it.
    layer = put_blob(one, "index/app", b'{"predicate":1}')
    config = put_blob(one, "index/app", b'{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}')
    attestation = dumped(
        mediaType=MediaType.OCI_MANIFEST,
        config={**config.to_json(), "mediaType": MediaType.OCI_CONFIG},
        layers=[{**layer.to_json(), "mediaType": "application/vnd.in-toto+json"}],
    )
    digest = Digest.of(attestation)
    put(one, "index/app", str(digest), attestation, MediaType.OCI_MANIFEST)
    unknown = Descriptor(MediaType.OCI_MANIFEST, digest, len(attestation), platform=Platform("unknown", "unknown"))
    whole = dumped(mediaType=MediaType.OCI_INDEX, manifests=[*entries, unknown.to_json()], annotations={"a": "ä"})
    put(one, "index/app", "1", whole, MediaType.OCI_INDEX)
    pybuild("reset")
    return name, digests, whole


def test_an_index_is_copied_whole(
    two: DockerRegistry, pybuild: Pybuild, index: tuple[str, dict[str, str], bytes], tmp_path: Path
) -> None:
    name, digests, whole = index
    source, target = f"docker://{name}:1", f"docker://{two.host}/index/app:1"
    digest = f"sha256:{hashlib.sha256(whole).hexdigest()}"
    for place in (target, f"oci:{tmp_path}/layout:i", f"oci-archive:{tmp_path}/archive.tar:i"):
        assert pybuild("copy", source, place).out.strip() == digest
        assert raw(place) == whole
        assert digest_at(place, tmp_path / "got") == digest
    assert pybuild("copy", f"oci:{tmp_path}/layout:i", f"{target}b").out.strip() == digest
    assert pybuild("copy", f"oci-archive:{tmp_path}/archive.tar", f"docker://{two.host}/index/again").out.strip() == digest
    assert raw(f"docker://{two.host}/index/again") == whole
    # The name that the source has in the registry is its name in an archive, unless another one is given.
    pybuild("copy", source, f"oci-archive:{tmp_path}/named.tar")
    assert pybuild("import", tmp_path / "named.tar").out.strip() == digests[str(Platform.host())]
    assert f"{name}:1" in pybuild("images").out


def test_one_platform_of_an_index(
    two: DockerRegistry, pybuild: Pybuild, index: tuple[str, dict[str, str], bytes], tmp_path: Path
) -> None:
    name, digests, _ = index
    source, option = f"docker://{name}:1", "--platform=linux/s390x"
    target = f"docker://{two.host}/platform/app:1"
    for place in (target, f"oci:{tmp_path}/layout", f"docker-archive:{tmp_path}/docker.tar", "store:other"):
        assert pybuild("copy", option, source, place).out.strip() == digests["linux/s390x"]
    pybuild("copy", source, f"oci:{tmp_path}/whole")
    assert pybuild("copy", option, f"oci:{tmp_path}/whole", f"oci-archive:{tmp_path}/a.tar").out.strip() == digests["linux/s390x"]
    for place in (target, f"oci:{tmp_path}/layout"):
        error = pybuild.refused("copy", "--platform=linux/arm", place, "store:x")
        assert "is an image for linux/s390x, not for linux/arm/v7" in error
    error = pybuild.refused("copy", "--platform=linux/arm", source, "store:x")
    assert f"{name}:1: the image has no manifest for linux/arm/v7" in error


def test_the_store_gets_all_images_of_an_index(pybuild: Pybuild, index: tuple[str, dict[str, str], bytes]) -> None:
    name, digests, _ = index
    done = pybuild("copy", f"docker://{name}:1", "store:many")
    assert f"note: not an image of a root filesystem, so not stored: 1 of docker://{name}:1" in done.err
    assert json.loads(pybuild("inspect", "many").out)["digest"] == digests[str(Platform.host())]
    assert json.loads(pybuild("inspect", "many", "--platform=linux/s390x").out)["digest"] == digests["linux/s390x"]
    pybuild("fsck", "--deep")
    pybuild("history", "many", "--files", "--platform=linux/s390x")


def test_a_docker_archive_gets_the_image_for_this_machine(
    pybuild: Pybuild, index: tuple[str, dict[str, str], bytes], tmp_path: Path
) -> None:
    name, digests, _ = index
    done = pybuild("copy", f"docker://{name}:1", f"docker-archive:{tmp_path}/d.tar")
    host = str(Platform.host())
    assert done.out.strip() == digests[host]
    assert f"note: a docker archive holds one platform: of docker://{name}:1 it gets {host}" in done.err
    skopeo("copy", "-q", f"docker-archive:{tmp_path}/d.tar", f"oci:{tmp_path}/got")
    with tarfile.open(tmp_path / "d.tar") as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None and json.load(member)[0]["RepoTags"] == [f"{name}:1"]


# -- other images than those that pybuild makes


def test_an_archive_without_a_manifest_gets_one(one: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path) -> None:
    pybuild("copy", "store:app", f"oci:{tmp_path}/layout:1")
    skopeo("copy", "-q", f"oci:{tmp_path}/layout:1", f"docker-archive:{tmp_path}/saved.tar:team/app:7")
    target = f"docker://{one.host}/saved/app:1"
    done = pybuild("copy", f"docker-archive:{tmp_path}/saved.tar", target)
    assert "has no manifest: it gets one here, and layers without compression become gzip" in done.err
    assert digest_at(target, tmp_path / "got") == done.out.strip() != image
    assert json.loads(raw(target))["layers"][0]["mediaType"] == MediaType.OCI_LAYER_GZIP


def test_artifacts_are_copied_between_registries_and_layouts(
    one: DockerRegistry, two: DockerRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    chart, values = (put_blob(one, "charts/app", data) for data in (b"a chart" * 1000, b'{"name":"app"}'))
    manifest = dumped(
        mediaType=MediaType.OCI_MANIFEST,
        config={**values.to_json(), "mediaType": "application/vnd.cncf.helm.config.v1+json"},
        layers=[{**chart.to_json(), "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"}],
    )
    put(one, "charts/app", "1", manifest, MediaType.OCI_MANIFEST)
    source = f"docker://{one.host}/charts/app:1"
    pybuild("copy", source, f"docker://{two.host}/charts/app:1")
    assert raw(f"docker://{two.host}/charts/app:1") == manifest
    pybuild("copy", source, f"oci:{tmp_path}/layout")
    pybuild("copy", f"oci:{tmp_path}/layout", f"docker://{two.host}/charts/app:2")
    assert raw(f"docker://{two.host}/charts/app:2") == manifest
    error = pybuild.refused("copy", source, "store:chart")
    assert "the store holds only images of root filesystems" in error
    error = pybuild.refused("copy", source, f"docker-archive:{tmp_path}/chart.tar")
    assert "a docker archive holds only images of root filesystems" in error
    assert not (tmp_path / "chart.tar").exists()
    assert "has no platform" in pybuild.refused("copy", "--platform=linux/arm64", source, "store:chart")


def test_layers_that_must_not_be_distributed_stay_where_they_are(pybuild: Pybuild, tmp_path: Path) -> None:
    """Debian's registry refuses manifests with URLs unless it is configured for them."""
    with fake_registry() as source, fake_registry() as elsewhere:
        kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        fields = {"mediaType": kind, "urls": [f"{elsewhere.url}/windows"]}
        image = Image(layer_fields=fields, media_type=MediaType.DOCKER_MANIFEST)
        image.serve(source)
        done = pybuild("copy", f"docker://{image.reference(source)}", f"oci:{tmp_path}/layout:1")
        assert "note: 1 layer is not for distribution and not copied; the manifest still names their URLs" in done.err
        blobs = tmp_path / "layout/blobs/sha256"
        assert (blobs / image.descriptor.digest.hex).read_bytes() == image.manifest
        assert len(os.listdir(blobs)) == 2
        assert elsewhere.seen == source.asked(image.blob_path) == []
        error = pybuild.refused("copy", f"oci:{tmp_path}/layout", "store:x")
        assert "non-distributable layers are not supported" in error


def test_a_digest_as_a_name(one: DockerRegistry, two: DockerRegistry, pybuild: Pybuild, image: str) -> None:
    source, target = f"docker://{one.host}/digest/app", f"docker://{two.host}/digest/app"
    pybuild("copy", f"store:{image}", f"{source}@{image}")
    assert pybuild("copy", f"{source}@{image}", f"{target}:tag").out.strip() == image
    assert pybuild("copy", f"{source}@{image}", f"{target}@{image}").out.strip() == image
    other = Digest.of(b"other")
    assert f"the image has the digest {image}" in pybuild.refused("copy", f"{source}@{image}", f"{target}@{other}")
    assert "there is no manifest" in pybuild.refused("copy", f"{source}@{other}", f"{target}:x")


# -- certificates and mistakes


def test_certificates_of_each_side(one: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", tls=True) as secure:
        place, plain = f"docker://{secure.host}/tls/app:1", f"docker://{one.host}/tls/app:1"
        assert "its certificate is not trusted" in pybuild.refused("copy", "--src-tls-verify=false", "store:app", place)
        assert pybuild("copy", "--dest-tls-verify=false", "store:app", place).out.strip() == image
        assert "its certificate is not trusted" in pybuild.refused("copy", "--dest-tls-verify=false", place, plain)
        assert pybuild("copy", "--no-src-tls-verify", place, plain).out.strip() == image
        assert pybuild("--tls-verify=false", "copy", place, plain).out.strip() == image
        (tmp_path / "toml").write_text(f'[registry."{secure.host}"]\nca-files = ["{secure.authority}"]\n')
        assert pybuild("copy", place, plain, PYBUILD_CONFIG=str(tmp_path / "toml")).out.strip() == image


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["app", "store:x"], 2, "write docker://app for a registry, store:app for the store"),
        (["store:none", "oci:x"], 1, "no image none:latest in the store"),
        (["store:app", "oci-archive:no/such/file"], 1, "no/such does not exist"),
        (["store:app", "oci-archive:layout"], 1, "is a directory"),
        (["store:app", "oci:file.tar"], 1, "is not a directory"),
        (["store:app", "oci:other"], 1, "contains something other than an OCI layout"),
        (["oci:none", "store:x"], 1, "none"),
        (["oci:other", "store:x"], 1, "is not an OCI layout"),
    ],
)
def test_mistakes(pybuild: Pybuild, tmp_path: Path, arguments: Sequence[str], status: int, message: str) -> None:
    pybuild("tag", BASE, "app")
    for name in ("layout", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other/file").touch()
    (tmp_path / "file.tar").touch()
    before = sorted(os.listdir(tmp_path))
    assert message in pybuild.refused("copy", *arguments, status=status, cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == before


def test_damaged_blobs_are_not_copied(one: DockerRegistry, pybuild: Pybuild, image: str, tmp_path: Path) -> None:
    pybuild("copy", "store:app", f"oci:{tmp_path}/layout:1")
    blobs = tmp_path / "layout/blobs/sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[1000] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(data)
    pybuild("reset")
    for target in (f"docker://{one.host}/damaged/app:1", "store:x", f"oci:{tmp_path}/other", f"oci-archive:{tmp_path}/x.tar"):
        assert "digest" in pybuild.refused("copy", f"oci:{tmp_path}/layout", target)
    assert "no manifest 1" in pybuild.refused("pull", f"{one.host}/damaged/app:1")
    assert not (tmp_path / "x.tar").exists() and not (tmp_path / "other").exists()
