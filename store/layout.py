"""OCI image layouts, in a tar or in a directory: the names in them, and their index.

Source: OCI image-spec, image-layout.md. The names of images are annotations of index.json: containerd's for the full
name, the spec's for the tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.jsonio import dump
from pybuild.store.spec import Descriptor, MediaType, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.digest import Digest
    from pybuild.store.images import Image
    from pybuild.store.reference import Reference

NAME_ANNOTATION = "io.containerd.image.name"  # the full name
REF_ANNOTATION = "org.opencontainers.image.ref.name"  # the tag
LAYOUT, INDEX = b"oci-layout", b"index.json"
LAYOUT_JSON = b'{"imageLayoutVersion":"1.0.0"}'


def blob_name(digest: Digest) -> bytes:
    """The name of a blob in a layout."""
    return b"blobs/%s/%s" % (digest.algorithm.encode(), digest.hex.encode())


def index_entries(image: Image, size: int, names: Iterable[Reference]) -> list[Descriptor]:
    """What index.json says about an image whose manifest has `size` bytes: one entry for each of its names."""
    config = image.config
    platform = Platform(config.os, config.architecture, config.variant)
    full = [name.with_default_tag() for name in names]
    annotations = [{NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag or ""} for name in full]
    return [
        Descriptor(image.manifest.media_type, image.manifest_digest, size, given, platform)
        for given in annotations or [{}]
    ]


def index_json(entries: Iterable[Descriptor], annotations: dict[str, str] | None = None) -> bytes:
    """The bytes of index.json."""
    data = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_INDEX,
        "manifests": [entry.to_json() for entry in entries],
    }
    return dump({**data, **({"annotations": annotations} if annotations else {})})
