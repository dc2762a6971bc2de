"""What is at the place of a cache: a cache, nothing, or something else.

Reading a cache must not hold a build up, nor end it. So everything that can be at a place is a value here, and a registry
has only a few seconds (the limit cache-seconds): then the worker that waits for it is killed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, TypeVar, assert_never

from pybuild.builder.cache_places import LocalCache, RegistryCache
from pybuild.builder.caches.layout import open_layout, tagged_manifest
from pybuild.builder.events import Note
from pybuild.builder.jobs.cache import FetchCache
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.workers.tasks import Tasks
from pybuild.remote.errors import TooSlow
from pybuild.store.errors import DigestMismatch, InvalidImage, NotACache, NotFound, StoreError
from pybuild.store.formats.cache_image import cache_manifest, carried_index, is_only_cache
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.importing.intake import read_blob
from pybuild.store.importing.oci_layout import LayoutBlobs
from pybuild.values import frozen
from pybuild.values.errors import PybuildError, reason_of
from pybuild.values.limits import CACHE_SECONDS, CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.job import Job
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.cache_index import CacheIndex
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.platform import Platform
    from pybuild.store.importing.members import DirectoryMembers
    from pybuild.store.objects.ingest import Ingest

R = TypeVar("R")


@frozen
class ReadCache:
    """A cache that was read: its records, and the image that carries them. `digest` is that of the manifest."""

    place: RegistryCache | LocalCache
    index: CacheIndex
    digest: Digest
    manifest: Manifest

    @property
    def config_digest(self) -> Digest:
        """The digest of the config, which has the index."""
        return self.manifest.config.digest

    @property
    def is_only_cache(self) -> bool:
        """Whether the image is nothing but a cache: not an image with an inline cache."""
        return is_only_cache(self.manifest)


class Hindrance(Enum):
    """Why a place gives no cache."""

    ABSENT = "nothing has this name yet"
    FOREIGN = "something else has this name"
    DAMAGED = "what has this name cannot be read"
    FAILED = "the place cannot be asked"


@frozen
class NoCache:
    """A place without a cache that can be read. `only_cache` says whether it is a cache all the same, a damaged one."""

    hindrance: Hindrance
    error: PybuildError
    only_cache: bool = False


@frozen
class CacheReader:
    """Reads what is at places. `ingest` is where a worker can put files."""

    ingest: Ingest
    pool: Pool
    observe: Callable[[Event], None]
    environ: Mapping[str, str]
    tls_verify: bool
    platform: Platform

    def read(self, place: RegistryCache | LocalCache) -> ReadCache | NoCache:
        """What is at a place. Raises nothing that other machines or files can bring about."""
        documents = _Documents()
        try:
            match place:
                case RegistryCache():
                    self._fetch(place, documents)
                case LocalCache():
                    self._read_layout(place, documents)
                case _:
                    assert_never(place)
            if documents.manifest is None:
                return NoCache(Hindrance.ABSENT, StoreError(f"there is no cache at {place} yet"))
            index = carried_index(documents.manifest, documents.config)
            assert documents.digest is not None
            return ReadCache(place, index, documents.digest, documents.manifest)
        except NotACache as error:
            return NoCache(Hindrance.FOREIGN, error)
        except (InvalidImage, DigestMismatch, NotFound) as error:
            found = documents.manifest
            return NoCache(Hindrance.DAMAGED, error, found is not None and is_only_cache(found))
        except PybuildError as error:
            return NoCache(Hindrance.FAILED, error)
        except OSError as error:
            return NoCache(Hindrance.FAILED, StoreError(reason_of(error)))

    def _fetch(self, place: RegistryCache, documents: _Documents) -> None:
        access = registry_access(self.environ, self.ingest, tls_verify=self.tls_verify)
        ingest = self.ingest
        job = FetchCache(
            access, str(place.name), str(self.platform),
            ingest.new_path(), ingest.new_path(),
        )  # fmt: skip
        try:
            found = _run_within(self.pool, job, CACHE_SECONDS.value)
        except StoreError:
            with suppress(OSError, InvalidImage):  # a damaged config: the manifest says whether it is that of a cache
                documents.manifest = Manifest.from_bytes(_read_file(job.manifest_path, MANIFEST_BYTES.value))
            raise
        for text in found.notes:
            self.observe(Note(text))
        if found.digest:
            documents.digest = Digest.parse(found.digest)
            manifest = _read_file(job.manifest_path, MANIFEST_BYTES.value)
            documents.manifest = Manifest.from_bytes(manifest, found.media_type)
            documents.config = _read_file(job.config_path, CONFIG_BYTES.value)

    def _read_layout(self, place: LocalCache, documents: _Documents) -> None:
        with open_layout(place) as members:
            entry = None if members is None else tagged_manifest(members, place)
            while members is not None and entry is not None:
                try:
                    self._read_image(members, entry, documents)
                    return
                except NotFound:
                    before, entry = entry, tagged_manifest(members, place)
                    if entry == before:
                        raise
                    # Else another process has replaced this cache meanwhile, and removed its blobs.

    def _read_image(self, members: DirectoryMembers, entry: Descriptor, documents: _Documents) -> None:
        blobs = LayoutBlobs(members)

        def read(descriptor: Descriptor) -> bytes:
            return read_blob(blobs, descriptor, MANIFEST_BYTES)

        found, data = cache_manifest(entry, read(entry), self.platform, read)
        documents.digest = found.digest
        documents.manifest = Manifest.from_bytes(data, found.media_type)
        documents.config = read_blob(blobs, documents.manifest.config, CONFIG_BYTES)


class _Documents:
    """What was read so far: a damaged config still leaves the manifest."""

    def __init__(self) -> None:
        self.digest: Digest | None = None
        self.manifest: Manifest | None = None
        self.config = b""


def _run_within(pool: Pool, job: Job[R], seconds: int) -> R:
    """What a job returns. Raises what it raises; TooSlow after so many seconds, and ends its worker."""
    end = time.monotonic() + seconds

    def tick() -> None:
        if time.monotonic() >= end:
            raise TooSlow(f"it was not read within {CACHE_SECONDS.shown()}", hint=CACHE_SECONDS.hint())

    with Tasks[None, R](tick) as tasks:
        tasks.start(None, pool.job_without_core(job))
        return tasks.next_ended()[1]


def _read_file(path: str, limit: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(limit + 1)


def cache_reader(
    ingest: Ingest, pool: Pool, observe: Callable[[Event], None], *, tls_verify: bool, platform: Platform
) -> CacheReader:
    """A reader with the environment of this process."""
    return CacheReader(ingest, pool, observe, os.environ, tls_verify, platform)
