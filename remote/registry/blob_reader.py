"""Reading a blob of a registry from any byte to its end, for sending it elsewhere; goes on after a break.

The bytes are not checked here: `CheckedContent` does that, because they can be read in several parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.remote.errors import TooSlow
from pybuild.remote.http.transport import Interrupted, public_error
from pybuild.remote.registry.download import is_part
from pybuild.store.errors import DigestMismatch
from pybuild.values.errors import PybuildError
from pybuild.values.limits import BLOB_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.remote.http.transport import Response
    from pybuild.remote.registry.session import RegistrySession
    from pybuild.store.formats.oci_manifest import Descriptor


class BlobReader:
    """Reads one blob; all reading together has the time that one blob gets."""

    def __init__(self, session: RegistrySession, descriptor: Descriptor) -> None:
        self.where = f"{session.endpoint.name}: blob {descriptor.digest}"
        self._session = session
        self._descriptor = descriptor
        limits = session.limits
        self._deadline = session.clock() + limits.blob_seconds + descriptor.size / limits.blob_rate
        self._retries = session.retries()

    def read(self, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` to the end. Raises NotFound, DigestMismatch, RemoteError."""
        position = offset
        try:
            while position < self._descriptor.size:
                try:
                    for piece in self._attempt(position):
                        position += len(piece)
                        yield piece
                    if position < self._descriptor.size:
                        raise Interrupted(f"{self.where}: the response ended after {position} bytes")
                except (Interrupted, TooSlow) as error:
                    if self._session.clock() >= self._deadline:
                        size = self._descriptor.size
                        raise TooSlow(
                            f"{self.where}: only {position} of {size} bytes arrived in time", hint=BLOB_SECONDS.hint()
                        ) from None
                    self._retries.wait(error, self._session.endpoint.name)
        except PybuildError as error:
            raise public_error(error) from None

    def _attempt(self, position: int) -> Iterator[bytes]:
        size = self._descriptor.size
        headers = {"Range": f"bytes={position}-"} if position else {}
        accept = (200, 206) if position else (200,)
        with self._session.get(f"blobs/{self._descriptor.digest}", headers, accept=accept) as response:
            skipped = 0
            if response.status == 200:
                skipped = position  # the registry has no parts of blobs
            elif not is_part(response, position, size):
                raise Interrupted(f"{self.where}: the registry sends another part of the blob")
            left = size - position + skipped
            self._check_length(response, left)
            for piece in response.chunks(left, self._deadline):
                rest = piece[skipped:]
                skipped -= len(piece) - len(rest)
                left -= len(piece)
                if left < 0:
                    raise DigestMismatch(f"{self.where}: more than the {size} bytes of its descriptor")
                if rest:
                    yield rest

    def _check_length(self, response: Response, left: int) -> None:
        announced = response.length()
        if announced is not None and announced != left:
            raise DigestMismatch(f"{self.where}: the server announces {announced} bytes instead of {left}")
