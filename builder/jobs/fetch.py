"""The job of a download."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from pybuild.store.formats.digest import Digest
from pybuild.values import frozen


@frozen
class FetchedUrl:
    """What a URL has: its digest and size, and the headers by which its server knows the version.

    Where it is still what it was there is no digest, and nothing was written.
    """

    digest: str
    size: int
    etag: str
    last_modified: str


@frozen
class FetchUrl:
    """Download a URL to `path`, unless it still has the version of `etag` and `last_modified`.

    `environ` has the proxies, and where certificates and the configuration are.
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
