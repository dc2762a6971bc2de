"""Bringing layers into the store, for a place that can get them only from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.cache_export.gone import LayersGone
from pybuild.builder.errors import LayerUnavailable
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.store.formats.cache_index import CachedLayer


def fetched(fetcher: LayerFetcher, layers: Sequence[CachedLayer]) -> dict[Digest, str]:
    """The files of layers, which are fetched into the store from the places that it knows.

    Raises LayersGone for those that no place has, BuildError, StoreError, RemoteError.
    """
    store = fetcher.store
    places = {
        layer.digest: (*store.places.of(layer.digest), *store.places.directories(layer.digest)) for layer in layers
    }
    if gone := {digest for digest, known in places.items() if not known}:
        raise LayersGone(gone)
    blobs = [LayerBlob(layer.diff_id, layer.digest, layer.size, layer.compression) for layer in layers]
    try:
        run_until_complete(fetcher.fetch(blobs))
    except LayerUnavailable as error:
        raise LayersGone({Digest.parse(error.digest)}) from error
    return {layer.digest: store.blobs.path(layer.digest) for layer in layers}
