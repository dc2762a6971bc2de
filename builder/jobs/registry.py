"""The jobs that talk to registries. They import an HTTP library when they run, so that the main process does not."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.jobs.open_registries import connected
from pybuild.builder.jobs.progress import counter
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from pybuild.remote.registry.client import RegistryClient
    from pybuild.remote.registry.config import Config
    from pybuild.remote.registry.credentials import Credentials
    from pybuild.remote.registry.known_origins import KnownOrigins
    from pybuild.remote.registry.push import RepositoryWriter


@frozen
class RegistryAccess:
    """How to reach registries: the user's environment, whether to verify certificates, and what is known of them.

    `origins` is the path of the file in which workers note whether a registry speaks https or http; "": they do not.
    """

    environ: tuple[tuple[str, str], ...] = field(repr=False)
    tls_verify: bool
    origins: str = ""
    passed_over: tuple[str, ...] = ()  # hosts of mirrors that are down

    def client(self) -> AbstractContextManager[RegistryClient]:
        """A client with the configuration and the credentials that the environment names. Raises ConfigError."""
        from pybuild.remote.registry.client import RegistryClient

        return connected(
            self,
            lambda: RegistryClient(
                *self._settings(), tls_verify=self.tls_verify, passed_over=self.passed_over, origins=self._origins()
            ),
        )

    def writer(self, repository: str, sources: Sequence[str] = ()) -> AbstractContextManager[RepositoryWriter]:
        """Writes to a repository, and can mount blobs from `sources`. Raises ConfigError."""
        from pybuild.remote.registry.push import RepositoryWriter

        reference = Reference.parse(repository)
        return connected(
            (self, repository, tuple(sources)),
            lambda: RepositoryWriter(
                *self._settings(), reference, sources=sources, tls_verify=self.tls_verify, origins=self._origins()
            ),
        )

    def _origins(self) -> KnownOrigins:
        from pybuild.remote.registry.known_origins import KnownOrigins

        return KnownOrigins(self.origins)

    def _settings(self) -> tuple[Config, Credentials, Mapping[str, str]]:
        from pybuild.remote.registry.config import Config
        from pybuild.remote.registry.credentials import Credentials

        environ = dict(self.environ)
        return Config.load(environ), Credentials(environ), environ


@frozen
class FoundManifest:
    """An image in a registry, for one platform."""

    media_type: str
    digest: str
    size: int
    passed_over: tuple[str, ...] = ()  # hosts of mirrors that are down
    notes: tuple[str, ...] = ()  # for the user


@frozen
class FetchedBlob:
    """A blob was downloaded."""

    passed_over: tuple[str, ...] = ()  # hosts of mirrors that are down
    notes: tuple[str, ...] = ()  # for the user


@frozen
class FetchImage:
    """Ask the registry for the image that a name means for a platform: its manifest and its config.

    The config is not fetched if the manifest has the digest `known`.
    """

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    reference: str
    platform: str
    known: str  # or ""
    manifest_path: str
    config_path: str

    def run(self) -> FoundManifest:
        platform, reference = Platform.parse(self.platform), Reference.parse(self.reference)
        with self.access.client() as client:
            fetched = client.manifest(reference, platform)
            found = fetched.descriptor
            write_new(self.manifest_path, fetched.data)
            if str(found.digest) != self.known:
                manifest = Manifest.from_bytes(fetched.data, found.media_type)
                write_new(self.config_path, client.config(reference, manifest.config))
            return FoundManifest(found.media_type, str(found.digest), found.size, client.passed_over, client.notes)


@frozen
class FetchBlob:
    """Download a blob to `path`, and report how far it is. The result has the mirrors that are down."""

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    repository: str
    media_type: str
    digest: str
    size: int
    path: str

    def run(self) -> FetchedBlob:
        with self.access.client() as client, open(self.path, "xb", buffering=0) as file:
            self.download(client, file)
            return FetchedBlob(client.passed_over, client.notes)

    def download(
        self, client: RegistryClient, file: BinaryIO, on_bytes: Callable[[int], object] = lambda _: None
    ) -> None:
        """Download the blob into a file. `on_bytes` is called as `RegistryClient.blob` says."""
        count = counter(self.size)

        def arrived(size: int) -> None:
            on_bytes(size)
            count(size)

        descriptor = Descriptor(self.media_type, Digest.parse(self.digest), self.size)
        client.blob(Reference.parse(self.repository), descriptor, file, arrived)


def write_new(path: str, data: bytes) -> None:
    """Write a file that does not exist yet."""
    with open(path, "xb") as file:
        file.write(data)
