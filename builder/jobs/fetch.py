"""The job that downloads a file from a URL."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from pybuild.store.formats.digest import Digest
from pybuild.values import frozen


@frozen
class FetchedUrl:
    """A download: its digest and size, and the headers that identify its version.

    If the server still has the known version, `digest` is "" and nothing was written.
    """

    digest: str
    size: int
    etag: str
    last_modified: str


@frozen
class FetchUrl:
    """Download a URL to `path`, unless the server still has the version of `etag` and `last_modified`.

    `environ` names the proxies, the certificates and the configuration files.
    """

    in_namespace: ClassVar[bool] = False
    url: str = field(repr=False)
    path: str
    environ: tuple[tuple[str, str], ...] = field(repr=False)
    etag: str = ""
    last_modified: str = ""
    checksum: str | None = None

    def run(self) -> FetchedUrl:
        from pybuild.remote.http.fetch import Validators, fetch
        from pybuild.remote.http.site import Site
        from pybuild.remote.http.urls import UrlWithLogin
        from pybuild.remote.registry.config import Config

        environ = dict(self.environ)
        config = Config.load(environ)
        location = UrlWithLogin.parse(self.url)
        origin = location.url.origin
        settings = config.for_registry(origin.authority)
        site = Site(origin.authority, (origin,), settings.tls_verify, settings.ca_files)
        checksum = Digest.parse(self.checksum) if self.checksum is not None else None
        with open(self.path, "xb") as file:
            found = fetch(
                location, file, site, config.limits, environ,
                known=Validators(self.etag, self.last_modified), checksum=checksum,
            )  # fmt: skip
        if found is None:
            return FetchedUrl("", 0, self.etag, self.last_modified)
        return FetchedUrl(str(found.digest), found.size, found.validators.etag, found.validators.last_modified)
