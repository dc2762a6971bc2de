"""Pushing an image to registries: the blobs that they lack, several at a time, and at the end the manifest.

No name shows the image before every repository has all of it, so a push that ends early publishes nothing. A layer that
the store knows to be in another repository of the registry is not sent: the registry takes it from there. So a layer of the
base that was never fetched need not be fetched for a push to the same registry.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Pushed, Transfer
from pybuild.builder.jobs.push import FindMissing, OutgoingBlob, PushBlobs, PushManifest
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.sources.pull import BLOBS_AT_ONCE, shares
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.errors import NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.push import MissingParts
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store


@frozen
class _Target:
    """A repository and the tags that the image gets there."""

    repository: Reference  # without tag and digest
    tags: tuple[str, ...]
    sources: tuple[str, ...] = ()  # repositories of the same registry that have, or get before, some of the blobs


def push(
    store: Store,
    pool: Pool,
    image: StoredImage,
    names: Sequence[Reference],
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> None:
    """Make the image of these names in their registries the same as in the store. The names change last, all together.

    Raises BuildError, StoreError, RemoteError.
    """
    sizes = _blob_sizes(store, image)
    targets = _with_sources(store, _targets(names), sizes)
    missing = [_find_missing(pool, image, target, sizes, access) for target in targets]
    fetcher = LayerFetcher(store, pool, observe, access.tls_verify)
    sent = []
    for target, parts in zip(targets, missing, strict=True):
        sent.append(_Upload(fetcher, image, target, access).run(parts, sizes) if parts.tags else 0)
        store.places.add(sizes, target.repository, int(time.time()))
    for target, parts, size in zip(targets, missing, sent, strict=True):
        if parts.tags:
            path = store.blobs.path(image.manifest_digest)
            kind = image.manifest.media_type
            pool.run(PushManifest(access, str(target.repository), parts.tags, kind, path, target.sources))
        spared = sum(sizes.values()) - size
        for tag in target.tags:
            name = replace(target.repository, tag=tag).familiar
            observe(Pushed(name, str(image.manifest_digest), size, spared))


def _blob_sizes(store: Store, image: StoredImage) -> dict[Digest, int]:
    """The blobs of an image and their sizes in bytes. Raises NotFound if the store lacks one and knows no place of it."""
    blobs = {blob.digest: blob.size for blob in (image.manifest.config, *image.manifest.layers)}
    for digest in blobs:
        if not store.blobs.has(digest) and not store.places.of(digest):
            raise NotFound(
                f"blob {digest} of the image is missing", hint="pybuild fsck lists everything that is damaged"
            )
    return blobs


def _targets(names: Sequence[Reference]) -> list[_Target]:
    """The names by repository. Raises BuildError for a name with a digest."""
    tags: dict[Reference, list[str]] = {}
    for name in names:
        full = name.with_default_tag()
        if full.digest is not None or full.tag is None:
            raise BuildError(f"cannot push to {name}: the image itself determines the digest", hint="give a tag")
        tags.setdefault(replace(full, tag=None), []).append(full.tag)
    return [_Target(repository, tuple(dict.fromkeys(found))) for repository, found in tags.items()]


def _with_sources(store: Store, targets: Sequence[_Target], blobs: Iterable[Digest]) -> list[_Target]:
    seen = {place for blob in blobs for place in store.places.of(blob)} | {target.repository for target in targets}
    found = []
    for target in targets:
        here = target.repository
        beside = {one.path for one in seen if one.domain == here.domain and one.path != here.path}
        found.append(replace(target, sources=tuple(sorted(beside))))
    return found


def _find_missing(
    pool: Pool, image: StoredImage, target: _Target, sizes: Mapping[Digest, int], access: RegistryAccess
) -> MissingParts:
    digest, kind = str(image.manifest_digest), image.manifest.media_type
    blobs = tuple(map(str, sizes))
    return pool.run(FindMissing(access, str(target.repository), target.tags, digest, kind, blobs, target.sources))


class _Upload:
    """The upload of an image's blobs to one repository."""

    def __init__(self, fetcher: LayerFetcher, image: StoredImage, target: _Target, access: RegistryAccess) -> None:
        self._fetcher = fetcher
        self._store = fetcher.store
        self._image = image
        self._target = target
        self._access = access

    def run(self, parts: MissingParts, sizes: Mapping[Digest, int]) -> int:
        """Upload the blobs that the repository lacks; return how many bytes were sent."""
        blobs = [self._outgoing(Digest.parse(digest), sizes) for digest in parts.blobs]
        if any(not blob.path and not blob.source for blob in blobs):
            blobs = self._fetched(blobs, sizes)
        sent, declined = self._push(blobs)
        if declined:
            fetched = self._fetched([blob for blob in blobs if blob.digest in declined], sizes)
            more, _ = self._push([replace(blob, source="") for blob in fetched])
            sent += more
        return sent

    def _outgoing(self, digest: Digest, sizes: Mapping[Digest, int]) -> OutgoingBlob:
        path = self._store.blobs.path(digest) if self._store.blobs.has(digest) else ""
        return OutgoingBlob(str(digest), sizes[digest], path, self._source(digest))

    def _source(self, digest: Digest) -> str:
        """Another repository of the same registry that had the blob when it was last seen there, or ""."""
        target = self._target.repository
        for found in self._store.places.of(digest):
            if found.domain == target.domain and found.path != target.path:
                return found.path
        return ""

    def _fetched(self, blobs: Sequence[OutgoingBlob], sizes: Mapping[Digest, int]) -> list[OutgoingBlob]:
        """The same blobs, of which the store has all now."""
        run_until_complete(self._fetcher.fetch_image(self._image, {blob.digest for blob in blobs}))
        return [self._outgoing(Digest.parse(blob.digest), sizes) for blob in blobs]

    def _push(self, blobs: Sequence[OutgoingBlob]) -> tuple[int, set[str]]:
        """Upload blobs, the largest first, and report progress.

        Returns how many bytes were sent, and the digests of those blobs that are not in the store, and that the registry
        did not take from its other repository.
        """
        repository, total = self._target.repository, sum(blob.size for blob in blobs)
        ordered = sorted(blobs, key=lambda blob: -blob.size)
        new_path = self._store.ingest.new_path
        jobs = [
            PushBlobs(self._access, str(repository), share, self._target.sources, new_path())
            for share in shares(ordered)
            if share
        ]

        def report() -> None:
            done = sum(upload_progress(job.progress) for job in jobs)
            self._fetcher.observe(Transfer(repository.familiar, min(done, total), total, "pushed"))

        done = self._fetcher.pool.run_many(jobs, BLOBS_AT_ONCE, report)
        return sum(each.sent for each in done), {digest for each in done for digest in each.declined}


def upload_progress(path: str) -> int:
    """The number of bytes in a file of `UploadProgress`; 0 if it does not exist yet."""
    try:
        with open(path, "rb") as file:
            return int.from_bytes(file.read(), "little")
    except FileNotFoundError:
        return 0
