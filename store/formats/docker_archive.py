"""The manifest.json of a Docker archive, a tar as `docker save`, `podman save` and skopeo write it.

Source: moby's image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format", and the tools' own additions:

    manifest.json   [{"Config": NAME, "RepoTags": [NAME:TAG…] or null, "Layers": [NAME…]}…]; Config and Layers
                    name files in the archive
    docker < 25     <config digest>.json, <id>/layer.tar next to VERSION and json; a layer that occurs again is a link
                    to its first occurrence
    docker >= 25    blobs/sha256/<digest>, with an index.json and an oci-layout: pybuild reads it as an OCI layout
    podman, skopeo  <config digest>.json, <diff_id>.tar, with links from the old names to them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.formats.oci_layout import blob_name

if TYPE_CHECKING:
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Manifest
    from pybuild.store.formats.reference import Reference

MANIFEST = b"manifest.json"


def manifest_json(manifest: Manifest, names: list[Reference]) -> list[dict[str, object]]:
    """The manifest.json for an archive of one image whose blobs have the names of an OCI layout."""
    return [
        {
            "Config": _blob_path(manifest.config.digest),
            "RepoTags": [name.with_default_tag().familiar for name in names],
            "Layers": [_blob_path(layer.digest) for layer in manifest.layers],
        }
    ]


def _blob_path(digest: Digest) -> str:
    return blob_name(digest).decode()
