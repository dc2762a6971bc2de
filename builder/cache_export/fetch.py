"""Bringing layers into the store, for a place that can get them only from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import LayerUnavailable
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.store.formats.cache_index import CachedLayer


def fetched(fetcher: LayerFetcher, layers: Sequence[CachedLayer]) -> tuple[dict[Digest, str], set[Digest]]:
    """The files of layers, which are fetched into the store from the places that it knows; and those that no place has.

    Raises BuildError, StoreError, RemoteError.
    """
    store = fetcher.store
    wanted = {
        layer.digest: LayerBlob(layer.diff_id, layer.digest, layer.size, layer.compression)
        for layer in layers
        if store.places.of(layer.digest) or store.places.directories(layer.digest)
    }
    gone = {layer.digest for layer in layers} - set(wanted)
    while True:
        try:
            run_until_complete(fetcher.fetch(list(wanted.values())))
            return {digest: store.blobs.path(digest) for digest in wanted}, gone
        except LayerUnavailable as error:
            lost = Digest.parse(error.digest)
            del wanted[lost]
            gone.add(lost)
