"""An image of the store as one that can be read: its tables of contents, and the tars of its layers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.builder.steps.layer_forms import ensure_tocs
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archived import ImageLayer, ReadableImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.store.formats.toc import Toc
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store
    from pybuild.store.system.streams import Readable


def readable(
    store: Store, image: StoredImage, fetcher: Callable[[], AbstractContextManager[LayerFetcher]]
) -> ReadableImage:
    """The image. `fetcher` is entered if a layer has to be fetched or read first."""

    def tables() -> list[Toc]:
        with fetcher() as fetching:
            run_until_complete(ensure_tocs(fetching, image.snapshot))
        return [store.changesets.toc(changeset) for changeset in store.snapshots.changesets(image.snapshot)[::-1]]

    @contextmanager
    def open_tar(number: int) -> Iterator[Readable]:
        layer = image.manifest.layers[number]
        if not store.blobs.has(layer.digest):
            with fetcher() as fetching:
                run_until_complete(fetching.fetch_image(image, {str(layer.digest)}))
        with store.blobs.open(layer.digest) as blob:
            yield DecompressingReader(blob, COMPRESSIONS[layer.media_type], hashed=False)

    pairs = zip(image.manifest.layers, image.config.diff_ids, strict=True)
    return ReadableImage(
        tuple(
            Reference.parse(tag.name).familiar for tag in store.images.tags() if tag.manifest == image.manifest_digest
        ),
        image.manifest_digest,
        image.manifest,
        image.config,
        tuple(ImageLayer(layer.digest, diff_id, layer.size) for layer, diff_id in pairs),
        tables,
        open_tar,
    )
