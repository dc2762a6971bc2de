"""Copying an image to an archive or a layout directory. Every document is there as it was, byte for byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.output.export import Format, ImageOutput, check_outputs
from pybuild.builder.transfer.source import MovedBytes, opener
from pybuild.store.errors import InvalidImage
from pybuild.store.exporting.layout import LayoutContent, is_layout, layout_has, publish_layout, write_layout_tar
from pybuild.store.exporting.publish import replacing
from pybuild.store.formats.docker_archive import manifest_json
from pybuild.store.formats.media_types import COMPRESSIONS, CONFIGS
from pybuild.store.formats.oci_layout import named_entries
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archived import ArchiveKind
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.transfer.source import CopySource
    from pybuild.builder.transfer.workshop import CopyWorkshop
    from pybuild.store.importing.archived import ArchivePlace


@frozen
class FileTarget:
    """An archive or a layout, with the names that the image gets there."""

    place: ArchivePlace
    names: tuple[Reference, ...] | None  # None: those of the source
    tag: str = ""  # a name that is a tag alone

    @staticmethod
    def at(place: ArchivePlace) -> FileTarget:
        """Read the name of a place: a full name, or a tag alone, as skopeo writes both. Raises InvalidImage."""
        docker = place.kind is ArchiveKind.DOCKER_ARCHIVE
        if not place.name:
            return FileTarget(place, None)
        if not docker and not {"/", ":"} & set(place.name):
            Reference.parse(f"tag:{place.name}")  # raises for what cannot be a tag
            return FileTarget(place, (), place.name)
        name = Reference.parse(place.name).with_default_tag()
        if name.digest is not None:
            raise InvalidImage(f"{place}: the name {place.name} has a digest, which the image itself determines")
        return FileTarget(place, (name,))

    def check(self, source: CopySource) -> None:
        """Raise BuildError or StoreError if the image cannot be written there."""
        directory = self.place.kind is ArchiveKind.OCI_LAYOUT
        check_outputs([ImageOutput(Format.OCI, self.place.path, directory)], ())
        if directory:
            is_layout(os.path.realpath(self.place.path), self.place.path)
        if self.place.kind is ArchiveKind.DOCKER_ARCHIVE:
            self._manifest(source)

    def write(self, source: CopySource, work: CopyWorkshop) -> MovedBytes:
        """Write the image, completely or not at all. Raises BuildError, StoreError, RemoteError, OSError."""
        graph, path = source.graph, self.place.path
        sizes = {digest: blob.size for digest, blob in graph.blobs.items()}
        documents = [one.descriptor.digest for one in reversed(graph.documents)]
        layout = self.place.kind is ArchiveKind.OCI_LAYOUT
        there = layout_has(path, sizes) if layout else frozenset()
        names, tag = (source.names, source.tag) if self.names is None else (self.names, self.tag)
        saved = None
        if self.place.kind is ArchiveKind.DOCKER_ARCHIVE:
            saved = manifest_json(self._manifest(source), list(names))
        with work.directory_for(path) as directory:
            wanted = [digest for digest in sizes if digest not in there]
            content = LayoutContent(
                named_entries(graph.root.descriptor, names, tag),
                tuple(dict.fromkeys((*documents, *sizes))),
                opener(source, wanted, directory, work),
                saved=saved,
            )
            if layout:
                publish_layout(content, path, there)
            else:
                with replacing(path) as out:
                    write_layout_tar(content, out)
        sent = sum(sizes[digest] for digest in wanted)
        return MovedBytes(sent, graph.size - sent)

    def _manifest(self, source: CopySource) -> Manifest:
        """The manifest of the image for manifest.json. Raises BuildError, InvalidImage if docker cannot load it."""
        root = source.graph.root
        manifest = Manifest.from_bytes(root.data, root.descriptor.media_type)
        kinds = {layer.media_type for layer in manifest.layers}
        if manifest.config.media_type not in CONFIGS or not kinds <= set(COMPRESSIONS):
            raise BuildError(
                f"{source.shown}: a docker archive holds only images of root filesystems",
                hint=f"{ArchiveKind.OCI_ARCHIVE.value}: takes everything",
            )
        return manifest
