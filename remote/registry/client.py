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
import hashlib
import io
import time
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from pybuild.remote.errors import RemoteError, TooSlow, Unreachable
from pybuild.remote.http.transport import public_error
from pybuild.remote.http.urls import is_private, printable
from pybuild.remote.registry.download import Download
from pybuild.remote.registry.endpoints import endpoints
from pybuild.remote.registry.known_origins import KnownOrigins
from pybuild.remote.registry.session import RegistrySession
from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound
from pybuild.store.formats.bounded_json import load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor, Index, Manifest
from pybuild.values import frozen
from pybuild.values.errors import PybuildError
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.urls import Address
    from pybuild.remote.registry.config import Config
    from pybuild.remote.registry.credentials import Credentials
    from pybuild.remote.registry.endpoints import Endpoint
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference

_INDEXES = (MediaType.OCI_INDEX, MediaType.DOCKER_INDEX)
_MANIFESTS = (MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST)
_ACCEPT = ", ".join(_INDEXES + _MANIFESTS)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_MAX_NESTING = 4  # an index in an index
_MIRROR_TRIES = 2

T = TypeVar("T")


@frozen
class FetchedManifest:
    """The manifest of an image for one platform: its descriptor, and its bytes as the registry sent them."""

    descriptor: Descriptor
    data: bytes


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
        fetched = session.retry(lambda: _fetch(session, target, digest, expected))  # noqa: B023 - called at once
        if fetched.descriptor.media_type not in _INDEXES:
            Manifest.from_bytes(fetched.data, fetched.descriptor.media_type)
            return fetched
        try:
            expected = Index.from_bytes(fetched.data, fetched.descriptor.media_type).select(platform)
        except NotFound as error:
            raise NotFound(f"{reference}: {error}", hint=error.hint) from None
        target, digest = str(expected.digest), expected.digest
    raise InvalidImage(f"{reference}: indexes nested deeper than the limit of {_MAX_NESTING}")


def _fetch(
    session: RegistrySession, target: str, digest: Digest | None, expected: Descriptor | None
) -> FetchedManifest:
    """One manifest or index, checked against the digest or descriptor that names it."""
    where = f"{session.endpoint.name}: manifest {target}"
    limit = session.limits.manifest_bytes
    if expected is not None and expected.size > limit:
        shown = MANIFEST_BYTES.shown(limit)
        raise InvalidImage(f"{where}: {expected.size} bytes exceed the limit of {shown}", hint=MANIFEST_BYTES.hint())
    with session.get(f"manifests/{target}", {"Accept": _ACCEPT}) as response:
        data = response.read(limit, "a manifest", MANIFEST_BYTES)
        content_type = response.header("Content-Type").partition(";")[0].strip().lower()
        announced = response.header("Docker-Content-Digest")
    if expected is not None and len(data) != expected.size:
        raise DigestMismatch(f"{where}: {len(data)} bytes, its descriptor says {expected.size}")
    if digest is not None:
        _check(data, digest, where)
    if announced:
        try:
            _check(data, Digest.parse(announced), f"{where}, by its Docker-Content-Digest")
        except InvalidImage:
            raise RemoteError(f"{where}: Docker-Content-Digest {printable(announced)} is not a digest") from None
    kind = _media_type(data, content_type, where)
    if expected is not None and expected.media_type and expected.media_type != kind:
        raise InvalidImage(f"{where}: it is {kind!r}, its descriptor says {printable(expected.media_type)!r}")
    return FetchedManifest(Descriptor(kind, digest or Digest.of(data), len(data)), data)


def _check(data: bytes, digest: Digest, where: str) -> None:
    found = hashlib.new(digest.algorithm, data).hexdigest()
    if found != digest.hex:
        raise DigestMismatch(f"{where}: expected {digest}, got {digest.algorithm}:{found}")


def _media_type(data: bytes, content_type: str, where: str) -> str:
    """The media type of a document: its Content-Type, or if that is generic, the document's own `mediaType`."""
    if content_type in _INDEXES + _MANIFESTS:
        return content_type
    if content_type.startswith(_SCHEMA_1):
        raise InvalidImage(f"{where}: schema 1 is not supported", hint="push the image again with a newer tool")
    if content_type not in ("", "application/json", "application/octet-stream", "text/plain"):
        raise InvalidImage(f"{where}: unexpected Content-Type {printable(content_type)!r}")
    document = load_object(data, "manifest", limit=MANIFEST_BYTES)
    own = document.get("mediaType")
    if isinstance(own, str) and own in _INDEXES + _MANIFESTS:
        return own
    return MediaType.OCI_INDEX if "manifests" in document else MediaType.OCI_MANIFEST
