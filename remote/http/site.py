"""A server that the user named, and the limits for talking to servers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pybuild.values import frozen, limits

if TYPE_CHECKING:
    from pybuild.remote.http.urls import Origin


@frozen
class RemoteLimits:
    """The seconds and bytes that servers may use; values/limits.py says what each of them bounds."""

    connect_seconds: float = limits.CONNECT_SECONDS.default
    header_seconds: float = limits.HEADER_SECONDS.default
    rate_seconds: float = limits.RATE_SECONDS.default
    lowest_rate: int = limits.LOWEST_RATE.default
    blob_seconds: float = limits.BLOB_SECONDS.default
    blob_rate: int = limits.BLOB_RATE.default
    retries: int = limits.RETRIES.default
    wait_seconds: float = limits.WAIT_SECONDS.default
    redirects: int = limits.REDIRECTS.default
    manifest_bytes: int = limits.MANIFEST_BYTES.default
    config_bytes: int = limits.CONFIG_BYTES.default
    token_bytes: int = limits.TOKEN_BYTES.default
    error_bytes: int = limits.ERROR_BYTES.default
    download_bytes: int = limits.DOWNLOAD_BYTES.default

    @staticmethod
    def current() -> RemoteLimits:
        """The limits that apply now."""
        names = [one.name for one in dataclasses.fields(RemoteLimits)]
        return RemoteLimits(**{name: limits.LIMITS[name.replace("_", "-")].value for name in names})


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
