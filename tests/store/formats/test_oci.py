"""Manifests, indexes and configs: what is read, what is refused, and what is written again."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, NotFound, StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import (
    ExecConfig,
    History,
    ImageConfig,
    chain_id,
    check_image,
    format_time,
    normalise_history,
)
from pybuild.store.formats.oci_manifest import Descriptor, Index, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PROPERTY = settings(max_examples=300)


def descriptor(**fields: object) -> dict[str, object]:
    return {"mediaType": MediaType.OCI_LAYER_GZIP, "digest": A, "size": 3, **fields}


def manifest(**fields: object) -> bytes:
    config = {"mediaType": MediaType.OCI_CONFIG, "digest": B, "size": 2}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": [descriptor()], **fields}).encode()


def test_unknown_fields_survive_reading_and_writing() -> None:
    data = manifest(
        subject={"x": [1, {"y": None}]},
        artifactType="t",
        annotations={"k": "v"},
        layers=[descriptor(urls=["http://169.254.169.254/"], data="eA==")],
    )
    found = Manifest.from_bytes(data)
    assert found.layers[0].extra == {"urls": ["http://169.254.169.254/"], "data": "eA=="}
    written = json.loads(found.to_bytes())
    assert written == {**json.loads(data), "mediaType": MediaType.OCI_MANIFEST}
    assert Manifest.from_bytes(found.to_bytes()) == found


@pytest.mark.parametrize("size", [-1, True, 1.0, "3", None, 1 << 63, [], 10**19])
def test_an_invalid_size_is_refused(size: object) -> None:
    with pytest.raises(InvalidImage, match=r"layers\[0\].size"):
        Manifest.from_bytes(manifest(layers=[descriptor(size=size)]))


@pytest.mark.parametrize("digest", ["sha256:../../x", "", "md5:" + "a" * 32, "sha256:" + "A" * 64, 1, None, [A], {}])
@pytest.mark.parametrize("where", ["config", "layer"])
def test_every_digest_is_checked(where: str, digest: object) -> None:
    fields = {"config": descriptor(digest=digest)} if where == "config" else {"layers": [descriptor(digest=digest)]}
    with pytest.raises(InvalidImage):
        Manifest.from_bytes(manifest(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"manifests": []},
        {"fsLayers": []},
        {"schemaVersion": 1},
        {"schemaVersion": "2"},
        {"schemaVersion": None},
        {"schemaVersion": True},
        {"mediaType": MediaType.OCI_INDEX},
        {"mediaType": "text/plain"},
        {"mediaType": 1},
        {"layers": {}},
        {"layers": [1]},
        {"layers": [descriptor()] * 10_001},
        {"layers": [descriptor(mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar")]},
        {"layers": [descriptor(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]},
        {"config": None},
        {"config": []},
        {"annotations": {"a": 1}},
        {"annotations": []},
    ],
)
def test_an_invalid_manifest_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidImage):
        Manifest.from_bytes(manifest(**fields))


def test_a_manifest_without_config_is_refused() -> None:
    with pytest.raises(InvalidImage, match=r"manifest\.config"):
        Manifest.from_bytes(b'{"schemaVersion":2,"layers":[]}')


def test_a_document_that_is_both_manifest_and_index_is_refused() -> None:
    both = manifest(manifests=[descriptor(mediaType=MediaType.OCI_MANIFEST)])
    for read in (Manifest.from_bytes, Index.from_bytes):
        with pytest.raises(InvalidImage, match="also valid as"):
            read(both)


def test_the_descriptor_and_the_document_must_agree_on_the_media_type() -> None:
    oci = manifest(mediaType=MediaType.OCI_MANIFEST)
    assert Manifest.from_bytes(oci, MediaType.OCI_MANIFEST).media_type == MediaType.OCI_MANIFEST
    for other in (MediaType.DOCKER_MANIFEST, MediaType.OCI_INDEX, ""):
        with pytest.raises(InvalidImage, match="media type"):
            Manifest.from_bytes(oci, other)
    assert Manifest.from_bytes(manifest(), MediaType.DOCKER_MANIFEST).media_type == MediaType.DOCKER_MANIFEST


def test_the_error_for_a_large_document_names_the_limit() -> None:
    with pytest.raises(InvalidImage, match="limit of 4 MiB"):
        Manifest.from_bytes(b" " * (MANIFEST_BYTES.default + 1))
    with pytest.raises(InvalidImage, match="limit of 8 MiB"):
        ImageConfig.from_bytes(b" " * (CONFIG_BYTES.default + 1))


def test_an_index_selects_by_platform() -> None:
    arm = Descriptor(MediaType.OCI_MANIFEST, Digest.parse(A), 1, platform=Platform("linux", "arm64", "v8"))
    amd = Descriptor(MediaType.OCI_MANIFEST, Digest.parse(B), 1, platform=Platform.parse("linux/amd64"))
    index = Index((arm, amd))
    assert index.select(Platform.parse("linux/amd64")) is amd
    assert index.select(Platform.parse("linux/arm64")) is arm
    with pytest.raises(NotFound) as caught:
        index.select(Platform.parse("linux/arm/v7"))
    assert caught.value.hint == "its platforms are: linux/amd64, linux/arm64/v8"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/arm64/v8", "linux/arm64"), ("linux/arm64/8", "linux/arm64"), ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/aarch64/9.0", "linux/arm64/v9"), ("linux/amd64/v1", "linux/amd64"), ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/x86_64/v2", "linux/amd64/v2"), ("x86-64", "linux/amd64"), ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm", "linux/arm/v7"), ("linux/arm/6", "linux/arm/v6"), ("linux/armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"), ("linux/i386/v9", "linux/386"), ("macos/aarch64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"), ("riscv64", "linux/riscv64"), ("linux/sparc64", "linux/sparc64"),
        ("arm/v6", "linux/arm/v6"), ("linux", str(Platform.host())), ("linux/386", "linux/386"),
        ("Windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64"),
        ("windows(+b+a)/amd64", "windows(+a+b)/amd64"),
    ],
)  # fmt: skip
def test_a_platform_has_one_normal_form(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal
    assert Platform.parse(normal) == Platform.parse(text)


@pytest.mark.parametrize("text", ["linux/", "/amd64", "a/b/c/d", "linux//v7", "", "x", "windows(1/amd64"])
def test_a_platform_has_two_or_three_parts(text: str) -> None:
    with pytest.raises(InvalidImage, match="invalid platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ("windows/amd64", "windows(10.0.17763.5458)/amd64", True),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763.5458)/amd64", True),
        ("windows(10.0.1776)/amd64", "windows(10.0.17763.5458)/amd64", False),
        ("windows(10.0.20348)/amd64", "windows(10.0.17763.5458)/amd64", False),
        ("windows(10.0.20348)/amd64", "windows/amd64", True),
        ("windows(+a)/amd64", "windows(+b)/amd64", False),
        ("windows(+a)/amd64", "windows(1.0+a)/amd64", True),
        ("linux/amd64", "windows/amd64", False),
    ],
)
def test_versions_of_a_system_match_by_their_beginning(wanted: str, found: str, expected: bool) -> None:
    assert Platform.parse(wanted).matches(Platform.parse(found)) is expected


def test_an_entry_keeps_version_and_features_of_the_system() -> None:
    platform = Platform.parse("windows(10.0.17763+win32k)/amd64")
    index = Index((Descriptor(MediaType.OCI_MANIFEST, Digest.parse(A), 1, platform=platform),))
    assert b'"os.version":"10.0.17763","os.features":["win32k"]' in index.to_bytes()
    assert Index.from_bytes(index.to_bytes()) == index


def config(**fields: object) -> bytes:
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [A]}, **fields}
    ).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"rootfs": {"type": "other", "diff_ids": []}},
        {"rootfs": {"diff_ids": ["sha256:x"]}},
        {"rootfs": {"diff_ids": "x"}},
        {"rootfs": []},
        {"config": {"Env": ["A\0=b"]}},
        {"config": {"Env": "A=b"}},
        {"config": {"Env": [1]}},
        {"config": {"WorkingDir": "/a\0b"}},
        {"config": {"User": 0}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Volumes": []}},
        {"config": {"Cmd": "true"}},
        {"config": {"ArgsEscaped": "yes"}},
        {"history": {}},
        {"history": [{"empty_layer": 1}]},
        {"history": [{"created_by": 1}]},
        {"architecture": 1},
    ],
)
def test_an_invalid_config_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidImage):
        ImageConfig.from_bytes(config(**fields))


def test_all_members_of_a_docker_config_survive_reading_and_writing() -> None:
    data = {
        "architecture": "arm", "os": "linux", "variant": "v7", "author": "me", "created": "2024-01-01T00:00:00Z",
        "config": {
            "User": "1:2", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": [], "Cmd": ["x", "y"],
            "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"l": "v"}, "StopSignal": "INT", "Shell": ["/bin/sh", "-c"],
            "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"], "ArgsEscaped": True, "Memory": 3,
        },
        "rootfs": {"type": "layers", "diff_ids": [A]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "x", "comment": "c", "author": "a", "x": 1}, {"empty_layer": True}],
        "container": "c0ffee", "os.version": "1",
    }  # fmt: skip
    found = ImageConfig.from_bytes(json.dumps(data).encode())
    written = json.loads(found.to_bytes())
    del data["config"]["Entrypoint"]  # type: ignore[attr-defined]
    assert written == data
    assert ImageConfig.from_bytes(found.to_bytes()).to_bytes() == found.to_bytes()


def test_manifest_and_config_must_have_the_same_number_of_layers() -> None:
    check_image(Manifest.from_bytes(manifest()), ImageConfig.from_bytes(config()))
    with pytest.raises(InvalidImage, match="the manifest has 2 layers, the config 1"):
        check_image(Manifest.from_bytes(manifest(layers=[descriptor()] * 2)), ImageConfig.from_bytes(config()))


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ([], [False]),
        ([False], [False]),
        ([True], [True, False]),
        ([False, False], [False, True]),
        ([True, False, True, False], [True, False, True, True]),
    ],
)
def test_the_history_gets_one_entry_for_each_layer(given_: list[bool], expected: list[bool]) -> None:
    found = ImageConfig.from_bytes(config(history=[{"empty_layer": empty} for empty in given_]))
    assert [line.empty_layer for line in normalise_history(found).history] == expected


def test_empty_members_are_omitted() -> None:
    assert ExecConfig().to_json() == {}
    assert History().to_json() == {}


def test_the_chain_id_is_that_of_the_image_spec() -> None:
    a, b = Digest.parse(A), Digest.parse(B)
    assert chain_id([a]) == a
    assert chain_id([a, b]) == Digest.of(f"{A} {B}".encode())
    assert chain_id([a, b, a]) == Digest.of(f"{chain_id([a, b])} {A}".encode())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 3))
@PROPERTY
def test_damaged_documents_raise_only_store_errors(noise: bytes, position: int, cut: int) -> None:
    for read, data in (
        (Manifest.from_bytes, manifest()),
        (ImageConfig.from_bytes, config()),
        (Index.from_bytes, b'{"schemaVersion":2,"manifests":[]}'),
    ):
        damaged = data[:position] + noise + data[position + cut :]
        with contextlib.suppress(StoreError):
            read(damaged)
