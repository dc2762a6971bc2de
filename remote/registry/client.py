"""Reading images from registries, by the OCI distribution-spec 1.1.

    with RegistryClient(config, Credentials(environ), environ) as client:
        image = client.manifest(Reference.parse("debian:bookworm"), Platform.host())
        manifest = Manifest.from_bytes(image.data, image.descriptor.media_type)
        config = client.config(reference, manifest.config)
        client.blob(reference, manifest.layers[0], file, on_bytes)

Every blob is checked against its descriptor, so it can come from a mirror, through redirects, or in several parts. Which
manifest a tag names is only the registry's (or its mirror's) claim; pybuild cannot check it.
"""

from __future__ import annotations

import dataclasses
import io
import time
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from pybuild.remote.errors import TooSlow, Unreachable
from pybuild.remote.http.transport import public_error
from pybuild.remote.http.urls import is_private
from pybuild.remote.registry.blob_content import CheckedContent, SourceFailed
from pybuild.remote.registry.blob_reader import BlobReader
from pybuild.remote.registry.documents import FetchedManifest, fetch_digest, fetch_document
from pybuild.remote.registry.download import Download
from pybuild.remote.registry.endpoints import endpoints
from pybuild.remote.registry.known_origins import KnownOrigins
from pybuild.remote.registry.session import RegistrySession
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.media_types import INDEXES
from pybuild.store.formats.oci_manifest import Index, Manifest
from pybuild.values.errors import PybuildError
from pybuild.values.limits import CONFIG_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.urls import Address
    from pybuild.remote.registry.blob_content import BlobContent
    from pybuild.remote.registry.config import Config
    from pybuild.remote.registry.credentials import Credentials
    from pybuild.remote.registry.endpoints import Endpoint
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference

_MAX_NESTING = 4  # an index in an index
_MIRROR_TRIES = 2

T = TypeVar("T")


class RegistryClient:
    """Reads images, one request after the other. A context manager."""

    def __init__(
        self,
        config: Config,
        credentials: Credentials,
        environ: Mapping[str, str],
        *,
        tls_verify: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        private: Callable[[Address], bool] = is_private,
        passed_over: Iterable[str] = (),
        origins: KnownOrigins | None = None,
    ) -> None:
        """`environ` names the proxies and the directories of certificates, `passed_over` mirrors that are known to be down."""
        self._config = config
        self._credentials = credentials
        self._environ = environ
        self._tls_verify = tls_verify
        self._sleep = sleep
        self._clock = clock
        self._private = private
        self._sessions: dict[Endpoint, RegistrySession] = {}
        self._origins = origins or KnownOrigins()
        self._passed_over = dict.fromkeys(passed_over, "")  # host of a mirror -> why it is not asked any more

    @property
    def passed_over(self) -> tuple[str, ...]:
        """The mirrors that are down, for another client."""
        return tuple(self._passed_over)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: mirrors that this client found to be down, credentials that cannot be read."""
        mirrors = (f"the mirror {host} is passed over: {why}" for host, why in self._passed_over.items() if why)
        return (*mirrors, *(f"credentials are not used: {trouble}" for trouble in self._credentials.troubles))

    def manifest(self, reference: Reference, platform: Platform) -> FetchedManifest:
        """The image's manifest. From an index it selects the one for `platform`.

        Raises NotFound, InvalidImage if it is not an image, DigestMismatch, RemoteError.
        """
        return self._try_servers(reference, lambda session: _manifest(session, reference.with_default_tag(), platform))

    def config(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """The config of an image. Raises InvalidImage if it is too large, and the errors of `blob`."""
        limit = self._config.limits.config_bytes
        if descriptor.size > limit:
            what = f"{reference}: a config of {descriptor.size} bytes"
            raise InvalidImage(f"{what} exceeds the limit of {CONFIG_BYTES.shown(limit)}", hint=CONFIG_BYTES.hint())
        with io.BytesIO() as file:
            self.blob(reference, descriptor, file)
            return file.getvalue()

    def blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        file: BinaryIO,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Download a blob into `file`, replacing its content; `on_bytes` gets the number of bytes so far.

        Raises NotFound, DigestMismatch, RemoteError, and leaves the file empty; OSError if it cannot be written.
        """
        self._try_servers(reference, lambda session: Download(session, descriptor, file, on_bytes).run())

    def document(self, reference: Reference, expected: Descriptor | None = None) -> FetchedManifest:
        """A manifest or an index of any media type: the one that the name means, or the one with this descriptor.

        Raises NotFound, InvalidImage, DigestMismatch, RemoteError.
        """
        name = reference.with_default_tag()
        digest = name.digest if expected is None else expected.digest
        target = str(digest or name.tag)

        def fetch(session: RegistrySession) -> FetchedManifest:
            return session.retry(lambda: fetch_document(session, target, digest, expected, any_type=True))

        return self._try_servers(reference, fetch)

    def digest(self, reference: Reference) -> Digest | None:
        """The digest of what a name means, by a request that registries do not count as a download.

        None if the registry does not tell it. Raises NotFound, RemoteError.
        """
        name = reference.with_default_tag()
        if name.digest is not None:
            return name.digest
        return self._try_servers(name, lambda session: session.retry(lambda: fetch_digest(session, str(name.tag))))

    def pass_on(self, reference: Reference, descriptor: Descriptor, send: Callable[[BlobContent], T]) -> T:
        """What `send` returns, which sends a blob elsewhere while it is read. `send` is called again for the next server.

        Raises NotFound, DigestMismatch, RemoteError, and the errors of `send`.
        """

        def attempt(session: RegistrySession) -> tuple[T | None, PybuildError | None]:
            reader = BlobReader(session, descriptor)
            with closing(CheckedContent(descriptor.digest, descriptor.size, reader.read, reader.where)) as content:
                try:
                    return send(content), None
                except SourceFailed as failed:
                    raise failed.error from None
                except PybuildError as error:  # of the other side: the next server would not help
                    return None, error

        result, error = self._try_servers(reference, attempt)
        if error is not None:
            raise error
        return cast("T", result)

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            session.close()

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try_servers(self, reference: Reference, action: Callable[[RegistrySession], T]) -> T:
        """The result of the first server that succeeds: mirrors, then the registry. Raises the registry's error."""
        *mirrors, registry = endpoints(reference, self._config, tls_verify=self._tls_verify)
        mirror_failure = ""
        for mirror in mirrors:
            if mirror.registry in self._passed_over:
                continue
            try:
                return action(self._session(mirror, self._mirror_limits))
            except PybuildError as error:
                mirror_failure = mirror_failure or f"before that, the mirror failed: {error}"
                if isinstance(error, Unreachable | TooSlow):
                    self._passed_over[mirror.registry] = str(error)
        try:
            return action(self._session(registry, self._config.limits))
        except PybuildError as error:
            public = public_error(error)
            raise public.hinting("; ".join(part for part in (public.hint, mirror_failure) if part) or None) from None

    @property
    def _mirror_limits(self) -> RemoteLimits:
        """A mirror gets few retries, because the registry itself is left."""
        limits = self._config.limits
        return dataclasses.replace(limits, retries=min(limits.retries, _MIRROR_TRIES))

    def _session(self, endpoint: Endpoint, limits: RemoteLimits) -> RegistrySession:
        if endpoint not in self._sessions:
            self._sessions[endpoint] = RegistrySession(
                endpoint,
                limits,
                self._credentials,
                self._environ,
                sleep=self._sleep,
                clock=self._clock,
                private=self._private,
                origins=self._origins,
            )
        return self._sessions[endpoint]


def _manifest(session: RegistrySession, reference: Reference, platform: Platform) -> FetchedManifest:
    # If a reference has both, the digest decides, and the tag has no effect.
    target = str(reference.digest or reference.tag)
    digest, expected = reference.digest, None
    for _ in range(_MAX_NESTING):
        fetched = session.retry(lambda: fetch_document(session, target, digest, expected))  # noqa: B023 - called at once
        if fetched.descriptor.media_type not in INDEXES:
            Manifest.from_bytes(fetched.data, fetched.descriptor.media_type)
            return fetched
        try:
            expected = Index.from_bytes(fetched.data, fetched.descriptor.media_type).select(platform)
        except NotFound as error:
            raise NotFound(f"{reference}: {error}", hint=error.hint) from None
        target, digest = str(expected.digest), expected.digest
    raise InvalidImage(f"{reference}: indexes nested deeper than the limit of {_MAX_NESTING}")
