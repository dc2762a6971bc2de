"""The jobs that write to a repository of a registry. They import an HTTP library when they run, as those of registry.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from pybuild.builder.errors import LayerUnavailable
from pybuild.builder.jobs.job import Done
from pybuild.builder.jobs.registry import RegistryAccess
from pybuild.store.errors import NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pybuild.remote.registry.blob_content import BlobContent
    from pybuild.remote.registry.push import RepositoryWriter
    from pybuild.remote.registry.upload import UploadOutcome

PROGRESS_BYTES = 8  # of a file with progress: a number, the lowest byte first
_STEP = 1 << 20  # bytes


@frozen
class MissingParts:
    """What a repository lacks: tags that do not name the manifest, and digests of blobs."""

    tags: tuple[str, ...]
    blobs: tuple[str, ...]


@frozen
class FindMissing:
    """Ask which parts of an image a repository lacks. If all tags name the manifest, it has all blobs.

    `sources` are the repositories from which blobs can be mounted later: one token then serves for all jobs.
    """

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    tags: tuple[str, ...]
    manifest: str
    media_type: str
    blobs: tuple[str, ...]
    sources: tuple[str, ...]

    def run(self) -> MissingParts:
        manifest = Digest.parse(self.manifest)
        with self.access.writer(self.repository, self.sources) as writer:
            tags = tuple(tag for tag in self.tags if not writer.has_manifest(tag, manifest, self.media_type))
            asked = self.blobs if tags else ()
            return MissingParts(tags, tuple(blob for blob in asked if not writer.has_blob(Digest.parse(blob))))


@frozen
class OutgoingBlob:
    """A blob to upload from `path`; `source` is a repository of the same registry that has it, or "".

    A blob that is not in the store has no path. If it is not taken from `source`, its bytes come from the first of the
    image names `origins` that has it, and pass through the memory of the worker.
    """

    digest: str
    size: int
    path: str
    source: str
    origins: tuple[str, ...] = ()


@frozen
class PushedBlobs:
    """The bytes of the blobs of a job: those that were sent, and those that the registry had in another repository."""

    sent: int
    mounted: int


@frozen
class PushBlobs:
    """Upload blobs one after the other, over one connection. The file `progress` has the number of bytes so far."""

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    blobs: tuple[OutgoingBlob, ...]
    sources: tuple[str, ...]
    progress: str

    def run(self) -> PushedBlobs:
        with self.access.writer(self.repository, self.sources) as writer:
            return put_blobs(writer, self.blobs, self.progress, self._put)

    def _put(self, blob: OutgoingBlob, put: Callable[[BlobContent], UploadOutcome]) -> UploadOutcome:
        from pybuild.remote.registry.blob_content import BlobFile

        digest = Digest.parse(blob.digest)
        if blob.path:
            return put(BlobFile(digest, blob.size, blob.path))
        failure: PybuildError | None = None
        refused = False  # whether it is the registry of the push that failed

        def put_here(content: BlobContent) -> UploadOutcome:
            nonlocal refused
            try:
                return put(content)
            except PybuildError:
                refused = True
                raise

        with self.access.client() as client:
            for origin in blob.origins:
                try:
                    return client.pass_on(Reference.parse(origin), Descriptor("", digest, blob.size), put_here)
                except PybuildError as error:
                    if refused:
                        raise
                    failure = failure if failure and not isinstance(failure, NotFound) else error
        where = ", ".join(Reference.parse(origin).familiar for origin in blob.origins)
        text, hint = f"layer {digest} is not in the store and", None if failure is None else failure.hint
        if failure is None or isinstance(failure, NotFound):
            raise LayerUnavailable(f"{text} not in {where} any more", str(digest), hint=hint)
        raise LayerUnavailable(f"{text} cannot be had from {where}: {failure}", str(digest), hint=hint)


class _BlobToPut(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def source(self) -> str: ...


B = TypeVar("B", bound=_BlobToPut)


def put_blobs(
    writer: RepositoryWriter,
    blobs: Iterable[B],
    path: str,
    put: Callable[[B, Callable[[BlobContent], UploadOutcome]], UploadOutcome],
) -> PushedBlobs:
    """Put blobs into a repository, one after the other. `path` is a free path for the number of bytes so far.

    `put` gets a blob and the function that sends its content, which it calls at once.
    """
    from pybuild.remote.registry.upload import UploadOutcome

    sizes = dict.fromkeys(UploadOutcome, 0)
    with open(path, "xb", buffering=0) as file:
        done = 0
        for blob in blobs:
            progress = UploadProgress(file.fileno(), done)
            outcome = put(blob, lambda content: writer.put_blob(content, blob.source, progress.report))  # noqa: B023 - called at once
            done += blob.size
            progress.write(done)
            sizes[outcome] += blob.size
    return PushedBlobs(sizes[UploadOutcome.SENT], sizes[UploadOutcome.MOUNTED])


@frozen
class PushManifest:
    """Write a manifest under its tags, after its blobs."""

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    tags: tuple[str, ...]
    media_type: str
    path: str
    sources: tuple[str, ...]

    def run(self) -> Done:
        with open(self.path, "rb") as file:
            data = file.read()
        with self.access.writer(self.repository, self.sources) as writer:
            for tag in self.tags:
                writer.put_manifest(tag, data, self.media_type)
        return Done()


class UploadProgress:
    """Writes the number of bytes into a file, at most once for each MiB. `before` are the bytes of the blobs before."""

    def __init__(self, fd: int, before: int) -> None:
        self._fd = fd
        self._before = before
        self._last = 0

    def report(self, done: int) -> None:
        if not self._last <= done < self._last + _STEP:
            self._last = done
            self.write(self._before + done)

    def write(self, number: int) -> None:
        os.pwrite(self._fd, number.to_bytes(PROGRESS_BYTES, "little"), 0)
