"""Writing a cache to a repository of a registry: the layers that it lacks, the config, and at the end the manifest.

The repository has the layers of the manifest that it shows now and those of an image that was just pushed there, so these
are not asked for: a cache has a thousand. If the registry then refuses the manifest, its garbage collection may have removed some; then all are asked for, once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.cache_export.fetch import fetched
from pybuild.builder.cache_export.gone import LayersGone
from pybuild.builder.errors import LayerUnavailable
from pybuild.builder.events import Transfer
from pybuild.builder.jobs.push import OutgoingBlob, PushBlobs, PushManifest
from pybuild.builder.output.push import NOT_ABOUT_BLOBS, absent_blobs, outgoing_blob, upload_progress
from pybuild.builder.workers.shares import BLOBS_AT_ONCE, shares
from pybuild.builder.workers.tasks import Semaphore, Tasks
from pybuild.remote.errors import RemoteError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from pybuild.builder.caches.find import ReadCache
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.store.formats.cache_image import CacheImage
    from pybuild.store.formats.cache_index import CachedLayer

_MANY = 16  # layers that are worth a worker, however small they are


class RegistryExport:
    """One write to a name; `path_of` gives the file of a blob of the store, or None."""

    def __init__(
        self,
        name: Reference,
        old: ReadCache | None,
        path_of: Callable[[Digest], str | None],
        fetcher: LayerFetcher,
        access: RegistryAccess,
        lost: AbstractSet[Digest] = frozenset(),
    ) -> None:
        """`lost` are blobs that the repository might not have, whatever its cache says."""
        self._name = name
        self._repository = replace(name, tag=None, digest=None)
        self._path_of = path_of
        self._fetcher = fetcher
        self._store = fetcher.store
        self._pool = fetcher.pool
        self._access = access
        self._old = old
        listed = () if old is None else (old.manifest.config, *old.manifest.layers)
        self._lost = lost
        seen = self._store.places.seen_in(self._repository)
        # What the repository has, as far as it is known.
        self._there = {*seen, *(blob.digest for blob in listed)} - lost
        self._asked_for_all = not self._there
        self._sources: tuple[str, ...] = ()
        self.sent = 0  # bytes of layers

    def write(self, image: CacheImage) -> None:
        """Make the name mean this cache. Raises LayersGone, BuildError, StoreError, RemoteError.

        It can be called again with another cache, after LayersGone.
        """
        sizes = {layer.digest: layer.size for layer in image.index.layers}
        if self._old is not None and self._old.digest == image.digest and self._lost.isdisjoint(sizes):
            return
        self._sources = self._sources or self._mountable([digest for digest in sizes if digest not in self._there])
        blobs = [*sizes, image.config_digest]
        absent = self._absent([digest for digest in sizes if digest not in self._there])
        if image.config_digest not in self._there:
            absent.append(image.config_digest)  # another write of the same records is rare
        self._send(image, absent)
        self._there.update(blobs)
        try:
            self._put_manifest(image)
        except RemoteError as error:
            if self._asked_for_all or isinstance(error, NOT_ABOUT_BLOBS):
                raise
            self._asked_for_all = True
            absent = self._absent(blobs)
            self._there.difference_update(absent)
            if not absent:
                raise
            self._sources = self._mountable(absent)
            self._send(image, absent)
            self._put_manifest(image)

    def _absent(self, blobs: Sequence[Digest]) -> list[Digest]:
        return absent_blobs(self._pool, self._access, self._repository, self._sources, blobs)

    def _mountable(self, digests: Sequence[Digest]) -> tuple[str, ...]:
        """The other repositories of this registry that have some of the layers."""
        here = self._repository
        places = (place for digest in digests for place in self._store.places.of(digest))
        return tuple(
            sorted({place.path for place in places if place.domain == here.domain and place.path != here.path})
        )

    def _send(self, image: CacheImage, wanted: Sequence[Digest]) -> None:
        """Send blobs that the repository lacks, the config last. Raises LayersGone after all layers that can be had are there."""
        layers = {layer.digest: layer for layer in image.index.layers}
        here: list[OutgoingBlob] = []
        elsewhere: list[OutgoingBlob] = []
        others = []
        for layer in (layers[digest] for digest in wanted if digest in layers):
            blob = self._outgoing(layer, self._path_of(layer.digest) or "")
            if blob.path:
                here.append(blob)
            elif blob.origins:
                elsewhere.append(blob)
            else:
                others.append(layer)
        paths, gone = fetched(self._fetcher, others) if others else ({}, set())  # from the directories of other caches
        here += [self._outgoing(layers[digest], path) for digest, path in paths.items()]
        here.sort(key=lambda blob: -blob.size)
        jobs = [self._job(share) for share in _divided(here)] + [self._job((blob,)) for blob in elsewhere]
        done, unavailable = self._run(jobs, sum(blob.size for blob in (*here, *elsewhere)))
        self.sent += done
        gone |= unavailable
        self._there.update({digest for digest in wanted if digest in layers} - gone)
        if gone:
            raise LayersGone(gone)
        if image.config_digest in wanted:
            config = OutgoingBlob(str(image.config_digest), len(image.config), self._file(image.config), "")
            self._pool.run(self._job((config,)))
            self._there.add(image.config_digest)

    def _outgoing(self, layer: CachedLayer, path: str) -> OutgoingBlob:
        blob = outgoing_blob(self._store, self._repository, layer.digest, layer.size, path)
        return replace(blob, origins=tuple(origin for origin in blob.origins if not self._is_here(origin)))

    def _is_here(self, origin: str) -> bool:
        """Whether a name is one of this repository, which lacks the blob."""
        return replace(Reference.parse(origin), tag=None, digest=None) == self._repository

    def _job(self, blobs: tuple[OutgoingBlob, ...]) -> PushBlobs:
        return PushBlobs(self._access, str(self._repository), blobs, self._sources, self._store.ingest.new_path())

    def _run(self, jobs: Sequence[PushBlobs], total: int) -> tuple[int, set[Digest]]:
        """Do the jobs, some side by side: the bytes that were sent, and the digests of what no place has any more."""
        semaphore = Semaphore(BLOBS_AT_ONCE)
        sent = 0
        gone: set[Digest] = set()

        async def one(job: PushBlobs) -> None:
            nonlocal sent
            async with semaphore:
                try:
                    done = await self._pool.job_without_core(job)
                    sent += done.sent
                except LayerUnavailable:  # of a job with one blob, which is elsewhere
                    gone.update(Digest.parse(blob.digest) for blob in job.blobs)

        def report() -> None:
            done = sum(upload_progress(job.progress) for job in jobs)
            self._fetcher.observe(Transfer(self._name.familiar, min(done, total), total, "pushed"))

        with Tasks[int, None](report) as tasks:
            for number, job in enumerate(jobs):
                tasks.start(number, one(job))
            while tasks:
                tasks.next_ended()
        return sent, gone

    def _put_manifest(self, image: CacheImage) -> None:
        tag = self._name.tag
        assert tag is not None
        path, kind = self._file(image.manifest), MediaType.OCI_MANIFEST
        self._pool.run(PushManifest(self._access, str(self._repository), (tag,), kind, path, self._sources))

    def _file(self, data: bytes) -> str:
        path = self._store.ingest.new_path()
        with open(path, "xb") as file:
            file.write(data)
        return path


def _divided(blobs: Sequence[OutgoingBlob]) -> list[tuple[OutgoingBlob, ...]]:
    """Blobs, the largest first, divided among workers. Many small ones are: each takes a few round trips."""
    by_size = [share for share in shares(blobs) if share]
    workers = min(BLOBS_AT_ONCE, len(blobs) // _MANY)
    return by_size if workers <= len(by_size) else [tuple(blobs[number::workers]) for number in range(workers)]
