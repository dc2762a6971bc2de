"""Exporting images of the store as OCI layouts and docker archives, to a tar or a directory.

The output is a function of the image and its names alone. A docker archive is also an OCI layout, as in BuildKit and
docker since version 25: its manifest.json refers to the blobs of the layout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.exporting.layout import LayoutContent, publish_layout, write_layout_tar
from pybuild.store.exporting.publish import nothing, replacing
from pybuild.store.formats.docker_archive import manifest_json
from pybuild.store.formats.oci_layout import named_entries
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.objects.indexes import StoredIndex, digest_of, images_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.indexes import Stored


def write_archive(blobs: Blobs, image: Stored, names: list[Reference], out: BinaryIO, *, docker: bool = False) -> None:
    """Write an image as a tar; every blob is verified (`Blobs.copy`). Raises DigestMismatch, OSError."""
    write_layout_tar(_content(blobs, image, names, docker=docker), out)


def publish_archive(
    blobs: Blobs,
    image: Stored,
    names: list[Reference],
    destination: str,
    *,
    docker: bool = False,
    ready: Callable[[], None] = nothing,
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Write an archive to a path, completely or not at all. Raises OSError, NoSpace, DigestMismatch.

    `ready` is called when only the final name is missing; if it raises an error, the path is as before. `annotations` are
    those of the image's entry, besides its names.
    """
    with replacing(destination) as out:
        write_layout_tar(_content(blobs, image, names, annotations, docker=docker), out)
        out.flush()
        ready()


def publish_directory(
    blobs: Blobs,
    image: Stored,
    names: list[Reference],
    destination: str,
    *,
    ready: Callable[[], None] = nothing,
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Write an image into a new or an existing layout directory, as `publish_layout` does. `annotations`: as above."""
    publish_layout(_content(blobs, image, names, annotations), destination, ready=ready)


def _content(
    blobs: Blobs,
    image: Stored,
    names: list[Reference],
    annotations: Mapping[str, str] | None = None,
    *,
    docker: bool = False,
) -> LayoutContent:
    digest, platform, saved = digest_of(image), None, None
    if isinstance(image, StoredIndex):
        kind = image.index.media_type
    else:
        kind, config = image.manifest.media_type, image.config
        platform = replace(config.platform, architecture=config.architecture, variant=config.variant)
        saved = manifest_json(image.manifest, names) if docker else None
    entry = Descriptor(kind, digest, blobs.size(digest) or 0, annotations or {}, platform=platform)
    parts = [digest]
    for one in images_of(image):
        parts += [one.manifest_digest, one.manifest.config.digest, *(layer.digest for layer in one.manifest.layers)]
    return LayoutContent(named_entries(entry, names), tuple(dict.fromkeys(parts)), blobs.open, blobs.copy, saved)
