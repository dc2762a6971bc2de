"""An image in the store, as the Python interface shows it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.builder.events import Note, ignore
from pybuild.builder.plan.history import instruction_of
from pybuild.store.exporting.publish import nothing
from pybuild.store.formats.oci_config import normalise_history
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.builder.events import Event
    from pybuild.builder.output.export import Output
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_config import ImageConfig
    from pybuild.store.formats.reference import Reference
    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.difference import Difference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored, StoredIndex


@frozen
class Layer:
    """A layer: digest and size (bytes) of its blob, and diff_id, the digest of the uncompressed tar."""

    digest: Digest
    diff_id: Digest
    size: int
    media_type: str


@frozen
class HistoryLine:
    """One instruction. `created` is the time in the config (RFC 3339) or None; `layer` is None if it made no layer."""

    instruction: str
    created: str | None
    layer: Layer | None


@frozen
class Image:
    """An image in the store at `root`. Properties read this value; methods open the store."""

    root: str
    stored: StoredImage
    names: tuple[Reference, ...] = field(default=(), compare=False)  # under which it was built or opened
    index: StoredIndex | None = (
        None  # if it is an image for several platforms; `stored` is then the one for this machine
    )

    @staticmethod
    def of(root: str, stored: Stored, names: tuple[Reference, ...] = ()) -> Image:
        """An image, or an index, of the store at `root`."""
        from pybuild.store.objects.indexes import StoredIndex

        if isinstance(stored, StoredIndex):
            return Image(root, stored.preferred, names, stored)
        return Image(root, stored, names)

    @property
    def digest(self) -> Digest:
        """The digest of the manifest, or of the index of an image for several platforms."""
        return self.stored.manifest_digest if self.index is None else self.index.digest

    @property
    def platforms(self) -> Mapping[str, Image]:
        """The image for each platform, such as `linux/arm64`, in the order of the index."""
        images = (self.stored,) if self.index is None else self.index.images
        return {str(image.exact_platform): Image(self.root, image, self.names) for image in images}

    @property
    def config(self) -> ImageConfig:
        """Platform, environment, command and so on: the image config of the OCI image-spec."""
        return self.stored.config

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, lowest first."""
        pairs = zip(self.stored.manifest.layers, self.stored.config.diff_ids, strict=True)
        return tuple(Layer(blob.digest, diff_id, blob.size, blob.media_type) for blob, diff_id in pairs)

    @property
    def history(self) -> tuple[HistoryLine, ...]:
        """The instructions, oldest first; those of the base image come before all others."""
        layers = iter(self.layers)
        return tuple(
            HistoryLine(instruction_of(line.created_by), line.created, None if line.empty_layer else next(layers))
            for line in normalise_history(self.stored.config).history
        )

    def files(self, *, tls_verify: bool = True) -> list[Entry]:
        """All files of the image in order; paths are bytes relative to the root.

        Layers that are not in the store are fetched; `tls_verify` is for their registry. Raises StoreError, RemoteError.
        """
        from pybuild.builder.sources.layers import LayerFetcher
        from pybuild.builder.steps.layer_forms import ensure_tocs
        from pybuild.builder.workers.pool import Pool
        from pybuild.builder.workers.tasks import run_until_complete
        from pybuild.store.store import Access, Store

        with Store(self.root, Access.READ) as store, Pool() as pool:
            run_until_complete(ensure_tocs(LayerFetcher(store, pool, ignore, tls_verify), self.stored.snapshot))
            return list(store.snapshots.view(self.stored.snapshot).walk(b""))

    def changes(self, *, tls_verify: bool = True) -> list[list[Difference]]:
        """The changes of each layer in the order of their paths; lowest layer first. Layers are fetched as by `files`."""
        from pybuild.builder.sources.layers import LayerFetcher
        from pybuild.builder.steps.layer_forms import ensure_tocs
        from pybuild.builder.workers.pool import Pool
        from pybuild.builder.workers.tasks import run_until_complete
        from pybuild.store.layers.difference import layer_differences
        from pybuild.store.layers.view import View
        from pybuild.store.store import Access, Store

        with Store(self.root, Access.READ) as store, Pool() as pool:
            run_until_complete(ensure_tocs(LayerFetcher(store, pool, ignore, tls_verify), self.stored.snapshot))
            changesets = store.snapshots.changesets(self.stored.snapshot)[::-1]
            tocs = [store.changesets.toc(changeset) for changeset in changesets]
            return [list(layer_differences(View(tocs[:at][::-1]), toc)) for at, toc in enumerate(tocs)]

    def export(
        self,
        *outputs: Output,
        on_event: Callable[[Event], None] = ignore,
        tls_verify: bool = True,
        complete: Callable[[], None] = nothing,
    ) -> None:
        """Write the image, under its `names`, to one or more outputs: to all or to none. Their compression applies to all
        layers.

        `tls_verify` is for registries. `complete` is called when only the final names are missing. Raises BuildError, StoreError, RemoteError, OSError.
        """
        from pybuild.builder.output.export import Exporter, check_outputs
        from pybuild.builder.workers.pool import Pool
        from pybuild.store.objects.indexes import images_of
        from pybuild.store.store import Access, Store

        check_outputs(
            outputs,
            self.names,
            several=self.index is not None,
            platforms=[one.exact_platform for one in images_of(self.index or self.stored)],
        )
        with Store(self.root, Access.READ) as store, Pool(lambda text: on_event(Note(text))) as pool:
            exporter = Exporter(
                self.names, store, pool, on_event, all_layers=True, tls_verify=tls_verify, complete=complete
            )
            exporter.export([(output, self.index or self.stored) for output in outputs])
