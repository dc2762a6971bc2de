"""Which documents and blobs belong to an image, and what a hostile one cannot do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.image_graph import ImageGraph, for_platform, read_graph
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.platform import Platform
from pybuild.values import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


class Shelf:
    """Documents by digest."""

    def __init__(self) -> None:
        self.documents: dict[Digest, bytes] = {}

    def put(self, media_type: str, **fields: Any) -> Descriptor:
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
        self.documents[Digest.of(data)] = data
        return Descriptor(media_type, Digest.of(data), len(data))

    def manifest(self, *layers: Mapping[str, object], config: Mapping[str, object] | None = None, **more: Any) -> Descriptor:
        return self.put(MediaType.OCI_MANIFEST, config=config or blob("config", MediaType.OCI_CONFIG), layers=layers, **more)

    def index(self, *entries: Descriptor, **more: Any) -> Descriptor:
        return self.put(MediaType.OCI_INDEX, manifests=[entry.to_json() for entry in entries], **more)

    def read(self, descriptor: Descriptor) -> bytes:
        return self.documents[descriptor.digest]

    def graph(self, root: Descriptor) -> ImageGraph:
        return read_graph(root, self.read)


def blob(text: str, media_type: str = MediaType.OCI_LAYER_GZIP, **more: object) -> dict[str, object]:
    return {**Descriptor(media_type, Digest.of(text.encode()), len(text)).to_json(), **more}


def texts(graph: ImageGraph) -> set[Digest]:
    return set(graph.blobs)


def digests(*names: str) -> set[Digest]:
    return {Digest.of(name.encode()) for name in names}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_a_manifest_has_its_config_and_layers(shelf: Shelf) -> None:
    root = shelf.manifest(blob("a"), blob("b"), blob("a"))
    graph = shelf.graph(root)
    assert graph.root.descriptor == root and not graph.root.is_index
    assert texts(graph) == digests("config", "a", "b")
    assert graph.size == len("config") + 2


def test_documents_come_after_those_that_they_name(shelf: Shelf) -> None:
    one, two = shelf.manifest(blob("a")), shelf.manifest(blob("b"))
    inner = shelf.index(one, two)
    artifact = shelf.put(ARTIFACT, blobs=[blob("sbom", "text/spdx+json")])
    root = shelf.index(inner, one, artifact)
    graph = shelf.graph(root)
    order = [document.descriptor for document in graph.documents]
    assert order == [one, two, inner, artifact, root]
    assert texts(graph) == digests("config", "a", "b", "sbom")
    assert [document.data for document in graph.documents] == [shelf.read(one) for one in order]


def test_unknown_types_are_passed_on(shelf: Shelf) -> None:
    chart = shelf.manifest(
        blob("chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        config=blob("values", "application/vnd.cncf.helm.config.v1+json"),
        artifactType="application/vnd.example+json",
        subject=blob("elsewhere", MediaType.OCI_MANIFEST),
    )
    # The cache of BuildKit: an index of blobs.
    cache = shelf.index(Descriptor(MediaType.OCI_LAYER_ZSTD, Digest.of(b"layer"), 5), chart)
    assert texts(shelf.graph(cache)) == digests("layer", "chart", "values")


def test_non_distributable_layers_are_left_out(shelf: Shelf) -> None:
    root = shelf.manifest(blob("windows", FOREIGN, urls=["https://example.com/x"]), blob("a"))
    graph = shelf.graph(root)
    assert texts(graph) == digests("config", "a")
    assert [layer.digest for layer in graph.left_out] == [Digest.of(b"windows")]


@pytest.mark.parametrize(
    ("media_type", "fields", "message"),
    [
        (MediaType.OCI_MANIFEST, {"manifests": []}, "as an index and as a manifest"),
        (MediaType.OCI_INDEX, {"manifests": [], "layers": []}, "as an index and as a manifest"),
        (MediaType.OCI_INDEX, {"config": blob("x")}, "as an index and as a manifest"),
        (MediaType.OCI_MANIFEST, {"mediaType": MediaType.OCI_INDEX}, "its descriptor says"),
        (MediaType.OCI_MANIFEST, {"fsLayers": []}, "schema 1"),
        (MediaType.OCI_MANIFEST, {"layers": [{"digest": "sha256:no"}]}, "digest"),
        (MediaType.OCI_MANIFEST, {"layers": [blob("x", size=-1)]}, "size"),
        (MediaType.OCI_INDEX, {"manifests": [blob("x", "")]}, "'' is not a media type"),
        ("application/x+json\r\nAuthorization: me", {}, "is not a media type"),
        (MediaType.OCI_MANIFEST, {"layers": [blob("x"), blob("x", size=7)]}, "two sizes"),
    ],
)
def test_what_is_malformed_is_refused(shelf: Shelf, media_type: str, fields: dict[str, Any], message: str) -> None:
    shelf.documents[Digest.of(b"x")] = b"{}"
    root = shelf.put(media_type, **{key: value for key, value in fields.items() if key != "mediaType"})
    if "mediaType" in fields:
        root = Descriptor(str(fields["mediaType"]), root.digest, root.size)
    with pytest.raises(InvalidImage, match=message):
        shelf.graph(root)


def test_indexes_are_not_nested_without_end(shelf: Shelf) -> None:
    root = shelf.manifest()
    for _ in range(9):
        root = shelf.index(root)
    with pytest.raises(InvalidImage, match="nested deeper than the limit of 8"):
        shelf.graph(root)


def test_indexes_in_a_circle_end(shelf: Shelf) -> None:
    """Digests make that impossible, if the reader checks them. This one does not."""
    one = shelf.index(shelf.manifest())
    two = shelf.index(one)
    shelf.documents[one.digest] = json.dumps({"schemaVersion": 2, "manifests": [two.to_json()]}).encode()
    with pytest.raises(InvalidImage, match="nested deeper"):
        shelf.graph(two)


def test_the_number_of_objects_is_limited(shelf: Shelf) -> None:
    root = shelf.index(*(shelf.manifest(*(blob(f"{n} {m}") for m in range(5))) for n in range(5)))
    assert len(shelf.graph(root).blobs) == 26
    with limits.applied({"copied-objects": 10}), pytest.raises(InvalidImage, match="limit of 10 manifests and blobs"):
        shelf.graph(root)
    with limits.applied({"copied-manifest-bytes": 1000}), pytest.raises(InvalidImage, match="exceed the limit of 1000 bytes"):
        shelf.graph(root)


def config(shelf: Shelf, architecture: str) -> Mapping[str, object]:
    data = json.dumps({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    shelf.documents[Digest.of(data)] = data
    return Descriptor(MediaType.OCI_CONFIG, Digest.of(data), len(data)).to_json()


def test_the_image_for_a_platform_is_found(shelf: Shelf) -> None:
    amd, arm = (shelf.manifest(config=config(shelf, name)) for name in ("amd64", "arm64"))
    entries = (
        Descriptor(one.media_type, one.digest, one.size, platform=Platform("linux", name))
        for one, name in ((amd, "amd64"), (arm, "arm64"))
    )
    root = shelf.index(shelf.index(*entries))
    wanted = Platform("linux", "arm64")
    found = for_platform(root, wanted, "x", shelf.read, shelf.read)
    assert found.digest == arm.digest
    assert for_platform(arm, wanted, "x", shelf.read, shelf.read) == arm
    with pytest.raises(NotFound, match="x is an image for linux/amd64, not for linux/arm64"):
        for_platform(amd, wanted, "x", shelf.read, shelf.read)
    with pytest.raises(NotFound, match="x: the image has no manifest for linux/s390x") as caught:
        for_platform(root, Platform("linux", "s390x"), "x", shelf.read, shelf.read)
    assert caught.value.hint == "its platforms are: linux/amd64, linux/arm64"
    chart = shelf.manifest(config=blob("values", "application/vnd.cncf.helm.config.v1+json"))
    with pytest.raises(NotFound, match="x has no platform"):
        for_platform(chart, wanted, "x", shelf.read, shelf.read)
