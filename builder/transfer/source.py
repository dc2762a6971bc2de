"""The source of a copy: all documents of the image in memory, and the way to its blobs."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pybuild.builder.events import Note, Transfer
from pybuild.builder.jobs.registry import FetchBlob
from pybuild.builder.jobs.transfer import FetchGraph
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.transfer.places import RegistryPlace, StorePlace
from pybuild.builder.workers.shares import shares
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.image_graph import ImageGraph, read_graph
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.importing.archived import ArchivePlace, import_archived
from pybuild.store.importing.archived_graph import open_archived_graph
from pybuild.store.importing.members import MemberPlace
from pybuild.store.objects.blobs import VerifyingReader
from pybuild.store.objects.indexes import StoredIndex, digest_of, images_of
from pybuild.store.store import Store
from pybuild.store.system.disk_full import require_space
from pybuild.store.system.files import file_size
from pybuild.values import frozen
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.transfer.places import CopyPlace
    from pybuild.builder.transfer.workshop import CopyWorkshop
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.indexes import Stored

    Opener: TypeAlias = Callable[[Digest], VerifyingReader]


@frozen
class RemoteBlobs:
    """Blobs in a registry."""

    reference: Reference
    access: RegistryAccess


@frozen
class LocalBlobs:
    """Blobs on this machine: how to read one here, and where another process finds it. Neither is checked before."""

    open: Opener
    place: Callable[[Digest], MemberPlace]


@frozen
class CopySource:
    """An image that is copied. `mounts` gives, for a target repository, the repositories beside it that have blobs."""

    shown: str
    graph: ImageGraph
    names: tuple[Reference, ...]
    tag: str  # a name that is a tag alone
    blobs: RemoteBlobs | LocalBlobs
    mounts: Callable[[Reference], Mapping[str, str]]


@frozen
class MovedBytes:
    """The bytes of the blobs of a copy: what the destination lacked, and what it had."""

    sent: int
    spared: int


@contextmanager
def opened_source(
    place: CopyPlace, platform: Platform | None, access: RegistryAccess, work: CopyWorkshop
) -> Iterator[CopySource]:
    """The image at a place: whole, or its part for a platform. Raises BuildError, StoreError, RemoteError, OSError."""
    match place:
        case RegistryPlace():
            yield _of_registry(place, platform, access, work)
        case StorePlace():
            stored, name = work.store.indexes.find(place.name, platform)
            # Layers of a base can be in their registry still.
            fetcher = LayerFetcher(work.store, work.pool, work.observe, access.tls_verify)
            for image in images_of(stored):
                run_until_complete(fetcher.fetch_image(image))
            yield _stored(work.store, stored, () if name is None else (name,), str(place))
        case ArchivePlace():
            with open_archived_graph(place, work.scratch, platform) as found:
                if found is not None:
                    blobs = LocalBlobs(found.open, found.place)
                    yield CopySource(str(place), found.graph, found.names, found.tag, blobs, lambda _: {})
                    return
            work.observe(Note(f"{place} has no manifest: it gets one here, and layers without compression become gzip"))
            with Store(work.large_scratch()) as scratch:
                image, names = import_archived(scratch, place, work.large_scratch, platform)
                yield _stored(scratch, image, names, str(place))
        case _:
            assert_never(place)


def opener(source: CopySource, wanted: Sequence[Digest], directory: str, work: CopyWorkshop) -> Opener:
    """A function that reads documents and the `wanted` blobs; those of a registry are fetched to `directory` now."""
    documents = {one.descriptor.digest: one.data for one in source.graph.documents}
    blobs = source.graph.blobs
    if isinstance(source.blobs, RemoteBlobs):
        files = fetch_blobs(source, source.blobs, [blobs[digest] for digest in wanted], directory, work)
        open_blob: Opener = lambda digest: VerifyingReader(  # noqa: E731
            open(files[digest], "rb"), digest, blobs[digest].size
        )
    else:
        open_blob = source.blobs.open

    def open_any(digest: Digest) -> VerifyingReader:
        if digest in documents:
            return VerifyingReader(io.BytesIO(documents[digest]), digest, len(documents[digest]))
        return open_blob(digest)

    return open_any


def fetch_blobs(
    source: CopySource, remote: RemoteBlobs, wanted: Sequence[Descriptor], directory: str, work: CopyWorkshop
) -> dict[Digest, str]:
    """Fetch blobs to files in a directory, several at a time; return their paths."""
    largest_first = sorted(wanted, key=lambda blob: -blob.size)
    total = sum(blob.size for blob in largest_first)
    require_space(directory, total, f"{source.shown}: what has to be fetched")
    jobs = [
        FetchBlob(
            remote.access, str(remote.reference), one.media_type, str(one.digest), one.size, f"{directory}/{number}"
        )
        for number, one in enumerate(largest_first)
    ]

    def report() -> None:
        work.observe(Transfer(source.shown, sum(file_size(job.path) for job in jobs), total, "copied"))

    for fetched in work.pool.run_many(jobs, len(shares(largest_first)), report):
        for text in fetched.notes:
            work.observe(Note(text))
    return {Digest.parse(job.digest): job.path for job in jobs}


def _of_registry(
    place: RegistryPlace, platform: Platform | None, access: RegistryAccess, work: CopyWorkshop
) -> CopySource:
    name = place.reference
    found = work.pool.run(FetchGraph(access, str(name), "" if platform is None else str(platform), work.scratch()))
    for text in found.notes:
        work.observe(Note(text))
    paths = {Digest.parse(document.digest): document.path for document in found.documents}

    def read(descriptor: Descriptor) -> bytes:
        with open(paths[descriptor.digest], "rb") as file:
            return file.read(MANIFEST_BYTES.value + 1)

    root = found.documents[-1]
    graph = read_graph(Descriptor(root.media_type, Digest.parse(root.digest), root.size), read)
    names = () if name.tag is None else (replace(name, digest=None),)

    def mounts(target: Reference) -> dict[str, str]:
        beside = target.domain == name.domain and target.path != name.path
        return {str(digest): name.path for digest in graph.blobs} if beside else {}

    blobs = RemoteBlobs(name, replace(access, passed_over=found.passed_over))
    return CopySource(str(place), graph, names, "", blobs, mounts)


def _stored(store: Store, stored: Stored, names: tuple[Reference, ...], shown: str) -> CopySource:
    kind = stored.index.media_type if isinstance(stored, StoredIndex) else stored.manifest.media_type
    root = Descriptor(kind, digest_of(stored), store.blobs.size(digest_of(stored)) or 0)
    graph = read_graph(root, lambda descriptor: store.blobs.read(descriptor.digest, MANIFEST_BYTES))
    blobs = LocalBlobs(store.blobs.open, lambda digest: MemberPlace(store.blobs.path(digest)))
    return CopySource(shown, graph, names, "", blobs, lambda _: {})
