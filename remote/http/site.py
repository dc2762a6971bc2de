"""A server that the user named, and the limits for talking to servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.remote.http.urls import Origin


@frozen
class RemoteLimits:
    """The seconds and bytes that servers may use."""

    connect_seconds: float = 10
    header_seconds: float = 30  # from the request to the end of the response's headers
    rate_seconds: float = 60  # the time over which the lowest rate is measured
    lowest_rate: int = 1024  # bytes a second
    blob_seconds: float = 600  # for one blob, plus a second for each `blob_rate` bytes
    blob_rate: int = 16 << 10
    retries: int = 5  # tries of one request, the first one included
    wait_seconds: float = 60  # the longest wait that a server may ask for
    redirects: int = 10
    manifest_bytes: int = 4 << 20
    config_bytes: int = 8 << 20
    token_bytes: int = 64 << 10
    error_bytes: int = 64 << 10
    download_bytes: int = 16 << 30  # of one file or repository that a recipe names by its URL


@frozen
class Site:
    """The server that the user named. A transport sends requests to other servers only if this one redirects there."""

    name: str  # host[:port], for messages and to find its certificates
    origins: tuple[Origin, ...]  # one, or two: with TLS, then without
    verify: bool = True  # whether to verify its certificate
    ca_files: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return self.origins[0].host
