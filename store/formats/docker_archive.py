"""Docker archives, as `docker save`, `podman save` and skopeo write them: a tar with a manifest.json.

Source: moby's image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format", and what the tools do beyond it:

    manifest.json   [{"Config": NAME, "RepoTags": [NAME:TAG…] or null, "Layers": [NAME…]}…], names of this archive
    docker < 25     <config digest>.json, <id>/layer.tar with VERSION and json beside it; a layer that comes a second
                    time is a link to the first
    docker >= 25    blobs/sha256/<digest>, with an index.json and an oci-layout: it is read as a layout
    podman, skopeo  <config digest>.json, <diff_id>.tar, with links of the old names to them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Manifest
    from pybuild.store.formats.reference import Reference

MANIFEST = b"manifest.json"


def manifest_json(manifest: Manifest, names: list[Reference]) -> list[dict[str, object]]:
    """The manifest.json of an archive of one image, whose blobs lie where an OCI layout has them."""
    return [
        {
            "Config": _blob_path(manifest.config.digest),
            "RepoTags": [name.with_default_tag().familiar for name in names],
            "Layers": [_blob_path(layer.digest) for layer in manifest.layers],
        }
    ]


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
