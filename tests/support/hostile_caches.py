"""Caches that somebody spoiled: a real cache as values that a test changes, in a directory or in a registry."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import zstandard

from pybuild.store.formats.cache_image import CacheImage, cache_image, carried_index
from pybuild.store.formats.cache_index import CachedLayer, CacheIndex, CacheRecord
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER, chain_id
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from tests.support.caches import LINUX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.upload_registry import UploadRegistry

REPOSITORY = "team/app"


@dataclass
class SpoiledCache:
    """The records of a cache and its layers, by digest."""

    index: CacheIndex
    blobs: dict[Digest, bytes]

    @staticmethod
    def read(directory: Path) -> SpoiledCache:
        """What a build wrote into a directory."""
        held = {Digest.parse(f"sha256:{path.name}"): path.read_bytes() for path in (directory / "blobs/sha256").iterdir()}
        (entry,) = json.loads((directory / "index.json").read_text())["manifests"]
        manifest = Manifest.from_bytes(held[Digest.parse(entry["digest"])])
        index = carried_index(manifest, held[manifest.config.digest])
        return SpoiledCache(index, {layer.digest: held[layer.digest] for layer in index.layers})

    def copy(self) -> SpoiledCache:
        return SpoiledCache(self.index, dict(self.blobs))

    def record(self, words: str) -> CacheRecord:
        """The record of the one step with a layer whose instruction contains these words."""
        (found,) = (one for one in self.index.records if words in one.step.instruction and one.layer is not None)
        return found

    def layer(self, words: str) -> CachedLayer:
        """The layer of a step."""
        layer = self.record(words).layer
        assert layer is not None
        return layer

    def change(self, words: str, change: Callable[[CacheRecord], CacheRecord]) -> None:
        """Change the record of a step. Records that stood on it stand on what it is now."""
        self.replace(self.record(words), change(self.record(words)))

    def replace(self, old: CacheRecord, new: CacheRecord) -> None:
        moved = {old.chain: new.chain}
        records = []
        for record in self.index.records:  # a record comes after the one that it stands on
            changed = new if record is old else record
            if record is not old and record.layer is not None and record.below in moved:
                changed = replace(record, below=moved[record.below])
                moved[record.chain] = changed.chain
            records.append(changed)
        self.index = CacheIndex(tuple(records))

    def give_layer(self, words: str, blob: bytes, *, diff_id: Digest | None = None, size: int | None = None) -> Digest:
        """Give a step another blob as its layer, with the diff_id that it has, or another one. Returns the blob's digest."""
        digest = Digest.of(blob)
        self.blobs[digest] = blob

        def change(record: CacheRecord) -> CacheRecord:
            assert record.layer is not None
            layer = CachedLayer(
                diff_id or record.layer.diff_id, digest, len(blob) if size is None else size, Compression.GZIP
            )
            return replace(record, layer=layer)

        self.change(words, change)
        return digest

    def give_tar(self, words: str, tar: bytes) -> Digest:
        """Give a step another layer, with a record that is right about it. Returns the blob's digest."""
        return self.give_layer(words, gzip.compress(tar, mtime=0), diff_id=Digest.of(tar))

    def image(self) -> CacheImage:
        return cache_image(self.index, LINUX)

    def image_with(self, change: Callable[[dict[str, Any]], None]) -> CacheImage:
        """The image whose index was changed as JSON."""
        image = self.image()
        config = json.loads(image.config)
        index = json.loads(zstandard.ZstdDecompressor().decompress(base64.b64decode(config[CACHE_MEMBER])))
        change(index)
        packed = zstandard.compress(json.dumps(index).encode())
        config[CACHE_MEMBER] = base64.b64encode(packed).decode()
        return with_config(image, json.dumps(config).encode())

    def write(self, directory: Path, image: CacheImage | None = None) -> str:
        """Write it into a new directory; return the option of a build that reads it."""
        image = image or self.image()
        blobs = directory / "blobs" / "sha256"
        if directory.exists():
            shutil.rmtree(directory)
        blobs.mkdir(parents=True)
        for digest, data in {**self.blobs, image.digest: image.manifest, image.config_digest: image.config}.items():
            (blobs / digest.hex).write_bytes(data)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = Descriptor(MediaType.OCI_MANIFEST, image.digest, len(image.manifest)).to_json()
        entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"--cache-from=type=local,src={directory}"

    def serve(self, registry: UploadRegistry, tag: str = "cache", image: CacheImage | None = None) -> str:
        """Put it into a registry; return the option of a build that reads it."""
        image = image or self.image()
        held = registry.blobs.setdefault(REPOSITORY, {})
        held.update({str(digest): data for digest, data in self.blobs.items()})
        held[str(image.config_digest)] = image.config
        manifests = registry.manifests.setdefault(REPOSITORY, {})
        manifests[tag] = manifests[str(image.digest)] = image.manifest
        return f"--cache-from=type=registry,ref={registry.host}/{REPOSITORY}:{tag}"


def with_config(image: CacheImage, config: bytes) -> CacheImage:
    """The image with another config."""
    descriptor = Descriptor(MediaType.OCI_CONFIG, Digest.of(config), len(config))
    manifest = json.dumps({**json.loads(image.manifest), "config": descriptor.to_json()}).encode()
    return CacheImage(image.index, manifest, config)


def with_keys(record: CacheRecord, keys: Mapping[str, str], canonical: str | None = None) -> CacheRecord:
    return replace(record, keys=dict(keys), canonical=canonical or record.canonical)


def stacked(below: Digest | None, diff_id: Digest) -> Digest:
    """The chain ID of a layer on other layers."""
    return diff_id if below is None else chain_id((below, diff_id))
