"""Pushing an image to registries: the blobs that they lack, several at a time, and at the end the manifest.

No name shows the image before every repository has all of it, so a push that ends early publishes nothing. A layer that
the store knows to be in another repository of the registry is not sent: the registry takes it from there. A layer of the base
that was never fetched need not be fetched for a push: from another registry its bytes pass through the memory of a worker.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Pushed, Transfer
from pybuild.builder.jobs.push import FindMissing, MissingParts, OutgoingBlob, PushBlobs, PushManifest
from pybuild.builder.jobs.transfer import FindAbsent
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.workers.shares import BLOBS_AT_ONCE, shares
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.remote.errors import ConfigError, RemoteError, TooSlow, Unauthorized, Unreachable
from pybuild.store.errors import NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.indexes import StoredIndex, digest_of, images_of
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

_MANY = 8  # blobs that one worker asks for
NOT_ABOUT_BLOBS = (ConfigError, TooSlow, Unauthorized, Unreachable)  # why a manifest is not taken, besides its blobs


@frozen
class _Target:
    """A repository and the tags that the image gets there."""

    repository: Reference  # without tag and digest
    tags: tuple[str, ...]
    sources: tuple[str, ...] = ()  # repositories of the same registry that have, or get before, some of the blobs


def push(
    store: Store,
    pool: Pool,
    image: Stored,
    names: Sequence[Reference],
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> None:
    """Make the image of these names in their registries the same as in the store. The names change last, all together.

    An index is sent with all its images, which come first. Raises BuildError, StoreError, RemoteError.
    """
    for each in images_of(image):
        _fetch_from_directories(store, pool, each, access, observe)
    sizes = _blob_sizes(store, images_of(image))
    pushes = [
        _Push(store, pool, image, target, sizes, access, observe)
        for target in _with_sources(store, _targets(names), sizes)
    ]
    for one in pushes:
        one.find_missing()
    for one in pushes:
        one.send_blobs()
    for one in pushes:
        one.put_manifest()


class _Push:
    """A push to one repository.

    Blobs that a manifest of the repository named a moment ago are not asked for: it has them. If the registry refuses the
    new manifest, it may have removed some since; then it is asked for all.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        image: Stored,
        target: _Target,
        sizes: Mapping[Digest, int],
        access: RegistryAccess,
        observe: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._pool = pool
        self._image = image
        self._target = target
        self._sizes = sizes
        self._access = access
        self._observe = observe
        self._missing = MissingParts((), ())
        self._all_asked = False
        self._sent = 0  # bytes

    def find_missing(self) -> None:
        """Ask which tags and blobs the repository lacks."""
        seen = self._store.places.seen_in(self._target.repository)
        asked = [digest for digest in self._sizes if digest not in seen]
        self._all_asked = len(asked) == len(self._sizes)
        self._find_missing(asked)

    def send_blobs(self) -> None:
        """Send the blobs that the repository lacks."""
        store, target, sizes = self._store, self._target, self._sizes
        lacking = map(Digest.parse, self._missing.blobs) if self._missing.tags else ()
        paths = {digest: store.blobs.path(digest) if store.blobs.has(digest) else "" for digest in lacking}
        blobs = [outgoing_blob(store, target.repository, one, sizes[one], path) for one, path in paths.items()]
        if blobs:
            self._sent += _push_blobs(store, self._pool, target, blobs, self._access, self._observe)
        store.places.add(sizes, target.repository, int(time.time()))

    def put_manifest(self) -> None:
        """Write the manifest under the tags that do not name it yet."""
        try:
            self._put_manifest()
        except RemoteError as error:
            if self._all_asked or isinstance(error, NOT_ABOUT_BLOBS):
                raise
            self._find_missing(list(self._sizes))
            if not self._missing.blobs:
                raise
            self.send_blobs()
            self._put_manifest()
        digest, spared = str(digest_of(self._image)), sum(self._sizes.values()) - self._sent
        for tag in self._target.tags:
            self._observe(Pushed(replace(self._target.repository, tag=tag).familiar, digest, self._sent, spared))

    def _find_missing(self, blobs: Sequence[Digest]) -> None:
        target = self._target
        self._missing = self._pool.run(
            FindMissing(
                self._access, str(target.repository), target.tags, str(digest_of(self._image)), self._media_type,
                tuple(map(str, blobs)), target.sources,
            )
        )  # fmt: skip

    @property
    def _media_type(self) -> str:
        image = self._image
        return image.index.media_type if isinstance(image, StoredIndex) else image.manifest.media_type

    def _put_manifest(self) -> None:
        if not self._missing.tags:
            return
        repository, sources = str(self._target.repository), self._target.sources
        if isinstance(self._image, StoredIndex):
            for one in self._image.images:
                path, kind = self._store.blobs.path(one.manifest_digest), one.manifest.media_type
                by_digest = (str(one.manifest_digest),)
                self._pool.run(PushManifest(self._access, repository, by_digest, kind, path, sources))
        path = self._store.blobs.path(digest_of(self._image))
        self._pool.run(PushManifest(self._access, repository, self._missing.tags, self._media_type, path, sources))


def _fetch_from_directories(
    store: Store, pool: Pool, image: StoredImage, access: RegistryAccess, observe: Callable[[Event], None]
) -> None:
    """Fetch the layers that only a cache in a directory has: a registry cannot take them from there."""
    digests = {layer.digest for layer in image.manifest.layers if not store.blobs.has(layer.digest)}
    only = {str(digest) for digest in digests if not store.places.of(digest) and store.places.directories(digest)}
    if only:
        fetcher = LayerFetcher(store, pool, observe, access.tls_verify)
        run_until_complete(fetcher.fetch_image(image, only))


def _blob_sizes(store: Store, images: Sequence[StoredImage]) -> dict[Digest, int]:
    """The blobs of images and their sizes in bytes. Raises NotFound if the store lacks one and knows no place of it."""
    blobs = {blob.digest: blob.size for one in images for blob in (one.manifest.config, *one.manifest.layers)}
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


def outgoing_blob(store: Store, target: Reference, digest: Digest, size: int, path: str) -> OutgoingBlob:
    """A blob that the target lacks, and where it can come from: the file `path` ("": none), or the known registries."""
    places = store.places.of(digest)
    beside = (place.path for place in places if place.domain == target.domain and place.path != target.path)
    return OutgoingBlob(str(digest), size, path, next(beside, ""), () if path else tuple(map(str, places)))


def _push_blobs(
    store: Store,
    pool: Pool,
    target: _Target,
    blobs: Sequence[OutgoingBlob],
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> int:
    """Upload blobs, the largest first, and report progress; return how many bytes were sent."""
    repository, total = target.repository, sum(blob.size for blob in blobs)
    ordered = sorted(blobs, key=lambda blob: -blob.size)
    jobs = [
        PushBlobs(access, str(repository), share, target.sources, store.ingest.new_path())
        for share in shares(ordered)
        if share
    ]

    def report() -> None:
        done = sum(upload_progress(job.progress) for job in jobs)
        observe(Transfer(repository.familiar, min(done, total), total, "pushed"))

    return sum(done.sent for done in pool.run_many(jobs, BLOBS_AT_ONCE, report))


def absent_blobs(
    pool: Pool, access: RegistryAccess, repository: Reference, sources: Sequence[str], blobs: Sequence[Digest]
) -> list[Digest]:
    """Those of the blobs that a repository lacks. Many are asked for side by side. Raises RemoteError."""
    workers = min(BLOBS_AT_ONCE, -(-len(blobs) // _MANY))
    parts = [tuple(map(str, blobs[number::workers])) for number in range(workers)]
    jobs = [FindAbsent(access, str(repository), tuple(sources), None, (), part) for part in parts]
    return [Digest.parse(digest) for part in pool.run_many(jobs, BLOBS_AT_ONCE) for digest in part.digests]


def upload_progress(path: str) -> int:
    """The number of bytes in a file of `UploadProgress`; 0 if it does not exist yet."""
    try:
        with open(path, "rb") as file:
            return int.from_bytes(file.read(), "little")
    except FileNotFoundError:
        return 0
