"""Reads OCI archives with the standard library only, so that pybuild does not check its own output."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cli import Pybuild

_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar+gzip": gzip.decompress,
    "tar+zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(),
}


@dataclass(frozen=True)
class ReadImage:
    """One image of an archive, its layers uncompressed."""

    digest: str
    annotations: dict[str, str]
    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[bytes, ...]

    def names(self, layer: int) -> list[str]:
        """The paths in a layer, sorted."""
        with tarfile.open(fileobj=io.BytesIO(self.layers[layer])) as tar:
            return sorted(path for path in (clean(member.name) for member in tar) if path)

    @property
    def history(self) -> list[dict[str, Any]]:
        return list(self.config.get("history") or [])


def clean(name: str) -> str:
    return name.removeprefix("./").strip("/")


def read_archive(path: Path) -> ReadImage:
    """Read the only image in an archive, checking every digest, size and count."""
    with tarfile.open(path) as tar:
        members = {clean(member.name): member for member in tar}

        def data(name: str) -> bytes:
            file = tar.extractfile(members[name])
            assert file is not None
            return file.read()

        def blob(descriptor: dict[str, Any]) -> bytes:
            found = data("blobs/" + descriptor["digest"].replace(":", "/"))
            assert "sha256:" + hashlib.sha256(found).hexdigest() == descriptor["digest"]
            assert len(found) == descriptor["size"]
            return found

        assert json.loads(data("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        (descriptor,) = json.loads(data("index.json"))["manifests"]
        manifest = json.loads(blob(descriptor))
        config = json.loads(blob(manifest["config"]))
        layers = tuple(_UNPACK[layer["mediaType"].partition(".v1.")[2]](blob(layer)) for layer in manifest["layers"])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    assert len([line for line in config.get("history", []) if not line.get("empty_layer")]) == len(layers)
    return ReadImage(descriptor["digest"], descriptor.get("annotations", {}), manifest, config, layers)


def built_layers(pybuild: Pybuild, context: Path, tmp_path: Path, *flags: str) -> list[dict[str, tarfile.TarInfo]]:
    """Build to an archive; return the layers above the base, each as path -> member."""
    output = tmp_path / "out.tar"
    pybuild("--network=none", *flags, "-o", f"type=oci,dest={output}", context)
    found = []
    for layer in read_archive(output).layers[1:]:
        with tarfile.open(fileobj=io.BytesIO(layer), encoding="utf-8", errors="surrogateescape") as tar:
            found.append({clean(member.name): member for member in tar})
    return found
