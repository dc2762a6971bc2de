"""Fetching layers that are elsewhere: the store knows them from an image, and a registry has their blobs.

A base image is its manifest and config until something needs the bytes of its layers: the first RUN, a COPY that has to
know what is at its destination, an archive, `history --files`. A recipe that only changes metadata, or whose steps are
all cached, fetches no layer.
"""

from __future__ import annotations

import os
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from pybuild.builder.errors import BuildError, LayerUnavailable, NotCached
from pybuild.builder.events import Note, Transfer
from pybuild.builder.options import Pull
from pybuild.builder.workers.tasks import Semaphore, gather
from pybuild.store.errors import CannotWrite, DigestMismatch, InvalidImage, NoSpace, NotFound, StoreError
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.media_types import COMPRESSIONS, LAYER_TYPES
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.system.disk_full import free_size, require_space, room_for
from pybuild.values import frozen
from pybuild.values.errors import PybuildError
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.registry import FetchBlob, FetchedBlob
    from pybuild.builder.session import Session
    from pybuild.builder.workers.pool import OnProgress, Pool
    from pybuild.builder.workers.tasks import Task
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store

Way: TypeAlias = "Callable[[FetchBlob, OnProgress], Task[FetchedBlob]]"

_AT_ONCE = 4  # blobs
_SMALL = 1 << 20  # bytes: the start of a worker, 0.1 s of a processor, takes longer than to fetch some of these in turn
_SMALL_IN_TURN = 8  # small blobs that one worker fetches
_USUAL_EXPANSION = 3  # of compressed layers


@frozen
class LayerFetcher:
    """Fetches layers into a store. `pull` and `fetches_nothing` are the user's options, which can forbid it."""

    store: Store
    pool: Pool
    observe: Callable[[Event], None]
    tls_verify: bool = True
    pull: Pull = Pull.MISSING
    fetches_nothing: bool = False

    @staticmethod
    def of(session: Session) -> LayerFetcher:
        """The fetcher of a build."""
        options = session.options
        return LayerFetcher(
            session.store, session.pool, session.observe, options.tls_verify, options.pull, options.fetches_nothing
        )

    async def fetch_image(self, image: StoredImage, only: Container[str] | None = None, *, name: str = "") -> None:
        """Fetch the layers of an image that the store lacks; with `only`, those of its layers with these digests.

        `name` is shown to the user, else that of the repository.
        """
        await self.fetch([blob for blob in _blobs(image) if only is None or str(blob.digest) in only], name)

    async def fetch(
        self, blobs: Sequence[LayerBlob], name: str = "", ways: Mapping[Digest, Way] = MappingProxyType({})
    ) -> None:
        """Fetch those blobs that the store lacks, several at a time, the largest first.

        `ways`: how to do the download of some of them, if something else is to happen at the same time. Raises LayerUnavailable if no known place has one, NotCached or NotFound if the user forbids it, NoSpace, StoreError,
        RemoteError.
        """
        if all(self.store.blobs.has(blob.digest) for blob in blobs):
            return
        async with self.pool.locks("layers"):  # another step might need the same layers
            missing = {blob.digest: blob for blob in blobs if not self.store.blobs.has(blob.digest)}
            wanted = sorted(missing.values(), key=lambda blob: -blob.size)
            if wanted:
                self._check_allowed(wanted[0])
                self._check_space(wanted, name)
                await _Download(self, wanted, name, ways).run()

    def check_space(self, image: StoredImage, name: str) -> None:
        """Raise NoSpace if the layers that the store lacks do not fit; warn if they might not when they are unpacked."""
        missing = [blob for blob in _blobs(image) if not self.store.blobs.has(blob.digest)]
        if missing:
            self._check_space(missing, name)

    def _check_allowed(self, blob: LayerBlob) -> None:
        text = f"layer {blob.digest} is not in the store"
        if self.store.records.claims(str(blob.digest)):
            self.store.require_writable(f"{text} and cannot be fetched")
            return  # of a step that another machine has made: the options are about images
        if self.fetches_nothing:
            raise NotCached(f"{text} and would have to be fetched")
        if self.pull is Pull.NEVER:
            raise NotFound(f"{text}, and --pull=never", hint="pybuild fetch NAME brings all layers of an image")
        self.store.require_writable(f"{text} and cannot be fetched")

    def _check_space(self, wanted: Sequence[LayerBlob], name: str) -> None:
        """Raise NoSpace if the blobs do not fit, before the first of them is fetched; warn if they might not when unpacked.

        How large a compressed layer is when a RUN unpacks it is not known before it is read: an estimate only warns.
        """
        root = self.store.root
        places = self.store.places.of(wanted[0].digest)
        shown = name or (places[0].familiar if places else "the base image")
        total = sum(blob.size for blob in wanted)
        try:
            require_space(root, total, f"{shown}: what has to be fetched")
        except NoSpace as error:
            digests = (str(blob.digest) for blob in wanted)  # of the largest first
            if (claimed := next(filter(self.store.records.claims, digests), None)) is not None:
                text = f"layer {claimed} does not fit: {error}"
                raise LayerUnavailable(text, claimed, hint=error.hint) from error  # the step can be made here
            raise
        unpacked = sum(blob.size * _expansion(blob) for blob in wanted)
        if free_size(root) < total + unpacked:
            text = f"{shown}: {human_size(total)} to fetch; unpacked, it might not fit: {room_for(root)}"
            self.observe(Note(text))


class _Download:
    """The download of some blobs, with its progress."""

    def __init__(
        self, fetcher: LayerFetcher, wanted: Sequence[LayerBlob], name: str, ways: Mapping[Digest, Way]
    ) -> None:
        # A local import: a build whose layers are all in the store does not need it.
        from pybuild.builder.sources.registry_access import registry_access

        self._fetcher = fetcher
        self._wanted = wanted
        self._name = name
        self._ways = ways
        self._access = registry_access(os.environ, fetcher.store.ingest, tls_verify=fetcher.tls_verify)
        self._total = sum(blob.size for blob in wanted)
        self._done = dict.fromkeys((blob.digest for blob in wanted), 0)
        small = sum(blob.size < _SMALL for blob in wanted)
        self._large_at_once = Semaphore(_AT_ONCE)
        self._small_at_once = Semaphore(min(_AT_ONCE, -(-small // _SMALL_IN_TURN)))

    async def run(self) -> None:
        await gather(self._fetch(blob) for blob in self._wanted)

    async def _fetch(self, blob: LayerBlob) -> None:
        """Fetch one blob from the first of its places that has it."""
        store = self._fetcher.store
        places = store.places.of(blob.digest)
        failure: PybuildError | None = None
        async with self._small_at_once if blob.size < _SMALL else self._large_at_once:
            for directory in store.places.directories(blob.digest):
                try:
                    return self._copy_from(directory, blob)
                except StoreError as error:
                    failure = error
            for place in places:
                try:
                    return await self._fetch_from(place, blob)
                except PybuildError as error:
                    failure = failure if failure and not isinstance(failure, NotFound) else error
        text = f"layer {blob.digest} ({human_size(blob.size)}) is not in the store and"
        if failure is None:
            raise LayerUnavailable(f"{text} no registry is known to have it", str(blob.digest), lost=True)
        where = ", ".join([*store.places.directories(blob.digest), *(place.familiar for place in places)])
        if isinstance(failure, NotFound):
            raise LayerUnavailable(f"{text} not in {where} any more", str(blob.digest), lost=True, hint=failure.hint)
        if not isinstance(failure, BuildError | CannotWrite) and store.records.claims(str(blob.digest)):
            text, lost = (
                f"{text} cannot be had from {where}: {failure}",
                isinstance(failure, DigestMismatch | InvalidImage),
            )
            raise LayerUnavailable(text, str(blob.digest), lost=lost, hint=failure.hint)
        raise type(failure)(f"{text} cannot be fetched from {where}: {failure}", hint=failure.hint)

    def _copy_from(self, directory: str, blob: LayerBlob) -> None:
        """Copy a blob from an OCI layout. Raises StoreError."""
        from pybuild.store.importing.layout_blob import copy_blob

        path = self._fetcher.store.ingest.new_path()
        copy_blob(directory, blob.digest, blob.size, path)
        self._fetcher.store.changesets.adopt_blob(path, blob)
        self._report(self._name or directory, blob, blob.size, blob.size)

    async def _fetch_from(self, place: Reference, blob: LayerBlob) -> None:
        from pybuild.builder.jobs.registry import FetchBlob

        fetcher = self._fetcher
        path = fetcher.store.ingest.new_path()
        name = self._name or place.familiar
        kind = LAYER_TYPES[blob.compression]
        job = FetchBlob(self._access, str(place), kind, str(blob.digest), blob.size, path)
        way = self._ways.get(blob.digest, fetcher.pool.job_without_core)
        fetched = await way(job, partial(self._report, name, blob))
        for text in fetched.notes:
            fetcher.observe(Note(text))
        fetcher.store.changesets.adopt_blob(path, blob)

    def _report(self, name: str, blob: LayerBlob, done: int, _: int) -> None:
        self._done[blob.digest] = done
        self._fetcher.observe(Transfer(name, sum(self._done.values()), self._total))


def _blobs(image: StoredImage) -> list[LayerBlob]:
    pairs = zip(image.manifest.layers, image.config.diff_ids, strict=True)
    return [LayerBlob(diff_id, d.digest, d.size, COMPRESSIONS[d.media_type]) for d, diff_id in pairs]


def _expansion(blob: LayerBlob) -> int:
    """How many times larger a blob usually is in a tree."""
    return 1 if blob.compression is Compression.UNCOMPRESSED else _USUAL_EXPANSION
