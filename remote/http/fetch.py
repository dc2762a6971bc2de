"""Download one file from a URL, within limits and hashed while it arrives; skip it if the server says it is unchanged.

A server names the current content of a URL by ETag or Last-Modified (RFC 9110, 8.8 and 13.1). Both are only the server's
claim; the digest identifies the content.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, BinaryIO

from pybuild.remote.errors import RemoteError, TooSlow
from pybuild.remote.http.retries import Retries, status_error
from pybuild.remote.http.transport import Interrupted, Request, Transport, public_error
from pybuild.remote.listener import listener
from pybuild.store.errors import DigestMismatch
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen
from pybuild.values.limits import BLOB_SECONDS, DOWNLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.remote.http.site import RemoteLimits, Site
    from pybuild.remote.http.transport import Response
    from pybuild.remote.http.urls import UrlWithLogin


@frozen
class Validators:
    """Two headers by which a server names the content of a URL, as it sent them; "" for a missing one (RFC 9110, 8.8)."""

    etag: str = ""
    last_modified: str = ""

    def conditions(self) -> dict[str, str]:
        """The request headers that ask for the content only if it has changed."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


@frozen
class FetchedContent:
    """What was written to the file."""

    digest: Digest
    size: int
    validators: Validators


def fetch(
    location: UrlWithLogin,
    file: BinaryIO,
    site: Site,
    limits: RemoteLimits,
    environ: Mapping[str, str],
    *,
    known: Validators | None = None,
    checksum: Digest | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> FetchedContent | None:
    """Download a URL into `file`; None if the content still has the `known` validators; `file` is then unchanged.

    Raises NotFound, Unauthorized, DigestMismatch, Unreachable, TooSlow, RemoteError; OSError if the file cannot be written.
    """
    transport = Transport(site, limits, environ, clock=clock)
    retries = Retries(limits, sleep)
    try:
        while True:
            try:
                return _Attempt(location, file, transport, limits, clock).run(known, checksum)
            except (Interrupted, TooSlow) as error:
                retries.wait(error, location.url.origin.authority)
    except RemoteError as error:
        raise public_error(error) from None
    finally:
        transport.close()


class _Attempt:
    def __init__(
        self,
        location: UrlWithLogin,
        file: BinaryIO,
        transport: Transport,
        limits: RemoteLimits,
        clock: Callable[[], float],
    ) -> None:
        self._location = location
        self._file = file
        self._transport = transport
        self._limits = limits
        self._clock = clock

    def run(self, known: Validators | None, checksum: Digest | None) -> FetchedContent | None:
        conditions = known.conditions() if known is not None else {}
        request = Request("GET", self._location.url, conditions, self._location.authorization)
        with self._transport.request(request) as response:
            if response.status == 304 and conditions:
                return None
            if response.status != 200:
                raise status_error(self._location.url, response, "not found")
            return self._read(response, checksum)

    def _read(self, response: Response, checksum: Digest | None) -> FetchedContent:
        url, limit = self._location.url, self._limits.download_bytes
        announced = response.length()
        if announced is not None and announced > limit:
            raise self._too_large()
        self._file.seek(0)
        self._file.truncate()
        hasher = hashlib.new(checksum.algorithm if checksum is not None else "sha256")
        size = 0
        end = self._clock() + self._limits.blob_seconds
        for piece in response.chunks(limit):
            size += len(piece)
            if size > limit:
                raise self._too_large()
            self._file.write(piece)
            hasher.update(piece)
            listener().received(size, announced)
            if self._clock() > end + size / self._limits.blob_rate:
                raise TooSlow(
                    f"{url}: only {size} bytes arrived in time",
                    hint=BLOB_SECONDS.hint(),
                )
        if announced is not None and size != announced:
            raise Interrupted(f"{url}: the response ended after {size} of {announced} bytes")
        digest = Digest(hasher.name, hasher.hexdigest())
        if checksum is not None and digest != checksum:
            raise DigestMismatch(f"{url}: expected {checksum}, got {digest}")
        return FetchedContent(digest, size, Validators(response.header("ETag"), response.header("Last-Modified")))

    def _too_large(self) -> RemoteError:
        limit = DOWNLOAD_BYTES.shown(self._limits.download_bytes)
        return RemoteError(f"{self._location.url}: more than the limit of {limit}", hint=DOWNLOAD_BYTES.hint())
