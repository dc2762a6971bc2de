"""A blob on its way: checked while it arrives, resumed after a break, begun anew where what comes does not fit.

What a registry sends after a break may be another content, or another part of it, than what was asked for; so a
digest that is wrong after a resumption is a reason to read the whole once more, and only then an error.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, BinaryIO

from pybuild.remote.errors import TooSlow
from pybuild.remote.http.transport import Interrupted
from pybuild.store.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.remote.http.transport import Response
    from pybuild.remote.registry.session import RegistrySession
    from pybuild.store.formats.oci_manifest import Descriptor


class Download:
    """One blob into one file, whose content is replaced. `on_bytes` hears how many bytes are there; it may be fewer
    than before, after a new beginning."""

    def __init__(
        self, session: RegistrySession, descriptor: Descriptor, file: BinaryIO, on_bytes: Callable[[int], None]
    ) -> None:
        self._session = session
        self._descriptor = descriptor
        self._file = file
        self._on_bytes = on_bytes
        self._where = f"{session.endpoint.name}: blob {descriptor.digest}"
        limits = session.limits
        self._deadline = session.clock() + limits.blob_seconds + descriptor.size / limits.blob_rate
        self._resumed = False
        self._begin()

    def run(self) -> None:
        """Fetch all of it. Raises DigestMismatch, and all that a request raises; then nothing is left in the file."""
        retries = self._session.retries()
        again = True
        try:
            while True:
                try:
                    self._attempt()
                    self._verify()
                    return
                except (Interrupted, TooSlow) as error:
                    if self._session.clock() >= self._deadline:
                        raise TooSlow(
                            f"{self._where}: {self._done} of {self._descriptor.size} bytes in the time there is for it",
                            hint="limits.blob-seconds and limits.blob-rate of the configuration set the time",
                        ) from None
                    retries.wait(error, self._session.endpoint.name)
                except DigestMismatch:
                    if not (self._resumed and again):
                        raise
                    again = False
                    self._begin()
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk, maybe: then that is the error to tell
                self._file.seek(0)
                self._file.truncate()
            raise

    def _begin(self) -> None:
        self._hasher = hashlib.new(self._descriptor.digest.algorithm)
        self._done = 0
        self._resumed = False
        self._etag = ""
        self._file.seek(0)
        self._file.truncate()

    def _restart(self) -> None:
        if self._done:
            self._begin()
            self._on_bytes(0)

    def _attempt(self) -> None:
        headers = {}
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            if self._etag:
                headers["If-Range"] = self._etag
        accept = (200, 206, 416) if self._done else (200,)
        with self._session.get(f"blobs/{self._descriptor.digest}", headers, accept=accept) as response:
            if response.status == 200:
                self._restart()
            elif response.status == 206 and self._fits(response):
                self._resumed = True
            else:
                self._restart()
                raise Interrupted(f"{self._where}: the registry cannot go on where it broke off")
            self._take(response)

    def _fits(self, response: Response) -> bool:
        """Whether a part is the one that is missing: `bytes first-last/size` (RFC 9110, 14.4)."""
        last = self._descriptor.size - 1
        given = " ".join(response.header("Content-Range").split())
        return given in (f"bytes {self._done}-{last}/{last + 1}", f"bytes {self._done}-{last}/*")

    def _take(self, response: Response) -> None:
        size = self._descriptor.size
        left = size - self._done
        announced = response.length()
        if announced is not None and announced != left:
            raise DigestMismatch(f"{self._where}: {announced} bytes are announced, it should be {left}")
        etag = response.header("ETag")
        self._etag = "" if etag.startswith("W/") else etag  # a weak one does not promise the same bytes
        for piece in response.chunks(left, self._deadline):
            if self._done + len(piece) > size:
                raise DigestMismatch(f"{self._where}: more than the {size} bytes that its descriptor promises")
            _write(self._file, piece)
            self._hasher.update(piece)
            self._done += len(piece)
            self._on_bytes(self._done)
        if self._done < size:
            raise Interrupted(f"{self._where}: it ended after {self._done} of {size} bytes")

    def _verify(self) -> None:
        if self._hasher.hexdigest() != self._descriptor.digest.hex:
            found = f"{self._descriptor.digest.algorithm}:{self._hasher.hexdigest()}"
            raise DigestMismatch(f"{self._where}: what arrived has the digest {found}")


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of it: a file without a buffer takes less where the disk or a limit is near, and says so only then."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
