"""Importing images from OCI layouts, docker archives, and tars of root filesystems.

The names in a file show which of these it is. The whole archive can be compressed with gzip, zstd, xz or bzip2. A
compressed archive, and one that comes through a pipe, is first written to the ingest directory.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NameNeeded, NotFound
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import LAYER_TYPES, MediaType
from pybuild.store.formats.oci_config import ExecConfig, History, ImageConfig
from pybuild.store.formats.oci_layout import LAYOUT
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.sparse import PlainTar
from pybuild.store.formats.tar import SparseMember
from pybuild.store.importing.all_platforms import by_digest, import_all_platforms
from pybuild.store.importing.archive_file import STDIN, opened, spooled
from pybuild.store.importing.choice import choose
from pybuild.store.importing.detect import ArchiveForm, detect_form
from pybuild.store.importing.docker_archive import import_saved_image, saved_images
from pybuild.store.importing.intake import LayerStack, import_image
from pybuild.store.importing.members import ArchiveMembers, DirectoryMembers
from pybuild.store.importing.oci_layout import LayoutBlobs, layout_images, manifest_of
from pybuild.store.importing.outer_compression import is_compressed, without_outer_compression
from pybuild.store.objects.indexes import digest_of
from pybuild.store.system.disk_full import no_space
from pybuild.store.system.streams import Peeked
from pybuild.values.limits import LAYER_BYTES


class AllPlatforms(Enum):
    """In place of a platform: the images for all platforms, as one index."""

    ALL = "all"


ALL_PLATFORMS = AllPlatforms.ALL

if TYPE_CHECKING:
    from typing import BinaryIO

    from pybuild.store.importing.members import Members
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

    _Imported = list[tuple[Stored, list[Reference]]]
    _Wanted = Platform | AllPlatforms


def import_archive(
    store: Store, path: str, name: Reference | None, now: int, platform: Platform | AllPlatforms | None = None
) -> list[tuple[Digest, list[Reference]]]:
    """Import the archive or layout directory at `path`, or STDIN; return the digest of each manifest with its names.

    `name` chooses one of several images, and becomes its name in the store; a root filesystem needs one. Of images that
    differ in their platform alone the one for `platform` is imported (None: the platform of this machine), or all of them,
    as one index. A root filesystem becomes an image for this platform. Raises StoreError, OSError; then no image of the archive is in the
    store.
    """
    wanted = platform or Platform.host()
    try:
        if path != STDIN and os.path.isdir(path):
            with DirectoryMembers(path) as members:
                _require_layout(
                    members, path, hint="import a root filesystem as a tar: tar -C DIR -c . | pybuild import - NAME"
                )
                imported = _import_layout(store, members, name, wanted)
        else:
            with opened(path, store.ingest.new_path) as file:
                imported = _import_file(store, "standard input" if path == STDIN else path, file, name, wanted)
        store.seal()
    except OSError as error:
        raise no_space(error, store.root) from error
    for stored, names in imported:
        store.indexes.give_names(names, stored, now, recipe=f"import {os.path.basename(path)}")
    return [(digest_of(stored), names) for stored, names in imported]


def import_from_layout(
    store: Store, path: str, tag: str | None, digest: Digest | None, platform: Platform
) -> StoredImage:
    """Import one image of a layout directory without a name: the one with this tag or digest, or the only one.

    Of an index it is the one for `platform`.

    Raises StoreError.
    """
    try:
        with DirectoryMembers(path) as members:
            _require_layout(members, path)
            images = layout_images(members)
            if digest is not None:
                images = [image for image in images if image.item.digest == digest]
            elif tag is not None:
                images = [image for image in images if tag in (image.tag, *(name.tag for name in image.names))]
            if not images:
                raise NotFound(f"the layout {path} has no image {digest or tag}")
            (chosen,) = choose(images, Reference.parse("context"), platform)
            blobs = LayoutBlobs(members)
            return import_image(store, blobs, manifest_of(blobs, chosen.item, platform))
    except OSError as error:
        raise no_space(error, store.root) from error


def _require_layout(members: DirectoryMembers, path: str, hint: str | None = None) -> None:
    if LAYOUT not in members:
        raise InvalidImage(f"the directory {path} is not an OCI layout: it has no file oci-layout", hint=hint)


def _import_file(store: Store, shown: str, file: BinaryIO, name: Reference | None, wanted: _Wanted) -> _Imported:
    peeked = Peeked(file)
    if not peeked.start:
        raise InvalidImage("the archive is empty")
    compressed = is_compressed(peeked.start)
    form = detect_form(DecompressingReader(without_outer_compression(peeked)))
    file.seek(0)
    if form is ArchiveForm.ROOTFS:
        if name is None:
            raise NameNeeded(
                f"{shown} contains a root filesystem, which has no name", hint="give one: pybuild import FILE NAME"
            )
        return [(_import_rootfs(store, file, _one(wanted)), [name])]
    plain_stream = DecompressingReader(without_outer_compression(Peeked(file))) if compressed else None
    with spooled(plain_stream, store.ingest.new_path) if plain_stream else nullcontext(file) as plain:
        if form is ArchiveForm.LAYOUT:
            return _import_layout(store, ArchiveMembers(plain), name, wanted)
        return _import_saved(store, ArchiveMembers(plain, links=True), name, _one(wanted))


def _one(wanted: _Wanted) -> Platform:
    """The platform where there are no indexes."""
    return Platform.host() if isinstance(wanted, AllPlatforms) else wanted


def _import_layout(store: Store, members: Members, name: Reference | None, wanted: _Wanted) -> _Imported:
    blobs = LayoutBlobs(members)
    if isinstance(wanted, AllPlatforms):
        return import_all_platforms(store, blobs, layout_images(members), name)
    # Names and indexes first, so that an error in them is reported before the work on the layers.
    manifests = [
        (manifest_of(blobs, chosen.item, wanted), chosen.names)
        for chosen in choose(layout_images(members), name, wanted)
    ]
    images: dict[Digest, StoredImage] = {}  # by the digest in the layout
    for descriptor, _ in manifests:
        if descriptor.digest not in images:
            images[descriptor.digest] = import_image(store, blobs, descriptor)
    return by_digest((images[descriptor.digest], names) for descriptor, names in manifests)


def _import_saved(store: Store, members: Members, name: Reference | None, wanted: Platform) -> _Imported:
    images = choose(saved_images(members), name, wanted)
    return by_digest((import_saved_image(store, members, image.item), image.names) for image in images)


def _import_rootfs(store: Store, file: BinaryIO, wanted: Platform) -> StoredImage:
    """Import a tar of files as an image with one layer.

    The tar's bytes stay as they are, unless it has sparse files; only compression is added.
    """
    stack = LayerStack(store)
    try:
        blob = stack.put_tar(file, None)
    except SparseMember:  # in a layer, a file is in one piece
        file.seek(0)
        plain = PlainTar(DecompressingReader(without_outer_compression(Peeked(file))), LAYER_BYTES)
        stack = LayerStack(store)
        blob = stack.put_tar(plain, None)
    config = ImageConfig(
        architecture=wanted.architecture,
        os=wanted.os,
        variant=wanted.variant,
        created=None,
        author="",
        config=ExecConfig(),
        diff_ids=(blob.diff_id,),
        history=(History(created=None, created_by="import of a root filesystem"),),
    )
    config_bytes = config.to_bytes()
    manifest = Manifest(
        config=Descriptor(MediaType.OCI_CONFIG, Digest.of(config_bytes), len(config_bytes)),
        layers=(Descriptor(LAYER_TYPES[blob.compression], blob.digest, blob.size),),
        media_type=MediaType.OCI_MANIFEST,
    )
    return store.images.add(manifest.to_bytes(), config_bytes, stack.snapshot, stack.scratch())
