"""An image that a command names in order to read it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.builder.plan.history import instruction_of
from pybuild.builder.steps.layer_forms import ensure_tocs
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.oci_config import ImageConfig, normalise_history
from pybuild.store.formats.reference import Reference
from pybuild.store.store import Access, Store
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Manifest
    from pybuild.store.formats.toc import Toc
    from pybuild.store.objects.images import StoredImage


@frozen
class NamedLayer:
    """A layer: the digest of its blob, None if it is not known; the digest of its tar; the bytes of the blob."""

    digest: Digest | None
    diff_id: Digest
    size: int


@frozen
class NamedImage:
    """An image that can be read as long as `open_images` has it open.

    `digest` and `manifest` are None for an image without a manifest. `layers` are the lowest first, and so are the
    tables of contents that `tables` reads; it raises StoreError if a layer is damaged.
    """

    name: str
    names: tuple[str, ...]
    digest: Digest | None
    manifest: Manifest | None
    config: ImageConfig
    layers: tuple[NamedLayer, ...]
    tables: Callable[[], list[Toc]]

    def instructions(self) -> list[str]:
        """The instruction that made each layer, the lowest first; "" if the history does not tell it."""
        lines = normalise_history(self.config).history
        return [instruction_of(line.created_by) for line in lines if not line.empty_layer]


@contextmanager
def open_images(root: str, *names: str) -> Iterator[list[NamedImage]]:
    """The images with these names or digests in the store at `root`. Raises NotFound, StoreError."""
    with Store(root, Access.READ) as store:
        yield [_stored(store, name, store.images.find(name)) for name in names]


def _stored(store: Store, name: str, image: StoredImage) -> NamedImage:
    def tables() -> list[Toc]:
        with Pool() as pool:
            run_until_complete(ensure_tocs(store, pool, image.snapshot))
        return [store.changesets.toc(changeset) for changeset in store.snapshots.changesets(image.snapshot)[::-1]]

    pairs = zip(image.manifest.layers, image.config.diff_ids, strict=True)
    return NamedImage(
        name,
        tuple(
            Reference.parse(tag.name).familiar for tag in store.images.tags() if tag.manifest == image.manifest_digest
        ),
        image.manifest_digest,
        image.manifest,
        image.config,
        tuple(NamedLayer(layer.digest, diff_id, layer.size) for layer, diff_id in pairs),
        tables,
    )
