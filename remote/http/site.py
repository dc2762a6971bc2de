"""A server as a user knows it, and what it may cost to talk to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.remote.http.urls import Origin


@frozen
class RemoteLimits:
    """What a server may cost. Seconds and bytes."""

    connect_seconds: float = 10
    header_seconds: float = 30  # from the request to the end of the answer's headers
    rate_seconds: float = 60  # the time over which the lowest rate is measured
    lowest_rate: int = 1024  # bytes a second
    blob_seconds: float = 600  # for one blob, and on top of it a second for each `blob_rate` bytes
    blob_rate: int = 16 << 10
    retries: int = 5  # requests for one thing, the first one counted
    wait_seconds: float = 60  # the longest wait that a server may ask for
    redirects: int = 10
    manifest_bytes: int = 4 << 20
    config_bytes: int = 8 << 20
    token_bytes: int = 64 << 10
    error_bytes: int = 64 << 10
    download_bytes: int = 16 << 30  # of one file that a recipe names by its URL


@frozen
class Site:
    """The server that is meant; every other one is somewhere that it has sent us to."""

    name: str  # host[:port]: messages and certificates go by it
    origins: tuple[Origin, ...]  # where there are two, the second is the same without TLS
    verify: bool = True  # its certificate
    ca_files: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return self.origins[0].host
