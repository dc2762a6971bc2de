"""Downloading a blob: verified while it arrives, resumed after a break, restarted if the server cannot resume.

After a break a registry might send other content than before, or another part than requested. So if the digest is wrong
after a resumption, pybuild downloads the whole blob once more; if that digest is wrong too, it is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, BinaryIO

from pybuild.remote.errors import TooSlow
from pybuild.remote.http.transport import Interrupted
from pybuild.store.errors import DigestMismatch
from pybuild.values.limits import BLOB_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.remote.http.transport import Response
    from pybuild.remote.registry.session import RegistrySession
    from pybuild.store.formats.oci_manifest import Descriptor


class Download:
    """Downloads one blob into one file, replacing its content.

    `on_bytes` gets the number of bytes so far: after each piece, and 0 when the file was emptied to begin, or to begin again.
    """

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
        """Download the blob. Raises DigestMismatch and the errors of a request; the file is then empty."""
        retries = self._session.retries()
        may_repeat = True
        try:
            while True:
                try:
                    self._attempt()
                    self._verify()
                    return
                except (Interrupted, TooSlow) as error:
                    if self._session.clock() >= self._deadline:
                        raise TooSlow(
                            f"{self._where}: only {self._done} of {self._descriptor.size} bytes arrived in time",
                            hint=BLOB_SECONDS.hint(),
                        ) from None
                    retries.wait(error, self._session.endpoint.name)
                except DigestMismatch:
                    if not (self._resumed and may_repeat):
                        raise
                    may_repeat = False
                    self._begin()
        except BaseException:
            with contextlib.suppress(OSError):  # keep the first error, such as a full disk
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
        self._on_bytes(0)

    def _restart(self) -> None:
        if self._done:
            self._begin()

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
            elif response.status == 206 and is_part(response, self._done, self._descriptor.size):
                self._resumed = True
            else:
                self._restart()
                raise Interrupted(f"{self._where}: the registry cannot resume")
            self._read(response)

    def _read(self, response: Response) -> None:
        size = self._descriptor.size
        left = size - self._done
        announced = response.length()
        if announced is not None and announced != left:
            raise DigestMismatch(f"{self._where}: the server announces {announced} bytes instead of {left}")
        etag = response.header("ETag")
        self._etag = "" if etag.startswith("W/") else etag  # a weak ETag does not promise the same bytes
        for piece in response.chunks(left, self._deadline):
            if self._done + len(piece) > size:
                raise DigestMismatch(f"{self._where}: more than the {size} bytes of its descriptor")
            _write(self._file, piece)
            self._hasher.update(piece)
            self._done += len(piece)
            self._on_bytes(self._done)
        if self._done < size:
            raise Interrupted(f"{self._where}: the response ended after {self._done} of {size} bytes")

    def _verify(self) -> None:
        if self._hasher.hexdigest() != self._descriptor.digest.hex:
            found = f"{self._descriptor.digest.algorithm}:{self._hasher.hexdigest()}"
            raise DigestMismatch(f"{self._where}: the content has the digest {found}")


def is_part(response: Response, first: int, size: int) -> bool:
    """Whether the response is everything from `first` on: `bytes first-last/size` (RFC 9110, 14.4)."""
    content_range = " ".join(response.header("Content-Range").split())
    return content_range in (f"bytes {first}-{size - 1}/{size}", f"bytes {first}-{size - 1}/*")


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`. An unbuffered file writes only a part near the end of the disk or a limit, without an error."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
