"""Uploading a blob: in one request if it is small, else in chunks; resumed after a break, restarted if the registry cannot.

    POST   uploads/?mount=…&from=…   201: the registry took it from its other repository; 202: it wants the bytes
    PATCH  the URL of the upload     one chunk; the response has the URL for the next, and in Range what the registry has
    PUT    the URL of the upload     ?digest=… ends the upload; a small blob is the body of this request

After a break `GET` of the URL says in Range how much has arrived. A registry that does not take chunks gets the blob in one
request; if a server refuses the size of a request, the chunks become smaller. Source: OCI distribution-spec 1.1, push.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pybuild.remote.errors import RemoteError, TooSlow, Unauthorized
from pybuild.remote.http.transport import Interrupted, RequestRefused
from pybuild.remote.http.urls import Url, printable
from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen
from pybuild.values.limits import BLOB_SECONDS
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.remote.http.transport import Response
    from pybuild.remote.registry.blob_content import BlobContent
    from pybuild.remote.registry.session import RegistrySession

CHUNK = 32 << 20  # bytes; a larger blob is sent in chunks
_SMALLEST_CHUNK = 1 << 20  # what servers in front of a registry allow if nobody has configured them
_COMMIT_RATE = 1 << 20  # bytes a second: a registry can copy the blob before it answers the last request
_RANGE = pattern(r"(?:bytes[ =])?0-([0-9]{1,19})(?:/.*)?")
_TOO_LARGE = 413
_OCTETS = {"Content-Type": "application/octet-stream"}


class UploadOutcome(Enum):
    """How a blob came into the repository."""

    SENT = "sent"
    MOUNTED = "mounted"  # from another repository of the registry
    PRESENT = "present"


def has_blob(session: RegistrySession, digest: Digest) -> bool:
    """Whether the repository has a blob. Raises the errors of a request."""
    item = f"blob {digest}"
    try:
        with session.send("HEAD", session.url(f"blobs/{digest}"), item, {}, accept=(200,)) as response:
            check_digest(response, digest, f"{session.endpoint.name}: {item}")
            return True
    except (NotFound, RequestRefused):
        return False  # an upload shows why, if there is more to it


def check_digest(response: Response, digest: Digest, where: str) -> None:
    """Raise DigestMismatch if the response names another digest. Registries need not name one."""
    named = response.header("Docker-Content-Digest").strip()
    if not named or named == str(digest):
        return
    try:
        other = Digest.parse(named)
    except InvalidImage:
        raise RemoteError(f"{where}: Docker-Content-Digest {printable(named)} is not a digest") from None
    if other.algorithm == digest.algorithm:
        raise DigestMismatch(f"{where}: the registry says that its digest is {other}")


class Upload:
    """Uploads one blob that the repository lacks. `on_bytes` gets the number of bytes so far; it can go back."""

    def __init__(
        self, session: RegistrySession, blob: BlobContent, on_bytes: Callable[[int], None], chunk: int = CHUNK
    ) -> None:
        self._session = session
        self._blob = blob
        self._on_bytes = on_bytes
        self._chunk = chunk
        self._minimum = 0  # bytes of a chunk, except of the last one
        self._item = f"the upload of blob {blob.digest}"
        self._where = f"{session.endpoint.name}: {self._item}"
        limits = session.limits
        self._deadline = session.clock() + limits.blob_seconds + blob.size / limits.blob_rate
        self._location: Url | None = None
        self._done = 0  # bytes that the registry has, as far as it is known
        self._whole = False  # the registry does not take chunks
        self._resumed = False
        self._repeated = False

    def run(self, source: str = "") -> UploadOutcome:
        """Upload the blob; `source` is a repository of the registry that has it, "" if none is known.

        Raises DigestMismatch if the content or what the registry names is not the blob, SourceFailed if the content cannot
        be read, and the errors of a request.
        """
        if source and self.mount(source):
            return UploadOutcome.MOUNTED
        retries = self._session.retries()
        broken = False
        reached = 0
        while True:
            try:
                if broken and not self._resume() and has_blob(self._session, self._blob.digest):
                    return UploadOutcome.PRESENT  # the break came after the registry had everything
                self._attempt()
                return UploadOutcome.SENT
            except (Interrupted, TooSlow) as error:
                if self._session.clock() >= self._deadline:
                    raise self._too_slow() from None
                if self._done > reached:  # what was asked for in vain is this chunk, not the blob
                    reached, retries = self._done, self._session.retries()
                retries.wait(error, self._session.endpoint.name)
                broken = True
            except RequestRefused as error:
                self._adapt(error)

    def mount(self, source: str) -> bool:
        """Ask the registry to take the blob from another repository. If it declines, the upload can begin."""
        query = urlencode([("mount", str(self._blob.digest)), ("from", source)])
        url = self._session.url(f"blobs/uploads/?{query}")
        try:
            with self._session.send("POST", url, self._item, {}, accept=(201, 202)) as response:
                if response.status == 201:
                    check_digest(response, self._blob.digest, self._where)
                    return has_blob(self._session, self._blob.digest)
                self._location = self._next(response)
                self._read_chunk_minimum(response)
        except (Interrupted, TooSlow, RequestRefused, Unauthorized):
            pass  # the upload that follows shows whether anything is wrong besides the mount
        return False

    def _attempt(self) -> None:
        """Send what the registry does not have, and end the upload."""
        if self._location is None:
            self._begin()
        size = self._blob.size
        if self._whole or size <= self._chunk:
            self._finish(self._part(0, size))
            return
        while self._done < size:
            self._send_chunk(self._part(self._done, min(self._chunk, size - self._done)))
        self._finish(None)

    def _begin(self) -> None:
        self._restart()
        url = self._session.url("blobs/uploads/")
        with self._session.send("POST", url, self._item, {}, accept=(202, 201)) as response:
            self._location = self._next(response)
            if self._location is None:
                raise RemoteError(f"{self._where}: the registry does not say where to (no Location)")
            self._read_chunk_minimum(response)

    def _send_chunk(self, part: _Part) -> None:
        headers = {**_OCTETS, "Content-Range": f"{part.offset}-{part.offset + part.size - 1}"}
        assert self._location is not None
        try:
            response = self._session.send(
                "PATCH", self._location, self._item, headers, accept=(202, 201, 204, 200), body=part
            )
        except Interrupted:
            raise
        except RequestRefused as error:
            if error.status == 416:  # the registry has another part than we think
                raise Interrupted(str(error)) from None
            raise
        with response:
            self._location = self._next(response) or self._location
            self._done = self._received(response, part.offset + part.size)
            if self._done > part.offset + part.size:
                raise RemoteError(f"{self._where}: the registry says that it has more than it was sent")
            if self._done <= part.offset:
                raise Interrupted(f"{self._where}: the registry took nothing of a chunk")

    def _finish(self, part: _Part | None) -> None:
        """The last request, with the whole blob if it is small."""
        assert self._location is not None
        separator = "&" if "?" in self._location.target else "?"
        query = urlencode([("digest", str(self._blob.digest))])
        url = Url(self._location.origin, f"{self._location.target}{separator}{query}")
        if part is not None:
            self._location = None  # after a break this request is repeated as a whole
        seconds = self._session.limits.header_seconds + self._blob.size / _COMMIT_RATE
        with self._session.send(
            "PUT", url, self._item, _OCTETS, accept=(201, 200, 202, 204), body=part or b"", answer_seconds=seconds
        ) as response:
            check_digest(response, self._blob.digest, self._where)
        self._on_bytes(self._blob.size)

    def _resume(self) -> bool:
        """Ask how much of the upload has arrived; whether it can go on."""
        location, self._location = self._location, None
        if location is None:
            return False
        try:
            with self._session.send("GET", location, self._item, {}, accept=(204, 200, 202)) as response:
                done = self._received(response, -1)
                if 0 <= done <= self._blob.size:
                    self._location = self._next(response) or location
                    self._done = done
                    self._resumed = True
                    self._on_bytes(done)
        except (NotFound, RequestRefused):
            pass
        return self._location is not None

    def _adapt(self, error: RequestRefused) -> None:
        """Prepare another way after a refusal. Raises the error if there is none, DigestMismatch if the content is wrong."""
        if error.status == _TOO_LARGE:
            sent = min(self._chunk, self._blob.size)
            smaller = max(sent // 4, _SMALLEST_CHUNK, self._minimum)
            if self._whole or smaller >= sent:
                hint = "a server in front of the registry limits the size of requests"
                raise RemoteError(str(error), hint=hint) from None
            self._chunk = smaller
        elif self._resumed and not self._repeated:
            self._repeated = True
        elif self._done < self._blob.size and self._blob.size > self._chunk and not self._whole:
            self._whole = True
        else:
            self._blob.check()
            raise error
        self._location = None

    def _restart(self) -> None:
        if self._done:
            self._on_bytes(0)
        self._done = 0
        self._resumed = False

    def _next(self, response: Response) -> Url | None:
        """The URL that the response names for the next request. Raises RemoteError if it must not be used."""
        text = response.header("Location")
        if not text:
            return None
        url = response.url.join(text)
        if url.origin.scheme == "http" and self._session.origin().scheme == "https":
            raise RemoteError(
                f"{self._where}: the registry names an address without TLS, {url.origin}, which is not used",
                hint="a server in front of the registry does not tell it that clients use https",
            )
        return url

    def _read_chunk_minimum(self, response: Response) -> None:
        text = response.header("OCI-Chunk-Min-Length").strip()
        if text.isascii() and text.isdigit() and len(text) < 16:
            self._minimum = int(text)
            self._chunk = max(self._chunk, self._minimum)

    @staticmethod
    def _received(response: Response, otherwise: int) -> int:
        """How many bytes the registry has, by Range; `otherwise` if the header is missing or malformed.

        `0-0` is what registries send for nothing, and no chunk has one byte.
        """
        found = _RANGE.fullmatch(response.header("Range").strip())
        if found is None:
            return otherwise
        last = int(found[1])
        return last + 1 if last else 0

    def _part(self, offset: int, size: int) -> _Part:
        return _Part(self._blob, offset, size, self._sent)

    def _sent(self, done: int) -> None:
        if self._session.clock() >= self._deadline:
            raise self._too_slow()
        self._on_bytes(done)

    def _too_slow(self) -> TooSlow:
        return TooSlow(
            f"{self._where}: only {self._done} of {self._blob.size} bytes were sent in time", hint=BLOB_SECONDS.hint()
        )


@frozen
class _Part:
    """The body of a request: a part of the blob. `on_sent` gets the number of bytes of the blob before which all is sent."""

    blob: BlobContent
    offset: int
    size: int
    on_sent: Callable[[int], None]

    def pieces(self) -> Iterator[bytes]:
        position = self.offset
        for piece in self.blob.pieces(self.offset, self.size):
            yield piece
            position += len(piece)
            self.on_sent(position)
