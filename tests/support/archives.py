"""Makes OCI archives by hand, valid and invalid ones."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field

from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from tests.support.tars import directory, entry, tar


@dataclass
class Archive:
    """An image as an OCI archive; the fields can be changed until `data()` assembles it."""

    layers: list[bytes] = field(default_factory=lambda: [tar(entry(b"f", data=b"hello"))])
    compress: bool = True
    media_type: str | None = None
    diff_ids: list[str] | None = None
    history: list[dict[str, object]] | None = None
    annotations: dict[str, str] = field(
        default_factory=lambda: {"io.containerd.image.name": "docker.io/library/test:1"}
    )
    layer_fields: dict[str, object] = field(default_factory=dict)
    manifest_fields: dict[str, object] = field(default_factory=dict)
    config_fields: dict[str, object] = field(default_factory=dict)
    index_fields: dict[str, object] = field(default_factory=dict)
    index_descriptor: dict[str, object] = field(default_factory=dict)
    layout: bytes | None = b'{"imageLayoutVersion":"1.0.0"}'
    lose: str = ""  # "layer", "config" or "manifest": the blob to leave out
    spoil: str = ""  # the same: the blob to corrupt
    extra: list[bytes] = field(default_factory=list)

    def blob_of_layer(self, layer: bytes) -> bytes:
        return gzip.compress(layer, mtime=0) if self.compress else layer

    def data(self) -> bytes:
        blobs: dict[str, bytes] = {}

        def put(kind: str, data: bytes) -> tuple[str, int]:
            digest = Digest.of(data)
            if kind != self.lose:
                blobs[digest.hex] = data[:-1] + bytes((data[-1] ^ 1,)) if kind == self.spoil else data
            return str(digest), len(data)

        kind = self.media_type or (MediaType.OCI_LAYER_GZIP if self.compress else MediaType.OCI_LAYER)
        layers = []
        for layer in self.layers:
            digest, size = put("layer", self.blob_of_layer(layer))
            layers.append({"mediaType": kind, "digest": digest, "size": size, **self.layer_fields})
        diff_ids = self.diff_ids if self.diff_ids is not None else [str(Digest.of(layer)) for layer in self.layers]
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **({} if self.history is None else {"history": self.history}), **self.config_fields,
        }  # fmt: skip
        config_digest, config_size = put("config", json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2, "mediaType": MediaType.OCI_MANIFEST,
            "config": {"mediaType": MediaType.OCI_CONFIG, "digest": config_digest, "size": config_size},
            "layers": layers, **self.manifest_fields,
        }  # fmt: skip
        digest, size = put("manifest", json.dumps(manifest).encode())
        entry_ = {"mediaType": MediaType.OCI_MANIFEST, "digest": digest, "size": size, "annotations": self.annotations}
        index = {"schemaVersion": 2, "manifests": [{**entry_, **self.index_descriptor}], **self.index_fields}
        members = [] if self.layout is None else [entry(b"oci-layout", data=self.layout)]
        members += [
            entry(b"index.json", data=json.dumps(index).encode()),
            directory(b"blobs/"),
            directory(b"blobs/sha256/"),
        ]
        members += [entry(b"blobs/sha256/" + name.encode(), data=data) for name, data in blobs.items()]
        return tar(*members, *self.extra)
