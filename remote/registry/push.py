"""Writing to one repository of a registry, by the OCI distribution-spec 1.1.

    with RepositoryWriter(config, Credentials(environ), environ, Reference.parse("registry.example/app:1")) as writer:
        if not writer.has_manifest("1", digest):
            for blob in blobs:
                if not writer.has_blob(blob.digest):
                    writer.put_blob(blob)
            writer.put_manifest("1", data, MediaType.OCI_MANIFEST)

An image is complete and under its name when the manifest is there: it comes last. A push goes to the registry itself, never
to a mirror.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.transport import RequestRefused, public_error
from pybuild.remote.http.urls import is_private
from pybuild.remote.registry.endpoints import endpoints
from pybuild.remote.registry.known_origins import KnownOrigins
from pybuild.remote.registry.session import RegistrySession
from pybuild.remote.registry.upload import CHUNK, Upload, UploadOutcome, check_digest, has_blob
from pybuild.store.errors import NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from pybuild.remote.http.urls import Address
    from pybuild.remote.registry.blob_content import BlobContent
    from pybuild.remote.registry.config import Config
    from pybuild.remote.registry.credentials import Credentials
    from pybuild.store.formats.reference import Reference

T = TypeVar("T")
_OLD_REGISTRY = "if it is older than OCI: -o type=registry,oci-mediatypes=false writes docker's media types"
_TYPE_REFUSED = (400, 415)  # what old registries answer to a media type that they do not know


class RepositoryWriter:
    """Writes blobs and manifests, one request after the other. A context manager."""

    def __init__(
        self,
        config: Config,
        credentials: Credentials,
        environ: Mapping[str, str],
        repository: Reference,
        *,
        sources: Sequence[str] = (),
        tls_verify: bool = True,
        chunk: int = CHUNK,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        private: Callable[[Address], bool] = is_private,
        origins: KnownOrigins | None = None,
    ) -> None:
        """`sources` are the repositories of the registry from which `put_blob` takes blobs; tag and digest are ignored.

        Raises RemoteError if the name has an invalid host.
        """
        self._chunk = chunk
        self._session = RegistrySession(
            endpoints(repository, config, tls_verify=tls_verify)[-1],
            config.limits,
            credentials,
            environ,
            sleep=sleep,
            clock=clock,
            private=private,
            actions="pull,push",
            sources=sources,
            origins=origins or KnownOrigins(),
        )

    def has_manifest(self, tag: str, digest: Digest, media_type: str) -> bool:
        """Whether the tag names this manifest already; `tag` can also be its digest. Raises RemoteError."""
        return self._retry(lambda: self._has_manifest(tag, digest, media_type))

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob. Raises DigestMismatch, RemoteError."""
        return self._retry(lambda: has_blob(self._session, digest))

    def put_blob(
        self, blob: BlobContent, source: str = "", on_bytes: Callable[[int], None] = lambda _: None
    ) -> UploadOutcome:
        """Upload a blob that the repository lacks, or have the registry take it from its repository `source`.

        `on_bytes` gets the number of bytes so far. Raises DigestMismatch, RemoteError, OSError.
        """
        try:
            return Upload(self._session, blob, on_bytes, self._chunk).run(source)
        except PybuildError as error:
            raise public_error(error) from None

    def put_manifest(self, tag: str, data: bytes, media_type: str, *, hint: str = _OLD_REGISTRY) -> None:
        """Write a manifest under a tag, or under its digest; what it names is in the repository.

        `hint` is for a registry that does not know the media type. Raises DigestMismatch, RemoteError.
        """
        self._retry(lambda: self._put_manifest(tag, data, media_type, hint))

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def __enter__(self) -> RepositoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _has_manifest(self, tag: str, digest: Digest, media_type: str) -> bool:
        url = self._session.url(f"manifests/{tag}")
        try:
            with self._session.send("HEAD", url, f"manifest {tag}", {"Accept": media_type}, accept=(200,)) as response:
                # A registry need not name the digest; if it was asked for one, it has that one.
                return (response.header("Docker-Content-Digest").strip() or tag) == str(digest)
        except (NotFound, RequestRefused):
            return False

    def _put_manifest(self, tag: str, data: bytes, media_type: str, hint: str) -> None:
        url, item = self._session.url(f"manifests/{tag}"), f"manifest {tag}"
        headers = {"Content-Type": media_type}
        try:
            response = self._session.send("PUT", url, item, headers, accept=(201, 200, 202, 204), body=data)
        except RequestRefused as error:
            if error.status not in _TYPE_REFUSED or media_type == MediaType.DOCKER_MANIFEST:
                raise
            raise RemoteError(str(error), hint=hint) from None
        with response:
            check_digest(response, Digest.of(data), f"{self._session.endpoint.name}: {item}")

    def _retry(self, action: Callable[[], T]) -> T:
        try:
            return self._session.retry(action)
        except PybuildError as error:
            raise public_error(error) from None
