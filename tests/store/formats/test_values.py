"""Digests, image names and JSON from outside: what is accepted, what it is read as, and what is refused."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, NotFound, StoreError
from pybuild.store.formats.bounded_json import MAX_DEPTH, MAX_ITEMS, dump, load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import (
    CONFIG_LIMIT,
    ExecConfig,
    History,
    ImageConfig,
    chain_id,
    check_image,
    format_time,
    normalise_history,
)
from pybuild.store.formats.oci_manifest import MANIFEST_LIMIT, Descriptor, Index, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PROPERTY = settings(max_examples=300)


# -- digests


@pytest.mark.parametrize("text", [A, "sha256:" + "0123456789abcdef" * 4, "sha512:" + "f" * 128])
def test_a_registered_digest_is_read_and_written_unchanged(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:../../x",
        "sha256:/etc/passwd",
        "sha256:%2e%2e",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "a" * 128,
        "sha512:" + "a" * 64,
        "sha256:" + "a" * 63 + "/",
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "\u0661" * 64,
        "md5:" + "a" * 32,
        "SHA256:" + "a" * 64,
        " " + A,
        A + ":" + "b",
        "a" * 64,
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidImage, match="invalid digest"):
        Digest.parse(text)


@given(st.text())
@PROPERTY
def test_the_digest_parser_is_total(text: str) -> None:
    try:
        found = Digest.parse(text)
    except InvalidImage:
        return
    assert str(found) == text


# -- names


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("team/app:1.0", "docker.io/team/app:1.0", "team/app:1.0"),
        ("host:5000/app", "host:5000/app:latest", "host:5000/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("Host/app", "Host/app:latest", "Host/app:latest"),
        (f"debian@{A}", f"docker.io/library/debian@{A}", f"debian@{A}"),
        (f"debian:12@{A}", f"docker.io/library/debian:12@{A}", f"debian:12@{A}"),
        ("a_b/c__d/e.f-g---h", "docker.io/a_b/c__d/e.f-g---h:latest", "a_b/c__d/e.f-g---h:latest"),
    ],
)
def test_names_are_read_as_docker_reads_them(text: str, full: str, familiar: str) -> None:
    found = Reference.parse(text).with_default_tag()
    assert (str(found), found.familiar) == (full, familiar)
    assert Reference.parse(str(found)) == found
    assert Reference.parse(familiar) == found


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Debian", "debian:", "debian:-x", "debian:" + "x" * 129, "/debian", "debian/", "a//b", "../x", "a/../b",
        "a..b", "a___b", "-a", "a-", "host:port/app", "http://host/app", "app@", "app@sha256:abc",
        "app:tag:tag", "a" * 256, "a" * 5000, "a" * 64, "scratch", "débian", "app\n", "app:tag\n", "a b", "a\0b",
        "[::1/app", "-host.com/app",
    ],
)  # fmt: skip
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidImage):
        Reference.parse(text)


@given(st.text(alphabet=st.sampled_from("aB0._-/:@[]\n é"), max_size=40))
@PROPERTY
def test_the_name_parser_is_total_and_what_it_accepts_reads_back(text: str) -> None:
    try:
        found = Reference.parse(text)
    except InvalidImage:
        return
    assert Reference.parse(str(found)) == found
    assert Reference.parse(found.familiar) == found


# -- JSON


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b'{"a":1', "not JSON"),
        (b'{"a":1}x', "not JSON"),
        (b'{"a":1,"a":1}', "appears twice"),
        (b'{"b":{"a":1,"a":2}}', "appears twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", "digits"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "JSON"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udc80":1}', "surrogate"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper"),
        (b'{"a":[' + b"1," * MAX_ITEMS + b"1]}", "more than 100000 items"),
        (b'{"a":"' + b"x" * 2_000_000 + b'"}', "exceeds the limit"),
        (b'{"a":"' + b'\\"' * 400_000, "not JSON"),
    ],
)
def test_json_out_of_bounds_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as caught:
        load_object(data, "thing", limit=1 << 20)
    assert str(caught.value).startswith("thing")


def test_brackets_and_commas_in_strings_do_not_count() -> None:
    text = '[{,\\"' * 50_000
    assert load_object(dump({"a": text}), "thing", limit=1 << 20) == {"a": text}


def test_json_at_the_limits_is_read() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert load_object(dump({"a": deep}), "thing", limit=1 << 20) == {"a": deep}
    assert load_object(b'{"a":"\\ud83d\\ude00"}', "thing", limit=100) == {"a": "😀"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _JSON, max_size=5))
@PROPERTY
def test_what_is_written_reads_back(value: dict[str, object]) -> None:
    assert load_object(dump(value), "thing", limit=1 << 20) == value


@given(st.binary(max_size=200))
@PROPERTY
def test_the_json_reader_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(InvalidImage):
        load_object(b'{"a":' + data + b"}", "thing", limit=1 << 20)


# -- manifests, indexes, configs


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
def test_a_size_is_a_whole_number_within_bounds(size: object) -> None:
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
def test_a_manifest_that_is_none_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidImage):
        Manifest.from_bytes(manifest(**fields))


def test_a_manifest_without_config_is_refused() -> None:
    with pytest.raises(InvalidImage, match=r"manifest\.config"):
        Manifest.from_bytes(b'{"schemaVersion":2,"layers":[]}')


def test_the_same_bytes_are_never_manifest_and_index() -> None:
    both = manifest(manifests=[descriptor(mediaType=MediaType.OCI_MANIFEST)])
    for read in (Manifest.from_bytes, Index.from_bytes):
        with pytest.raises(InvalidImage, match="also valid as"):
            read(both)


def test_the_descriptor_and_the_document_must_agree_on_the_media_type() -> None:
    oci = manifest(mediaType=MediaType.OCI_MANIFEST)
    assert Manifest.from_bytes(oci, MediaType.OCI_MANIFEST).media_type == MediaType.OCI_MANIFEST
    for told in (MediaType.DOCKER_MANIFEST, MediaType.OCI_INDEX, ""):
        with pytest.raises(InvalidImage, match="media type"):
            Manifest.from_bytes(oci, told)
    assert Manifest.from_bytes(manifest(), MediaType.DOCKER_MANIFEST).media_type == MediaType.DOCKER_MANIFEST


def test_limits_are_of_bytes_and_named() -> None:
    with pytest.raises(InvalidImage, match=f"limit of {MANIFEST_LIMIT}"):
        Manifest.from_bytes(b" " * (MANIFEST_LIMIT + 1))
    with pytest.raises(InvalidImage, match=f"limit of {CONFIG_LIMIT}"):
        ImageConfig.from_bytes(b" " * (CONFIG_LIMIT + 1))


def test_an_index_selects_by_platform() -> None:
    arm = Descriptor(MediaType.OCI_MANIFEST, Digest.parse(A), 1, platform=Platform.parse("linux/arm64/v8"))
    amd = Descriptor(MediaType.OCI_MANIFEST, Digest.parse(B), 1, platform=Platform.parse("linux/amd64"))
    index = Index((arm, amd))
    assert index.select(Platform.parse("linux/amd64")) is amd
    assert index.select(Platform.parse("linux/arm64")) is arm
    with pytest.raises(NotFound) as caught:
        index.select(Platform.parse("linux/arm/v7"))
    assert caught.value.hint == "its platforms are: linux/amd64, linux/arm64/v8"


@pytest.mark.parametrize("text", ["linux", "linux/", "/amd64", "a/b/c/d", "linux//v7", ""])
def test_a_platform_has_two_or_three_parts(text: str) -> None:
    with pytest.raises(InvalidImage, match="invalid platform"):
        Platform.parse(text)


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
def test_a_config_that_is_none_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidImage):
        ImageConfig.from_bytes(config(**fields))


def test_a_config_of_docker_reads_and_writes_all_it_says() -> None:
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


def test_manifest_and_config_must_tell_of_the_same_layers() -> None:
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
def test_history_is_made_to_tell_of_the_layers_there_are(given_: list[bool], expected: list[bool]) -> None:
    found = ImageConfig.from_bytes(config(history=[{"empty_layer": empty} for empty in given_]))
    assert [line.empty_layer for line in normalise_history(found).history] == expected


def test_an_empty_configuration_writes_nothing() -> None:
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
def test_damaged_documents_raise_store_errors_only(noise: bytes, position: int, cut: int) -> None:
    for read, data in (
        (Manifest.from_bytes, manifest()),
        (ImageConfig.from_bytes, config()),
        (Index.from_bytes, b'{"schemaVersion":2,"manifests":[]}'),
    ):
        damaged = data[:position] + noise + data[position + cut :]
        with contextlib.suppress(StoreError):
            read(damaged)
