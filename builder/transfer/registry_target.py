"""Copying an image to a repository of a registry: the blobs first, then the manifests, each after those that it names.

The repository is asked first what it has. A blob of another repository of the same registry is mounted from there. The
name changes last, so a copy that ends early publishes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Transfer
from pybuild.builder.jobs.transfer import (
    AskedDocument,
    BlobOrigin,
    FindAbsent,
    SendBlobs,
    SendDocuments,
    SentBlob,
    SentDocument,
)
from pybuild.builder.output.push import absent_blobs, upload_progress
from pybuild.builder.transfer.source import LocalBlobs, MovedBytes, RemoteBlobs
from pybuild.builder.workers.shares import BLOBS_AT_ONCE, shares
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.transfer.source import CopySource
    from pybuild.builder.transfer.workshop import CopyWorkshop
    from pybuild.store.formats.image_graph import ImageDocument
    from pybuild.store.formats.reference import Reference


@frozen
class RegistryTarget:
    """A name in a registry."""

    name: Reference  # with a tag or a digest
    access: RegistryAccess

    @property
    def repository(self) -> Reference:
        return replace(self.name, tag=None, digest=None)

    def check(self, source: CopySource) -> None:
        """Raise BuildError if the name has the digest of another image."""
        digest = source.graph.root.descriptor.digest
        if self.name.digest not in (None, digest):
            raise BuildError(f"cannot copy to {self.name.familiar}: the image has the digest {digest}")

    def write(self, source: CopySource, work: CopyWorkshop) -> MovedBytes:
        """Make the image of this name the same as the source. Raises BuildError, StoreError, RemoteError."""
        repository = str(self.repository)
        documents = source.graph.documents
        sources = self._sources(source)
        asked = tuple(AskedDocument(str(one.descriptor.digest), one.descriptor.media_type) for one in documents)
        found = work.pool.run(FindAbsent(self.access, repository, sources, self.name.tag, asked, ()))
        if found.tagged:
            return MovedBytes(0, source.graph.size)
        absent = {Digest.parse(digest) for digest in found.digests}
        lacking = [one for one in documents if one.descriptor.digest in absent]
        sent = self._send_blobs(source, self._absent_blobs(lacking, sources, work), work)
        self._send_documents(lacking, source, work)
        return MovedBytes(sent, source.graph.size - sent)

    def _sources(self, source: CopySource) -> tuple[str, ...]:
        """The repositories of this registry from which blobs can be mounted."""
        return tuple(sorted(set(source.mounts(self.repository).values())))

    def _absent_blobs(
        self, documents: Sequence[ImageDocument], sources: tuple[str, ...], work: CopyWorkshop
    ) -> list[Digest]:
        """The blobs of these documents that the repository lacks. If it has a document, it has the blobs of that too."""
        blobs = list(dict.fromkeys(blob.digest for document in documents for blob in document.blobs))
        return absent_blobs(work.pool, self.access, self.repository, sources, blobs)

    def _send_blobs(self, source: CopySource, wanted: Sequence[Digest], work: CopyWorkshop) -> int:
        blobs, origin = source.blobs, None
        if isinstance(blobs, RemoteBlobs):
            origin = BlobOrigin(blobs.access, str(blobs.reference))
        mounts, known = source.mounts(self.repository), source.graph.blobs
        sent = [
            SentBlob(
                str(digest),
                known[digest].size,
                blobs.place(digest) if isinstance(blobs, LocalBlobs) else None,
                mounts.get(str(digest), ""),
            )
            for digest in sorted(wanted, key=lambda digest: -known[digest].size)
        ]
        total = sum(blob.size for blob in sent)
        repository, sources = str(self.repository), self._sources(source)
        jobs = [
            SendBlobs(self.access, repository, sources, share, work.scratch(), origin)
            for share in shares(sent)
            if share
        ]

        def report() -> None:
            done = sum(upload_progress(job.progress) for job in jobs)
            work.observe(Transfer(self.name.familiar, min(done, total), total, "copied"))

        return sum(done.sent for done in work.pool.run_many(jobs, BLOBS_AT_ONCE, report)) if jobs else 0

    def _send_documents(self, lacking: Sequence[ImageDocument], source: CopySource, work: CopyWorkshop) -> None:
        """Write the documents that the repository lacks, and the root under its name."""
        root = source.graph.root
        below = [document for document in lacking if document is not root]
        names = [*(str(document.descriptor.digest) for document in below), self.name.tag or str(self.name.digest)]
        sent = []
        for document, name in zip([*below, root], names, strict=True):
            path = work.scratch()
            with open(path, "xb") as file:
                file.write(document.data)
            sent.append(SentDocument(path, document.descriptor.media_type, name))
        work.pool.run(SendDocuments(self.access, str(self.repository), self._sources(source), tuple(sent)))
