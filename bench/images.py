"""Makes the base image without pybuild, so that pybuild does not read its own output."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def make_archive(root: Path, target: Path, name: str) -> None:
    """Write an OCI archive with one layer, the tar at `root`, compressed as in registries (gzip -6)."""
    layer = target.with_suffix(".layer")
    with open(layer, "wb") as out:
        subprocess.run(["gzip", "-6", "-n", "-c", root], stdout=out, check=True)
    config = _json(
        {
            "architecture": _MACHINES[platform.machine()],
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(root)]},
            "history": [{"created_by": "mmdebstrap"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("config.v1+json", _sha256(config), len(config)),
            "layers": [_descriptor("layer.v1.tar+gzip", _digest(layer), layer.stat().st_size)],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    **_descriptor("manifest.v1+json", _sha256(manifest), len(manifest)),
                    "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "bookworm"},
                }
            ],
        }
    )
    unfinished = target.with_suffix(".new")
    with tarfile.open(unfinished, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", index)
        for data in (manifest, config):
            _add(tar, _sha256(data).replace("sha256:", "blobs/sha256/"), data)
        tar.add(layer, _digest(layer).replace("sha256:", "blobs/sha256/"))
    layer.unlink()
    os.rename(unfinished, target)


def layer_digest(archive: Path) -> str:
    """The digest of the layer in an archive of `make_archive`."""
    with tarfile.open(archive) as tar:
        largest = max(tar, key=lambda member: member.size)
    return "sha256:" + largest.name.rpartition("/")[2]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": size}


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
