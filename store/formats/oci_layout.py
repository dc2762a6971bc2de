"""OCI image layouts, as a tar or a directory: their file names and index.json.

Source: OCI image-spec, image-layout.md. Annotations in index.json hold the names of images: containerd's annotation has
the full name, the spec's has the tag.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.formats.bounded_json import dump
from pybuild.store.formats.media_types import MediaType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.reference import Reference

NAME_ANNOTATION = "io.containerd.image.name"  # the full name
REF_ANNOTATION = "org.opencontainers.image.ref.name"  # the tag
LAYOUT, INDEX = b"oci-layout", b"index.json"
LAYOUT_JSON = b'{"imageLayoutVersion":"1.0.0"}'


def blob_name(digest: Digest) -> bytes:
    """The path of a blob in a layout."""
    return b"blobs/%s/%s" % (digest.algorithm.encode(), digest.hex.encode())


def index_json(entries: Iterable[Descriptor], annotations: dict[str, str] | None = None) -> bytes:
    """The bytes of index.json."""
    data = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_INDEX,
        "manifests": [entry.to_json() for entry in entries],
    }
    return dump({**data, **({"annotations": annotations} if annotations else {})})


def named_entries(image: Descriptor, names: Sequence[Reference], tag: str = "") -> tuple[Descriptor, ...]:
    """The entries of an image in index.json: one for each of its names, or one without a full name.

    `tag` is for the latter: a name that is a tag alone, as skopeo and umoci write it.
    """
    full = [name.with_default_tag() for name in names]
    annotations = [{NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag or ""} for name in full]
    alone = {REF_ANNOTATION: tag} if tag else {}
    return tuple(replace(image, annotations={**image.annotations, **each}) for each in annotations or [alone])
