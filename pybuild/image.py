"""An image of a store, as the Python interface shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.events import ignore
from pybuild.builder.plan.history import instruction_of
from pybuild.store.formats.oci_config import normalise_history
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import Event
    from pybuild.builder.output.export import Output
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_config import ImageConfig
    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.difference import Difference
    from pybuild.store.objects.images import StoredImage


@frozen
class Layer:
    """A layer: the digest and size (in bytes) of its blob, and the digest of the tar in it."""

    digest: Digest
    diff_id: Digest
    size: int
    media_type: str


@frozen
class HistoryLine:
    """What an instruction did. `created` is as in the config (RFC 3339), or None; `layer` None: it made none."""

    instruction: str
    created: str | None
    layer: Layer | None


@frozen
class Image:
    """An image of the store in the directory `root`. What it says is kept here; its methods open the store."""

    root: str
    stored: StoredImage

    @property
    def digest(self) -> Digest:
        """That of the manifest."""
        return self.stored.manifest_digest

    @property
    def config(self) -> ImageConfig:
        """Platform, environment, command and the rest, as in the OCI image-spec."""
        return self.stored.config

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The lowest first."""
        pairs = zip(self.stored.manifest.layers, self.stored.config.diff_ids, strict=True)
        return tuple(Layer(blob.digest, diff_id, blob.size, blob.media_type) for blob, diff_id in pairs)

    @property
    def history(self) -> tuple[HistoryLine, ...]:
        """The first instruction first, those of the base before all."""
        layers = iter(self.layers)
        return tuple(
            HistoryLine(instruction_of(line.created_by), line.created, None if line.empty_layer else next(layers))
            for line in normalise_history(self.stored.config).history
        )

    def files(self) -> list[Entry]:
        """All files of all layers together, in order; paths are bytes, relative to the root. Raises StoreError."""
        from pybuild.builder.steps.layer_forms import ensure_tocs
        from pybuild.builder.workers.pool import Pool
        from pybuild.builder.workers.tasks import run_until_complete
        from pybuild.store.store import Store

        with Store(self.root) as store, Pool() as pool:
            run_until_complete(ensure_tocs(store, pool, self.stored.snapshot))
            return list(store.snapshots.view(self.stored.snapshot).walk(b""))

    def changes(self) -> list[list[Difference]]:
        """What each layer does to those below it, the lowest first; in the order of the paths. Raises StoreError."""
        from pybuild.builder.steps.layer_forms import ensure_tocs
        from pybuild.builder.workers.pool import Pool
        from pybuild.builder.workers.tasks import run_until_complete
        from pybuild.store.layers.difference import layer_differences
        from pybuild.store.layers.view import View
        from pybuild.store.store import Store

        with Store(self.root) as store, Pool() as pool:
            run_until_complete(ensure_tocs(store, pool, self.stored.snapshot))
            changesets = store.snapshots.changesets(self.stored.snapshot)[::-1]
            tocs = [store.changesets.toc(changeset) for changeset in changesets]
            return [list(layer_differences(View(tocs[:at][::-1]), toc)) for at, toc in enumerate(tocs)]

    def export(self, *outputs: Output, on_event: Callable[[Event], None] = ignore) -> None:
        """Write the image to one or more places, under the names that it has; their compression is for all layers.

        Raises BuildError, StoreError, OSError.
        """
        from pybuild.builder.output.export import check_outputs, export
        from pybuild.builder.workers.pool import Pool
        from pybuild.store.formats.reference import Reference
        from pybuild.store.store import Store

        check_outputs(outputs)
        with Store(self.root) as store, Pool() as pool:
            names = [Reference.parse(tag.name) for tag in store.images.tags() if tag.manifest == self.digest]
            for output in outputs:
                export(output, self.stored, names, store, pool, on_event, all_layers=True)
