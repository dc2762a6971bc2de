"""The content of a blob that is uploaded: a file that was checked before, or bytes that are checked while they are sent.

An upload reads any part of the content, and after a break a part again. What comes from another registry, or from an
archive that is not imported, passes through one hash in the order in which it is sent. The last piece is handed out only
if the digest is right, so no upload is ever completed with wrong bytes.
"""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from pybuild.remote.errors import RemoteError
from pybuild.store.errors import DigestMismatch
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.store.formats.digest import Digest

PIECE = 64 << 10  # bytes
_MOST_STATES = 1024  # of the hash: they reach 64 MiB back, further than the last chunk


class BlobContent(Protocol):
    """What `Upload` sends."""

    @property
    def digest(self) -> Digest: ...

    @property
    def size(self) -> int:
        """The length in bytes."""
        ...

    def pieces(self, offset: int, size: int) -> Iterator[bytes]:
        """A part of the content, in pieces of at most 64 KiB. Raises DigestMismatch if the bytes are not the blob."""
        ...

    def check(self) -> None:
        """Raise DigestMismatch if the content is not the blob: then the registry is right to refuse it."""
        ...


@frozen
class BlobFile:
    """A file whose content has this digest and this size in bytes, which the store has checked."""

    digest: Digest
    size: int
    path: str

    def pieces(self, offset: int, size: int) -> Iterator[bytes]:
        position, end = offset, offset + size
        with open(self.path, "rb", buffering=0) as file:
            file.seek(position)
            while position < end:
                try:
                    piece = file.read(min(PIECE, end - position))
                except OSError as error:
                    # An OSError would look like one of the connection.
                    raise RemoteError(f"{self.path}: {os.strerror(error.errno or 0)}") from error
                if not piece:
                    raise self._damaged()
                yield piece
                position += len(piece)

    def check(self) -> None:
        with open(self.path, "rb") as file:
            found = hashlib.file_digest(file, self.digest.algorithm).hexdigest()
        if found != self.digest.hex:
            raise self._damaged()

    def _damaged(self) -> DigestMismatch:
        return DigestMismatch(
            f"blob {self.digest}: the bytes do not match the digest",
            hint="the file is damaged: pybuild fsck lists what else is damaged; fetch or build it again",
        )


class SourceFailed(Exception):
    """The content cannot be read. Not an error of the upload's own connection, which would be worth another try."""

    def __init__(self, error: PybuildError) -> None:
        super().__init__(str(error))
        self.error = error


class CheckedContent:
    """Content that is checked while it is sent. `read` gives the bytes from an offset to the end, in any chunks.

    `pieces` raises SourceFailed with the errors of `read`, and with DigestMismatch. A part that is sent again has to be the
    same as before: hash states are kept at multiples of 64 KiB, and reading begins at one of them.
    """

    def __init__(self, digest: Digest, size: int, read: Callable[[int], Iterator[bytes]], where: str) -> None:
        self.digest = digest
        self.size = size
        self._read = read
        self._where = where  # for messages
        self._states = {0: hashlib.new(digest.algorithm)}  # offset -> the hash of all bytes before it
        self._chunks: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._position = -1  # in the blob, of the next byte of `_rest` and `_chunks`; -1: nothing is being read
        self._last, self._last_start = b"", -1  # the piece before it, of which a part can end in the middle

    def pieces(self, offset: int, size: int) -> Iterator[bytes]:
        end = offset + size
        try:
            start = max(known for known in self._states if known <= offset)
            hasher = self._states[start].copy()
            if not self.size:
                self._verify(hasher.hexdigest())
            if start not in (self._position, self._last_start):
                self._begin(start)
            while start < end:
                piece = self._piece(start)
                hasher.update(piece)
                self._note(start + len(piece), hasher)
                wanted = piece[max(0, offset - start) : end - start]
                start += len(piece)
                if wanted:
                    yield wanted
        except PybuildError as error:
            raise SourceFailed(error) from error
        except OSError as error:  # it would look like one of the connection
            raise SourceFailed(RemoteError(f"{self._where}: {error.strerror}")) from error

    def check(self) -> None:
        """Nothing that was sent can be wrong."""

    def close(self) -> None:
        """Stop reading. Idempotent."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
        self._chunks, self._rest, self._position = iter(()), memoryview(b""), -1
        self._last, self._last_start = b"", -1

    def _begin(self, start: int) -> None:
        self.close()
        self._chunks, self._position = self._read(start), start

    def _piece(self, start: int) -> bytes:
        """The piece that begins at `start`: the next one, or the last one again."""
        if start != self._last_start:
            self._last, self._last_start = self._take(min(PIECE, self.size - start)), start
        return self._last

    def _take(self, size: int) -> bytes:
        """The next `size` bytes."""
        parts: list[memoryview] = []
        left = size
        while left:
            if not self._rest:
                chunk = next(self._chunks, b"")
                if not chunk:
                    raise DigestMismatch(f"{self._where}: only {self._position + size - left} of {self.size} bytes")
                self._rest = memoryview(chunk)
            parts.append(self._rest[:left])
            self._rest = self._rest[left:]
            left -= len(parts[-1])
        self._position += size
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _note(self, position: int, hasher: hashlib._Hash) -> None:
        """Check the bytes before `position` as far as possible, and keep the state of their hash."""
        known = self._states.get(position)
        if position == self.size:
            self._verify(hasher.hexdigest())
        elif known is None:
            self._states[position] = hasher.copy()
            if len(self._states) > _MOST_STATES:
                del self._states[next(islice(self._states, 1, None))]  # the oldest, after that of 0
        elif known.digest() != hasher.digest():
            raise DigestMismatch(f"{self._where}: other bytes than at the first time")

    def _verify(self, found: str) -> None:
        if found != self.digest.hex:
            raise DigestMismatch(f"{self._where}: the content has the digest {self.digest.algorithm}:{found}")
