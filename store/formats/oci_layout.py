"""OCI image layouts, in a tar or in a directory: the names in them, and their index.

Source: OCI image-spec, image-layout.md. The names of images are annotations of index.json: containerd's for the full
name, the spec's for the tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.formats.bounded_json import dump
from pybuild.store.formats.media_types import MediaType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor

NAME_ANNOTATION = "io.containerd.image.name"  # the full name
REF_ANNOTATION = "org.opencontainers.image.ref.name"  # the tag
LAYOUT, INDEX = b"oci-layout", b"index.json"
LAYOUT_JSON = b'{"imageLayoutVersion":"1.0.0"}'


def blob_name(digest: Digest) -> bytes:
    """The name of a blob in a layout."""
    return b"blobs/%s/%s" % (digest.algorithm.encode(), digest.hex.encode())


def index_json(entries: Iterable[Descriptor], annotations: dict[str, str] | None = None) -> bytes:
    """The bytes of index.json."""
    data = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_INDEX,
        "manifests": [entry.to_json() for entry in entries],
    }
    return dump({**data, **({"annotations": annotations} if annotations else {})})
