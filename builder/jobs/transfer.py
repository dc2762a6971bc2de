"""The jobs that copy images from and to registries, blob by blob. They import an HTTP library when they run.

A blob on its way from one registry to another passes through the memory of a worker, a piece at a time.
"""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.jobs.job import Done
from pybuild.builder.jobs.push import PushedBlobs, put_blobs
from pybuild.builder.jobs.registry import RegistryAccess
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.image_graph import for_platform, read_graph
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.members import MemberPlace
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.remote.registry.blob_content import BlobContent
    from pybuild.remote.registry.client import RegistryClient
    from pybuild.remote.registry.upload import UploadOutcome

_OLD_REGISTRY = "it might be older than this media type; copy --platform takes one image of an index"


@frozen
class TaggedDigest:
    """The digest that two registries have under their names; "" if they differ or do not tell it."""

    digest: str


@frozen
class CompareTags:
    """Ask whether a name of one registry and a tag of another mean the same, without a download."""

    in_namespace: ClassVar[bool] = False
    source: RegistryAccess
    reference: str
    access: RegistryAccess
    repository: str
    sources: tuple[str, ...]
    tag: str

    def run(self) -> TaggedDigest:
        from pybuild.remote.registry.documents import ACCEPT

        with self.source.client() as client:
            found = client.digest(Reference.parse(self.reference))
        if found is None:
            return TaggedDigest("")
        with self.access.writer(self.repository, self.sources) as writer:
            same = writer.has_manifest(self.tag, found, ACCEPT)
        return TaggedDigest(str(found) if same else "")


@frozen
class FetchedDocument:
    """An index or a manifest, in a file."""

    media_type: str
    digest: str
    size: int
    path: str


@frozen
class FetchedGraph:
    """All documents of an image, each after those that it names."""

    documents: tuple[FetchedDocument, ...]
    passed_over: tuple[str, ...] = ()  # hosts of mirrors that are down
    notes: tuple[str, ...] = ()  # for the user


@frozen
class FetchGraph:
    """Fetch the documents of an image, or those for one platform ("": all), to files that begin with `path`."""

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    reference: str
    platform: str
    path: str

    def run(self) -> FetchedGraph:
        name = Reference.parse(self.reference)
        with self.access.client() as client:
            root = client.document(name)
            known = {root.descriptor.digest: root.data}

            def read(descriptor: Descriptor) -> bytes:
                if descriptor.digest not in known:
                    known[descriptor.digest] = client.document(name, descriptor).data
                return known[descriptor.digest]

            chosen = root.descriptor
            if self.platform:
                wanted = Platform.parse(self.platform)
                chosen = for_platform(chosen, wanted, name.familiar, read, lambda config: client.config(name, config))
            graph = read_graph(chosen, read)
            passed_over, notes = client.passed_over, client.notes
        found = []
        for number, document in enumerate(graph.documents):
            one, path = document.descriptor, f"{self.path}.{number}"
            with open(path, "xb") as file:
                file.write(document.data)
            found.append(FetchedDocument(one.media_type, str(one.digest), one.size, path))
        return FetchedGraph(tuple(found), passed_over, notes)


@frozen
class AskedDocument:
    """A document that a repository might have."""

    digest: str
    media_type: str


@frozen
class AbsentParts:
    """Whether the tag names the image already, and the digests of what the repository lacks."""

    tagged: bool
    digests: tuple[str, ...]


@frozen
class FindAbsent:
    """Ask which documents and which blobs a repository lacks. `sources` are those of its registry for mounts.

    If the tag (None: there is none) names the last document, the repository has everything.
    """

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    sources: tuple[str, ...]
    tag: str | None
    documents: tuple[AskedDocument, ...]
    blobs: tuple[str, ...]

    def run(self) -> AbsentParts:
        with self.access.writer(self.repository, self.sources) as writer:

            def lacks(document: AskedDocument, name: str) -> bool:
                return not writer.has_manifest(name, Digest.parse(document.digest), document.media_type)

            if self.tag is not None and not lacks(self.documents[-1], self.tag):
                return AbsentParts(True, ())
            absent = [document.digest for document in self.documents if lacks(document, document.digest)]
            absent += [blob for blob in self.blobs if not writer.has_blob(Digest.parse(blob))]
        return AbsentParts(False, tuple(absent))


@frozen
class BlobOrigin:
    """The registry that blobs are read from."""

    access: RegistryAccess
    reference: str


@frozen
class SentBlob:
    """A blob to send. `place` is where it lies; None: at the origin. `source` is a repository of the target's registry."""

    digest: str
    size: int
    place: MemberPlace | None
    source: str = ""


@frozen
class SendBlobs:
    """Send blobs one after the other, and check them on the way. The file `progress` has the number of bytes so far."""

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    sources: tuple[str, ...]
    blobs: tuple[SentBlob, ...]
    progress: str
    origin: BlobOrigin | None

    def run(self) -> PushedBlobs:
        with (
            self.access.writer(self.repository, self.sources) as writer,
            nullcontext() if self.origin is None else self.origin.access.client() as client,
        ):
            return put_blobs(writer, self.blobs, self.progress, lambda blob, send: self._send(blob, client, send))

    def _send(
        self, blob: SentBlob, client: RegistryClient | None, send: Callable[[BlobContent], UploadOutcome]
    ) -> UploadOutcome:
        from pybuild.remote.registry.blob_content import CheckedContent, SourceFailed

        digest, place = Digest.parse(blob.digest), blob.place
        if place is None:
            assert client is not None and self.origin is not None
            return client.pass_on(Reference.parse(self.origin.reference), Descriptor("", digest, blob.size), send)

        def read(offset: int) -> Iterator[bytes]:
            return place.chunks(offset, blob.size)

        with closing(CheckedContent(digest, blob.size, read, f"blob {digest}")) as content:
            try:
                return send(content)
            except SourceFailed as failed:
                raise failed.error from None


@frozen
class SentDocument:
    """A document to write, from the file `path`, under a tag or under its digest."""

    path: str
    media_type: str
    name: str


@frozen
class SendDocuments:
    """Write documents, in this order."""

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    sources: tuple[str, ...]
    documents: tuple[SentDocument, ...]

    def run(self) -> Done:
        with self.access.writer(self.repository, self.sources) as writer:
            for document in self.documents:
                with open(document.path, "rb") as file:
                    data = file.read()
                writer.put_manifest(document.name, data, document.media_type, hint=_OLD_REGISTRY)
        return Done()
