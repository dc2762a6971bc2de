"""One file from a URL: within limits, hashed while it arrives, and not at all where it is still what it was.

A server tells by ETag or Last-Modified which content a URL has at the moment (RFC 9110, 8.8 and 13.1). Both are its word for
it; what the content really is, its digest says.
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, BinaryIO

from pybuild.remote.errors import RemoteError, TooSlow, Unauthorized
from pybuild.remote.http.retries import BUSY, Patience, retry_after
from pybuild.remote.http.transport import Interrupted, Request, Transport, published
from pybuild.store.errors import DigestMismatch, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.remote.http.site import RemoteLimits, Site
    from pybuild.remote.http.transport import Answer
    from pybuild.remote.http.urls import Location


@frozen
class Version:
    """Which content a URL had, by its server's word: two headers as they came, "" where there was none."""

    etag: str = ""
    last_modified: str = ""

    def conditions(self) -> dict[str, str]:
        """The headers that ask for anything newer."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


@frozen
class FetchedContent:
    """What a URL has now; its bytes are in the file."""

    digest: Digest
    size: int
    version: Version


def fetch(
    location: Location,
    file: BinaryIO,
    site: Site,
    limits: RemoteLimits,
    environ: Mapping[str, str],
    *,
    known: Version | None = None,
    checksum: Digest | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> FetchedContent | None:
    """Write what a URL has into `file`; None where that is still the `known` version, and then nothing is written.

    Raises NotFound, Unauthorized, DigestMismatch, Unreachable, TooSlow, RemoteError; OSError where it cannot be written.
    """
    transport = Transport(site, limits, environ, clock=clock)
    patience = Patience(limits, sleep)
    try:
        while True:
            try:
                return _Attempt(location, file, transport, limits, clock).run(known, checksum)
            except (Interrupted, TooSlow) as error:
                patience.wait(error, location.url.origin.authority)
    except RemoteError as error:
        raise published(error) from None
    finally:
        transport.close()


class _Attempt:
    def __init__(
        self, location: Location, file: BinaryIO, transport: Transport, limits: RemoteLimits, clock: Callable[[], float]
    ) -> None:
        self._location = location
        self._file = file
        self._transport = transport
        self._limits = limits
        self._clock = clock

    def run(self, known: Version | None, checksum: Digest | None) -> FetchedContent | None:
        conditions = known.conditions() if known is not None else {}
        login = self._location.login
        authorization = None if login is None else f"Basic {base64.b64encode(login.encode()).decode()}"
        with self._transport.request(Request("GET", self._location.url, conditions, authorization)) as answer:
            if answer.status == 304 and conditions:
                return None
            if answer.status != 200:
                raise self._failure(answer)
            return self._take(answer, checksum)

    def _take(self, answer: Answer, checksum: Digest | None) -> FetchedContent:
        url, limit = self._location.url, self._limits.download_bytes
        announced = answer.length()
        if announced is not None and announced > limit:
            raise self._too_large()
        self._file.seek(0)
        self._file.truncate()
        hasher = hashlib.new(checksum.algorithm if checksum is not None else "sha256")
        size = 0
        end = self._clock() + self._limits.blob_seconds
        for piece in answer.chunks(limit):
            size += len(piece)
            if size > limit:
                raise self._too_large()
            self._file.write(piece)
            hasher.update(piece)
            if self._clock() > end + size / self._limits.blob_rate:
                raise TooSlow(
                    f"{url}: {size} bytes in the time there is for them", hint="limits.blob-rate sets the time"
                )
        if announced is not None and size != announced:
            raise Interrupted(f"{url}: it ended after {size} of {announced} bytes")
        digest = Digest(hasher.name, hasher.hexdigest())
        if checksum is not None and digest != checksum:
            raise DigestMismatch(f"{url}: expected {checksum}, got {digest}")
        return FetchedContent(digest, size, Version(answer.header("ETag"), answer.header("Last-Modified")))

    def _too_large(self) -> RemoteError:
        limit = self._limits.download_bytes
        return RemoteError(f"{self._location.url}: more than the limit of {limit} bytes", hint="limits.download-bytes")

    def _failure(self, answer: Answer) -> RemoteError | NotFound:
        url, status = self._location.url, answer.status
        if status in (401, 403):
            return Unauthorized(f"{url}: access is forbidden (status {status})")
        if status in (404, 410):
            return NotFound(f"{url}: there is nothing (status {status})")
        if status in BUSY:
            return Interrupted(f"{url}: status {status}", wait=retry_after(answer))
        return RemoteError(f"{url}: status {status}")
