"""Exporting an image: as an archive or layout directory, or its root filesystem as a tar or as files."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, assert_never

from pybuild.builder.annotations import Annotation, Level, annotations_at, misplaced
from pybuild.builder.errors import BuildError
from pybuild.builder.events import Exported, Note
from pybuild.builder.output.annotate import annotated, of_descriptor
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.layer_forms import ensure_compression, ensure_steps_are_read, ensure_tocs
from pybuild.builder.workers.tasks import gather, run_until_complete
from pybuild.store.exporting.publish import STDOUT, nothing
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.media_types import COMPRESSIONS, DOCKER_LAYER_TYPES, LAYER_TYPES, MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.tar import show
from pybuild.store.objects.indexes import StoredIndex, digest_of, images_of, with_images
from pybuild.values import frozen
from pybuild.values.errors import PybuildError
from pybuild.values.limits import CONFIG_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

_SHOWN_DEVICES = 5


class Format(Enum):
    """The format of an archive or layout; the value is the `type` of an output."""

    OCI = "oci"
    DOCKER = "docker"


@frozen
class ImageOutput:
    """An image with its layers."""

    format: Format
    destination: str  # a path, or STDOUT
    directory: bool = False
    compression: Compression | None = None  # None: layers of the base as they are, new ones as gzip
    force: bool = False  # recompress the layers of the base too
    names: tuple[Reference, ...] | None = None  # None: the names of the image
    annotations: tuple[Annotation, ...] = ()  # besides those of the image

    @property
    def wanted(self) -> Compression:
        """The compression of new layers."""
        return self.compression or Compression.GZIP


@frozen
class TarOutput:
    """The root filesystem as a tar."""

    destination: str  # a path, or STDOUT


@frozen
class LocalOutput:
    """The root filesystem as files in a directory."""

    destination: str


@frozen
class RegistryOutput:
    """The image in the registries of its names."""

    names: tuple[Reference, ...] | None = None  # None: the names of the image
    compression: Compression | None = None  # as for ImageOutput
    force: bool = False
    docker_types: bool = False  # docker's media types in place of OCI's
    annotations: tuple[Annotation, ...] = ()  # besides those of the image
    destination: ClassVar[str] = ""  # no path

    @property
    def wanted(self) -> Compression:
        """The compression of new layers."""
        return self.compression or Compression.GZIP


Output = ImageOutput | TarOutput | LocalOutput | RegistryOutput


def check_outputs(
    outputs: Sequence[Output],
    names: Sequence[Reference],
    *,
    several: bool = False,
    platforms: Sequence[Platform] = (),
    annotations: Sequence[Annotation] = (),
) -> None:
    """Check all destinations and annotations before the build begins; `names` are those of the image. Raises BuildError.

    `several` says whether the image is an index, of these platforms; `annotations` are those of the image.
    """
    if (problem := misplaced(annotations, platforms, several=several)) is not None:
        raise BuildError(f"--annotation {problem}")
    for output in outputs:
        own = output.annotations if isinstance(output, ImageOutput | RegistryOutput) else ()
        if (problem := misplaced(own, platforms, several=several)) is not None:
            raise BuildError(f"--output: annotation {problem}")
        if several and isinstance(output, ImageOutput) and output.format is Format.DOCKER:
            raise BuildError(
                f"cannot write {output.destination}: a docker archive holds the image of one platform",
                hint="--platform chooses one; type=oci holds all of them, and docker load reads it with the containerd"
                " image store",
            )
        if isinstance(output, RegistryOutput):
            if not (names if output.names is None else output.names):
                raise BuildError(
                    "there is no name to push the image to", hint="give one with --tag, or in the output: name=NAME"
                )
            continue
        path = output.destination
        if path == STDOUT:
            continue
        is_directory = isinstance(output, LocalOutput) or (isinstance(output, ImageOutput) and output.directory)
        try:
            found = os.stat(path)
        except OSError:
            parent = os.path.dirname(os.path.abspath(path))
            if not is_directory and not os.path.isdir(parent):
                what = "is not a directory" if os.path.lexists(parent) else "does not exist"
                raise BuildError(f"cannot write {path}: {parent} {what}") from None
            continue
        if stat.S_ISDIR(found.st_mode) and not is_directory:
            raise BuildError(f"cannot write {path}: it is a directory", hint="with this type, dest= names a file")
        if not stat.S_ISDIR(found.st_mode) and is_directory:
            raise BuildError(
                f"cannot write to {path}: it is not a directory", hint="with this type, dest= names a directory"
            )


def with_annotations(output: Output, annotations: Sequence[Annotation]) -> Output:
    """An output with the annotations of the image before its own."""
    if not isinstance(output, ImageOutput | RegistryOutput):
        return output
    return replace(output, annotations=(*annotations, *output.annotations))


class Exporter:
    """Writes the outputs of one image, which has these names.

    `all_layers`: the compression of an output applies to every layer, not only to those that the build made. `complete` is
    called when nothing is missing but the final names of files: from then on the work is not stopped any more. `push_hint`
    says what to do after a push that failed.
    """

    def __init__(
        self,
        names: Sequence[Reference],
        store: Store,
        pool: Pool,
        observe: Callable[[Event], None],
        *,
        all_layers: bool,
        tls_verify: bool = True,
        push_hint: str = "",
        complete: Callable[[], None] = nothing,
    ) -> None:
        self._names = names
        self._store = store
        self._pool = pool
        self._observe = observe
        self._all_layers = all_layers
        self._tls_verify = tls_verify
        self._push_hint = push_hint
        self._fetcher = LayerFetcher(store, pool, observe, tls_verify)
        self._complete = complete

    def export(self, wanted: Sequence[tuple[Output, Stored]]) -> Stored | None:
        """Write all outputs or, if one of them fails, none; report them; return the image as it was pushed first.

        Each output comes with the image in the form that it starts from. Files get their names last, together, after the
        pushes. What goes to pipes, to devices and into directories that existed before cannot be taken back. Raises
        BuildError, StoreError, RemoteError, OSError.
        """
        files: list[tuple[ImageOutput | TarOutput | LocalOutput, Stored]] = []
        pushes: list[tuple[RegistryOutput, Stored]] = []
        for output, image in wanted:
            if isinstance(output, RegistryOutput):
                if output.docker_types and (
                    output.annotations or any(one.manifest.annotations for one in images_of(image))
                ):
                    text = "a manifest of docker's media type has no annotations: the image keeps OCI's types"
                    self._observe(Note(text))
                    output = replace(output, docker_types=False)
                pushes.append((output, self._prepared(output, image)))
            else:
                files.append((output, self._prepared(output, image)))
        files.sort(key=lambda item: isinstance(item[0], LocalOutput))  # what cannot always be taken back comes late
        for event in self._write_from(0, files, pushes):
            self._observe(event)
        return pushes[0][1] if pushes else None

    def _prepared(self, output: Output, stored: Stored) -> Stored:
        images = [_prepare(output, image, self._fetcher, all_layers=self._all_layers) for image in images_of(stored)]
        if not isinstance(stored, StoredIndex):
            return images[0]
        docker_types = isinstance(output, RegistryOutput) and output.docker_types and not stored.index.annotations
        changed = with_images(stored, images, self._store.blobs, docker_types=docker_types)
        if isinstance(output, ImageOutput | RegistryOutput):
            changed = annotated(changed, output.annotations)
        return stored if changed == stored.index else self._store.indexes.add(changed, self._store.ingest.new_path())

    def _write_from(
        self,
        number: int,
        files: Sequence[tuple[ImageOutput | TarOutput | LocalOutput, Stored]],
        pushes: Sequence[tuple[RegistryOutput, Stored]],
    ) -> list[Exported]:
        """Write the outputs from this one on. While it lacks its final name the others are written, so all or none get one."""
        if number < len(files):
            output, image = files[number]
            rest: list[Exported] = []
            size = _write(
                output,
                image,
                self._names,
                self._store,
                self._observe,
                lambda: rest.extend(self._write_from(number + 1, files, pushes)),
            )
            return [Exported(output.destination, str(digest_of(image)), size), *rest]
        for pushed, image in pushes:
            self._push(pushed, image)
        self._complete()
        return []

    def _push(self, output: RegistryOutput, image: Stored) -> None:
        from pybuild.builder.output.push import push
        from pybuild.builder.sources.registry_access import registry_access

        access = registry_access(os.environ, self._store.ingest, tls_verify=self._tls_verify)
        names = self._names if output.names is None else output.names
        try:
            push(self._store, self._pool, image, names, access, self._observe)
        except PybuildError as error:
            if not self._push_hint:
                raise
            raise error.advising(self._push_hint) from error


def _write(
    output: ImageOutput | TarOutput | LocalOutput,
    image: Stored,
    names: Sequence[Reference],
    store: Store,
    observe: Callable[[Event], None],
    ready: Callable[[], None],
) -> int:
    """Write one output to a path; return its size. `ready` is called before it gets its name."""
    match output:
        case ImageOutput():
            from pybuild.store.exporting.archive import publish_archive, publish_directory

            references = list(names if output.names is None else output.names)
            entry = of_descriptor(image, output.annotations)
            if output.directory:
                publish_directory(store.blobs, image, references, output.destination, ready=ready, annotations=entry)
            else:
                docker = output.format is Format.DOCKER
                publish_archive(
                    store.blobs,
                    image,
                    references,
                    output.destination,
                    docker=docker,
                    ready=ready,
                    annotations=entry,
                )
            layers = {layer.digest: layer.size for one in images_of(image) for layer in one.manifest.layers}
            return sum(layers.values())
        case TarOutput():
            from pybuild.store.exporting.rootfs_tar import publish_rootfs

            return publish_rootfs(store, image, output.destination, ready=ready)
        case LocalOutput():
            from pybuild.store.exporting.directory import write_local

            report = write_local(store, image, output.destination, ready=ready)
            if report.devices:
                shown = ", ".join(show(path) for path in report.devices[:_SHOWN_DEVICES])
                more = (
                    f" and {len(report.devices) - _SHOWN_DEVICES} more" if len(report.devices) > _SHOWN_DEVICES else ""
                )
                observe(Note(f"device nodes are left out of {output.destination}: {shown}{more}"))
            return report.size
        case _:
            assert_never(output)


def _prepare(output: Output, image: StoredImage, fetcher: LayerFetcher, *, all_layers: bool) -> StoredImage:
    """The image in the form that the output needs: with layers in its compression, and read if it needs their files.

    A docker archive holds zstd only on request: docker reads it since version 23. An image with docker's media types holds
    none. The image ID depends on neither.
    """
    store = fetcher.store
    if not isinstance(output, RegistryOutput):
        run_until_complete(ensure_steps_are_read(fetcher, image.snapshot))
        run_until_complete(fetcher.fetch_image(image))
    else:
        from_directories = fetcher.store.places.only_in_directories(layer.digest for layer in image.manifest.layers)
        run_until_complete(fetcher.fetch_image(image, from_directories))
    if isinstance(output, TarOutput | LocalOutput):
        run_until_complete(ensure_tocs(fetcher, image.snapshot))
        return image
    docker_types = isinstance(output, RegistryOutput) and output.docker_types
    docker = docker_types or (isinstance(output, ImageOutput) and output.format is Format.DOCKER)
    convert_all = output.force or (all_layers and output.compression is not None)

    async def converted(layer: Descriptor, diff_id: Digest) -> Descriptor:
        present = COMPRESSIONS[layer.media_type]
        compression = output.wanted if convert_all else present
        if docker and compression is Compression.ZSTD and output.compression is not Compression.ZSTD:
            compression = Compression.GZIP
        if compression is present:
            return layer
        await fetcher.fetch_image(image)
        await ensure_tocs(fetcher, image.snapshot)
        blob = await ensure_compression(store, fetcher.pool, diff_id, compression)
        return Descriptor(LAYER_TYPES[compression], blob.digest, blob.size)

    annotations = {
        **image.manifest.annotations,
        **annotations_at(output.annotations, Level.MANIFEST, image.exact_platform),
    }
    pairs = zip(image.manifest.layers, image.config.diff_ids, strict=True)
    layers = run_until_complete(gather(converted(layer, diff_id) for layer, diff_id in pairs))
    same = tuple(layers) == image.manifest.layers and annotations == image.manifest.annotations
    if same and (not docker_types or image.manifest.media_type == MediaType.DOCKER_MANIFEST):
        return image
    types = DOCKER_LAYER_TYPES if docker_types else LAYER_TYPES
    manifest = replace(
        image.manifest,
        # A manifest does not mix docker's media types with OCI's.
        layers=tuple(replace(layer, media_type=types[COMPRESSIONS[layer.media_type]]) for layer in layers),
        config=replace(
            image.manifest.config, media_type=MediaType.DOCKER_CONFIG if docker_types else MediaType.OCI_CONFIG
        ),
        media_type=MediaType.DOCKER_MANIFEST if docker_types else MediaType.OCI_MANIFEST,
        annotations=annotations,
    )
    config = store.blobs.read(image.manifest.config.digest, CONFIG_BYTES)
    scratch = (store.ingest.new_path(), store.ingest.new_path())
    return store.images.add(manifest.to_bytes(), config, image.snapshot, scratch)
