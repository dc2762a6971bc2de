"""Writing a cache into a directory: an OCI layout, in which other images and caches can lie too.

index.json is replaced at the end and at once, so a process that is killed leaves the old cache or the new one. Then the
blobs go that only the old one needed.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from pybuild.builder.cache_export.fetch import fetched
from pybuild.builder.cache_export.gone import LayersGone
from pybuild.store.errors import BlobVanished
from pybuild.store.exporting.layout import LayoutContent, layout_has, publish_layout
from pybuild.store.exporting.layout_blobs import has_file
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_layout import named_entries
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.objects.blobs import VerifyingReader
from pybuild.store.system.holes import open_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pybuild.builder.cache_places import LocalCache
    from pybuild.builder.caches.find import ReadCache
    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.store.formats.cache_image import CacheImage
    from pybuild.store.formats.cache_index import CachedLayer


class DirectoryExport:
    """One write into a directory; `path_of` gives the file of a blob of the store, or None."""

    def __init__(
        self,
        place: LocalCache,
        old: ReadCache | None,
        path_of: Callable[[Digest], str | None],
        fetcher: LayerFetcher,
        lost: AbstractSet[Digest] = frozenset(),
    ) -> None:
        """`lost` are blobs that the directory might not have, whatever its cache says."""
        self._lost = lost
        self._place = place
        self._old = old
        self._path_of = path_of
        self._fetcher = fetcher
        self.sent = 0  # bytes of layers

    def write(self, image: CacheImage) -> None:
        """Make the tag mean this cache. Raises LayersGone, BuildError, StoreError, RemoteError, OSError."""
        layers = {layer.digest for layer in image.index.layers}
        if self._old is not None and self._old.digest == image.digest and self._lost.isdisjoint(layers):
            return
        for last in (False, False, True):
            try:
                self._publish(image)
                return
            except BlobVanished:  # another writer of this directory needs it no more
                if last:
                    raise

    def _publish(self, image: CacheImage) -> None:
        layers = {layer.digest: layer for layer in image.index.layers}
        there = self._there(layers)
        missing = [layer for digest, layer in layers.items() if digest not in there]
        paths = self._fetched(missing)
        documents = {image.digest: image.manifest, image.config_digest: image.config}

        def open_blob(digest: Digest) -> VerifyingReader:
            if digest in documents:
                return VerifyingReader(io.BytesIO(documents[digest]), digest, len(documents[digest]))
            return VerifyingReader(open_sparse(paths[digest]), digest, layers[digest].size)

        entry = Descriptor(MediaType.OCI_MANIFEST, image.digest, len(image.manifest))
        content = LayoutContent(
            named_entries(entry, (), self._place.tag), (image.digest, image.config_digest, *layers), open_blob
        )
        publish_layout(content, self._place.path, there, tidy=True)
        self.sent = sum(layer.size for layer in missing)

    def _there(self, layers: Mapping[Digest, CachedLayer]) -> frozenset[Digest]:
        """The layers that the directory has. Those of the old cache are not read again: whoever uses one checks it."""
        listed = set() if self._old is None else {layer.digest for layer in self._old.manifest.layers}
        sizes = {digest: layer.size for digest, layer in layers.items()}
        try:
            fd = os.open(self._place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return frozenset()
        try:
            known = {digest for digest in (listed & set(sizes)) - self._lost if has_file(fd, digest, sizes[digest])}
        finally:
            os.close(fd)
        others = {digest: size for digest, size in sizes.items() if digest not in known}
        return layout_has(self._place.path, others) | known

    def _fetched(self, layers: Sequence[CachedLayer]) -> dict[Digest, str]:
        """The files of layers; those that are elsewhere are fetched into the store first. Raises LayersGone."""
        paths, wanted = {}, []
        for layer in layers:
            path = self._path_of(layer.digest)
            if path is None:
                wanted.append(layer)
            else:
                paths[layer.digest] = path
        more, gone = fetched(self._fetcher, wanted)
        if gone:
            raise LayersGone(gone)
        return {**paths, **more}
