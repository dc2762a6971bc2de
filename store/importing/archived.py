"""Reading an image of an archive or a layout that is not imported: its config, history, layers and files.

Everything is verified as an import does it, under the same limits, and nothing is stored. Layers are read only if their
files are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.compression import Compression, DecompressingReader, sniff
from pybuild.store.formats.docker_archive import MANIFEST
from pybuild.store.formats.image_graph import read_graph
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_layout import LAYOUT
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Toc
from pybuild.store.importing.archive_file import STDIN, opened_plain
from pybuild.store.importing.choice import choose_one, choose_one_group
from pybuild.store.importing.chunk_reader import ChunkReader
from pybuild.store.importing.docker_archive import import_saved_image, saved_config, saved_images
from pybuild.store.importing.intake import check_diff_id, import_image, read_blob, read_layer_blob
from pybuild.store.importing.members import ArchiveMembers, DirectoryMembers
from pybuild.store.importing.oci_layout import LayoutBlobs, layout_images, manifest_of
from pybuild.store.importing.outer_compression import without_outer_compression
from pybuild.store.layers.errors import layer_errors
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import View
from pybuild.store.system.streams import Peeked
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.reference import Reference
    from pybuild.store.importing.choice import ArchivedImage
    from pybuild.store.importing.docker_archive import SavedImage
    from pybuild.store.importing.members import Members, PlacedMembers
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store
    from pybuild.store.system.streams import Readable


class ArchiveKind(Enum):
    """What a place is. The values are the prefixes that skopeo and podman have for them."""

    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    OCI_LAYOUT = "oci"


@frozen
class ArchivePlace:
    """An image that a user named as KIND:PATH[:NAME]; without a NAME it is the only image there."""

    kind: ArchiveKind
    path: str
    name: str

    @property
    def exists(self) -> bool:
        """Whether there is something at the path."""
        return self.path == STDIN or os.path.lexists(self.path)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.path}"


@frozen
class ImageLayer:
    """A layer: the digest of its blob, None if the archive does not tell it; that of its tar; the bytes of the blob."""

    digest: Digest | None
    diff_id: Digest
    size: int


@frozen
class ReadableImage:
    """An image that can be read as long as its archive, or its store, is open. Layers stand in order, the lowest first.

    An image of a docker archive has no manifest. `tables` reads the tables of contents of the layers, `open_tar` the
    tar of one layer, by its number from 0; both raise StoreError if a layer is damaged.
    """

    names: tuple[str, ...]
    digest: Digest | None
    manifest: Manifest | None
    config: ImageConfig
    layers: tuple[ImageLayer, ...]
    tables: Callable[[], list[Toc]]
    open_tar: Callable[[int], AbstractContextManager[Readable]]


def archive_place(text: str) -> ArchivePlace | None:
    """The archive that a text names, None if it has no such prefix.

    A path can contain colons: the longest part that exists is the path.
    """
    prefix, colon, rest = text.partition(":")
    kind = next((kind for kind in ArchiveKind if kind.value == prefix), None)
    if kind is None or not colon:
        return None
    path, name = rest, ""
    while not os.path.lexists(path):
        path, colon, more = path.rpartition(":")
        if not colon:
            path, _, name = rest.partition(":")
            break
        name = f"{more}:{name}" if name else more
    return ArchivePlace(kind, path, name)


@contextmanager
def open_archived(
    place: ArchivePlace, scratch: Callable[[], str], platform: Platform | None = None
) -> Iterator[ReadableImage]:
    """The image at a place. `scratch` gives an unused path in an ingest directory.

    It must be for `platform`; None: of several that differ in nothing else, it is the one for this machine. Raises
    StoreError, OSError.
    """
    with open_members(place, scratch) as members:
        if place.kind is ArchiveKind.DOCKER_ARCHIVE:
            image = _saved(members, _chosen_saved(members, place, platform))
        else:
            blobs = LayoutBlobs(members)
            image = _of_layout(blobs, *_chosen_in_layout(members, blobs, place, platform))
        _require_platform(place, image.config, platform)
        yield image


@contextmanager
def open_all_archived(place: ArchivePlace, scratch: Callable[[], str]) -> Iterator[list[ReadableImage]]:
    """As `open_archived`, but the images for all platforms. A docker archive has one. Raises StoreError, OSError."""
    with open_members(place, scratch) as members:
        if place.kind is ArchiveKind.DOCKER_ARCHIVE:
            yield [_saved(members, _chosen_saved(members, place, None))]
            return
        blobs = LayoutBlobs(members)
        group = choose_one_group(layout_images(members), place.name, str(place))
        manifests: dict[Digest, Descriptor] = {}
        for one in group:
            try:
                graph = read_graph(one.item, lambda descriptor: read_blob(blobs, descriptor, MANIFEST_BYTES))
            except NotFound as error:  # an index of which the archive has some images
                raise NotFound(str(error), hint="it is incomplete; --platform chooses an image that it has") from None
            manifests.update((document.descriptor.digest, document.descriptor) for document in graph.images)
        if not manifests:
            raise InvalidImage(f"{place} has no image of a root filesystem")
        yield [_of_layout(blobs, group[0], descriptor) for descriptor in manifests.values()]


def import_archived(
    store: Store, place: ArchivePlace, scratch: Callable[[], str], platform: Platform | None = None
) -> tuple[StoredImage, tuple[Reference, ...]]:
    """Import the image that `open_archived` opens, without a name; return it with the names that it has there.

    Raises StoreError, OSError.
    """
    with open_members(place, scratch) as members:
        if place.kind is ArchiveKind.DOCKER_ARCHIVE:
            saved = _chosen_saved(members, place, platform)
            image, names = import_saved_image(store, members, saved.item), saved.names
        else:
            blobs = LayoutBlobs(members)
            chosen, descriptor = _chosen_in_layout(members, blobs, place, platform)
            image, names = import_image(store, blobs, descriptor), chosen.names
    _require_platform(place, image.config, platform)
    return image, names


def _require_platform(place: ArchivePlace, config: ImageConfig, platform: Platform | None) -> None:
    found = config.platform
    if platform is not None and not found.matches(platform):
        raise NotFound(f"{place} is an image for {found}, not for {platform}")


@contextmanager
def open_members(place: ArchivePlace, scratch: Callable[[], str]) -> Iterator[PlacedMembers]:
    """The files of a place, after a look at what it is."""
    is_directory = os.path.isdir(place.path)
    if is_directory is not (place.kind is ArchiveKind.OCI_LAYOUT):
        what, prefix = ("directory", ArchiveKind.OCI_LAYOUT) if is_directory else ("file", ArchiveKind.OCI_ARCHIVE)
        if os.path.lexists(place.path):
            raise InvalidImage(f"{place}: {place.path} is a {what}", hint=f"write {prefix.value}:{place.path}")
    if place.kind is ArchiveKind.OCI_LAYOUT:
        with DirectoryMembers(place.path) as directory:
            _require(directory, LAYOUT, place, "an OCI layout")
            yield directory
        return
    with opened_plain(place.path, scratch) as file:
        docker = place.kind is ArchiveKind.DOCKER_ARCHIVE
        archive = ArchiveMembers(file, links=docker)
        if docker:
            _require(archive, MANIFEST, place, "an archive of `docker save`", ArchiveKind.OCI_ARCHIVE, LAYOUT)
        else:
            _require(archive, LAYOUT, place, "an OCI archive", ArchiveKind.DOCKER_ARCHIVE, MANIFEST)
        yield archive


def _require(
    members: Members, name: bytes, place: ArchivePlace, what: str, other: ArchiveKind | None = None, sign: bytes = b""
) -> None:
    """Raise InvalidImage if a file is missing; `sign` is the file that shows that the place is of the `other` kind."""
    if name not in members:
        hint = f"write {other.value}:{place.path}" if other is not None and sign in members else None
        raise InvalidImage(f"{place.path} is not {what}: it has no {show(name)}", hint=hint)


def _chosen_in_layout(
    members: Members, blobs: LayoutBlobs, place: ArchivePlace, platform: Platform | None
) -> tuple[ArchivedImage[Descriptor], Descriptor]:
    """The image that is meant, and the descriptor of its manifest."""
    wanted = platform or Platform.host()
    chosen = choose_one(layout_images(members), place.name, wanted, str(place))
    return chosen, manifest_of(blobs, chosen.item, wanted)


def _of_layout(blobs: LayoutBlobs, chosen: ArchivedImage[Descriptor], descriptor: Descriptor) -> ReadableImage:
    manifest = Manifest.from_bytes(read_blob(blobs, descriptor, MANIFEST_BYTES), descriptor.media_type)
    config = ImageConfig.from_bytes(read_blob(blobs, manifest.config, CONFIG_BYTES))
    check_image(manifest, config)
    pairs = list(zip(manifest.layers, config.diff_ids, strict=True))

    def tables() -> list[Toc]:
        below: list[Toc] = []
        for layer, diff_id in pairs:
            with layer_errors(layer.digest):
                entries, _ = read_layer_blob(blobs, layer, diff_id, View(below), len)
                below.insert(0, Toc.of(entries))
        return below[::-1]

    @contextmanager
    def open_tar(number: int) -> Iterator[Readable]:
        layer = pairs[number][0]
        chunks = ChunkReader(blobs.chunks(layer))
        try:
            yield DecompressingReader(chunks, COMPRESSIONS.get(layer.media_type), hashed=False)
        finally:
            chunks.close()

    layers = tuple(ImageLayer(layer.digest, diff_id, layer.size) for layer, diff_id in pairs)
    return ReadableImage(_names(chosen), descriptor.digest, manifest, config, layers, tables, open_tar)


def _saved(members: Members, chosen: ArchivedImage[SavedImage]) -> ReadableImage:
    _, config = saved_config(members, chosen.item)
    pairs = list(zip(chosen.item.layers, config.diff_ids, strict=True))

    def tables() -> list[Toc]:
        below: list[Toc] = []
        for name, diff_id in pairs:
            with layer_errors(f"{show(name)} ({diff_id})"):
                expander = _expanded(ChunkReader(members.chunks(name)))
                entries = read_layer(expander, View(below))
                check_diff_id(expander.diff_id(), diff_id)
                below.insert(0, Toc.of(entries))
        return below[::-1]

    @contextmanager
    def open_tar(number: int) -> Iterator[Readable]:
        chunks = ChunkReader(members.chunks(pairs[number][0]))
        try:
            yield _expanded(chunks)
        finally:
            chunks.close()

    layers = tuple(ImageLayer(None, diff_id, members.size(name)) for name, diff_id in pairs)
    return ReadableImage(_names(chosen), None, None, config, layers, tables, open_tar)


def _expanded(raw: ChunkReader) -> DecompressingReader:
    """The tar of a layer of a docker archive, which can have any compression."""
    peeked = Peeked(raw)
    compression = sniff(peeked.start)
    plain = compression is Compression.UNCOMPRESSED
    return DecompressingReader(without_outer_compression(peeked) if plain else peeked, compression)


def _chosen_saved(members: Members, place: ArchivePlace, platform: Platform | None) -> ArchivedImage[SavedImage]:
    return choose_one(saved_images(members), place.name, platform or Platform.host(), str(place))


def _names(chosen: ArchivedImage[Descriptor] | ArchivedImage[SavedImage]) -> tuple[str, ...]:
    return tuple(name.familiar for name in chosen.names) or ((chosen.tag,) if chosen.tag else ())
