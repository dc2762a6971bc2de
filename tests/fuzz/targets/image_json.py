"""The JSON of images: manifest, index, config, oci-layout, and the manifest.json of docker archives.

Each reader gets the same bytes, alone and after another document that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pybuild.builder.errors import PlanError
from pybuild.store.errors import StoreError
from pybuild.store.formats.bounded_json import dump, load_object
from pybuild.store.formats.docker_archive import MANIFEST
from pybuild.store.formats.oci_config import ImageConfig, check_image, normalise_history
from pybuild.store.formats.oci_layout import INDEX, LAYOUT, LAYOUT_JSON
from pybuild.store.formats.oci_manifest import Index, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.importing.choice import ArchivedImage, choose
from pybuild.store.importing.docker_archive import saved_images
from pybuild.store.importing.oci_layout import layout_images
from tests.fuzz.target import FuzzTarget, check_refusal
from tests.support.limits import at_most
from tests.support.recipes import Images, image, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
PLATFORM = Platform("linux", "amd64")


class OneMember:
    """An archive with the bytes under each name, but for the file that says that it is a layout."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __contains__(self, name: bytes) -> bool:
        return name in (INDEX, LAYOUT, MANIFEST)

    def size(self, name: bytes) -> int:
        return len(self._bytes(name))

    def chunks(self, name: bytes) -> Iterator[bytes]:
        yield self._bytes(name)

    def _bytes(self, name: bytes) -> bytes:
        return LAYOUT_JSON if name == LAYOUT else self._data


def read(data: bytes) -> bool:
    """What a reader accepts, it writes, and reads again as the same value."""
    readers: tuple[Callable[[bytes], None], ...] = (_object, _manifest, _index, _config, _layout, _docker)
    accepted = False
    for reader in readers:
        try:
            reader(data)
        except StoreError as error:
            check_refusal(error)
        else:
            accepted = True
    return accepted


def _object(data: bytes) -> None:
    value = load_object(data, "document", limit=at_most(1 << 20))
    assert load_object(dump(value), "document", limit=at_most(1 << 22)) == value


def _manifest(data: bytes) -> None:
    found = Manifest.from_bytes(data)
    assert Manifest.from_bytes(found.to_bytes(), found.media_type) == found
    config = ImageConfig("amd64", "linux", "", None, "", image().config.config, (), ())
    if not found.layers:
        check_image(found, config)


def _index(data: bytes) -> None:
    Index.from_bytes(data).select(PLATFORM)


def _config(data: bytes) -> None:
    found = ImageConfig.from_bytes(data)
    written = ImageConfig.from_bytes(found.to_bytes())
    assert written.to_bytes() == found.to_bytes() and written.diff_ids == found.diff_ids
    lines = normalise_history(found).history
    assert sum(not line.empty_layer for line in lines) == len(found.diff_ids)
    try:
        planned("FROM base\nENV x=$PATH\nWORKDIR y\nRUN z\nEXPOSE 1\nLABEL a=b", Images({"base": image(found.config)}))
    except PlanError as error:
        check_refusal(error)


def _layout(data: bytes) -> None:
    _choose(layout_images(OneMember(data)))


def _docker(data: bytes) -> None:
    _choose(saved_images(OneMember(data)))


def _choose(images: list[ArchivedImage[T]]) -> None:
    chosen = choose(images, None, PLATFORM)
    names = [name for one in chosen for name in one.names]
    assert len(names) == len(set(names))


DIGEST = b"sha256:" + b"0a" * 32
DESCRIPTOR = b'{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"' + DIGEST + b'","size":5}'
TARGET = FuzzTarget(
    read,
    seeds=(
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":' + DESCRIPTOR
        + b',"layers":[' + DESCRIPTOR + b'],"annotations":{"a":"b"},"subject":{}}',
        b'{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"' + DIGEST
        + b'","size":7,"platform":{"os":"linux","architecture":"amd64","variant":"v1"},"annotations":'
        b'{"org.opencontainers.image.ref.name":"1.0","io.containerd.image.name":"docker.io/a/b:1.0"}}]}',
        b'{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","author":"x","config":{"User":"1:2","Env":'
        b'["PATH=/bin","B="],"Cmd":["a"],"Entrypoint":[],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"WorkingDir":"/w",'
        b'"Labels":{"l":"m"},"StopSignal":"SIGTERM","Shell":["sh","-c"],"Healthcheck":{"Test":["NONE"],"Interval":5},'
        b'"OnBuild":["RUN a","COPY . /b"],"ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":["' + DIGEST
        + b'"]},"history":[{"created_by":"a","empty_layer":true},{"comment":"c"}],"other":[1,2.5,null]}',
        b'[{"Config":"' + b"0a" * 32 + b'.json","RepoTags":["a/b:1",null],"Layers":["x/layer.tar"]}]',
        b'[{"Config":"config.json","RepoTags":null,"Layers":[]},{"Config":"c","RepoTags":["debian"],"Layers":["l"]}]',
        b'{"imageLayoutVersion":"1.0.0"}',
    ),
    words=(
        b'"schemaVersion":2', b'"mediaType":', b'"digest":', b'"size":', b'"layers":', b'"manifests":', b'"config":', b'"rootfs":',
        b'"diff_ids":', b'"history":', b'"OnBuild":', b'"Env":', b'"Healthcheck":', b'"platform":', b'"annotations":', b"null",
        b"true", b"1e999", b"-0", b"99999999999999999999", b"NaN", b"\\u0000", b"\\ud800", b"[[[[[[[[", b'{"a":{"a":', b",", DIGEST,
        b"sha512:", b"application/vnd.docker.distribution.manifest.v2+json", b"nondistributable", b'"ONBUILD ', b"\xff", b'\\"',
    ),
)  # fmt: skip
