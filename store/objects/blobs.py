"""Blobs: immutable bytes, named by their digest.

A blob appears by rename, after its size and digest have been checked. A file in blobs/ without a row was left by an
interrupted process. It is never trusted: the next writer of that digest replaces it.

Whoever reads a blob hashes it. `copy` does that once a boot: it then remembers device, inode, size, mtime and ctime of the
file, and as long as these are the same the kernel copies the file. Nobody can write to a blob (mode 0444) without a
change of these. What `copy` does not find any more is a disk that returns other bytes than it was given; `fsck` does.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import CannotWrite, DigestMismatch, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.pipeline import Pipeline
from pybuild.store.objects.condemned import Condemnable, spare
from pybuild.store.objects.context_memo import file_key, is_settled
from pybuild.store.objects.database import UNKNOWN_BOOT, number
from pybuild.store.objects.parts import BLOBS
from pybuild.store.system.holes import copy_file, open_sparse

if TYPE_CHECKING:
    from typing import BinaryIO

    from pybuild.store.objects.database import Metadata
    from pybuild.values.limits import Limit

_CHUNK = 1 << 20
_SIZE = "SELECT size, EXISTS (SELECT 1 FROM condemned WHERE kind = 'blob' AND key = blobs.digest) FROM blobs WHERE digest = ?"


class Blobs:
    """The blobs of a store."""

    def __init__(self, root: str, metadata: Metadata) -> None:
        self._directory = BLOBS.path(root)
        self._metadata = metadata

    def path(self, digest: Digest) -> str:
        """The path of the blob's file. Only a parsed digest can become a path."""
        return f"{self._directory}/{digest.algorithm}/{digest.hex}"

    def size(self, digest: Digest) -> int | None:
        """The size of a blob in bytes, or None if the store does not have it. Spares a condemned blob."""
        row = self._metadata.one(_SIZE, str(digest))
        if row and row[1]:
            spare(self._metadata, Condemnable.BLOB, str(digest))
            row = self._metadata.one(_SIZE, str(digest))
        return number(row[0]) if row else None

    def has(self, digest: Digest) -> bool:
        """Whether the store has the whole blob. If its file was lost or truncated, the blob can be stored again."""
        size = self.size(digest)
        try:
            return size is not None and os.stat(self.path(digest)).st_size == size
        except FileNotFoundError:
            return False

    def put(self, data: bytes, scratch: str) -> Digest:
        """Store bytes, unless the store has them already. `scratch` is an unused path in an ingest directory."""
        digest = Digest.of(data)
        if not self.has(digest):
            with open(scratch, "xb") as file:
                file.write(data)
            self.adopt(scratch, digest, len(data))
        return digest

    def adopt(self, path: str, digest: Digest, size: int) -> None:
        """Turn a file into a blob. The caller has computed its digest and size while writing it.

        Idempotent. The file is moved, or removed if the store has the blob already.
        """
        if self.has(digest):
            os.unlink(path)
            return
        os.chmod(path, 0o444)
        target = self.path(digest)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with self._metadata.transaction() as db:
            os.rename(path, target)  # inside the transaction, because gc removes files without a row
            db.execute(
                "INSERT INTO blobs (digest, size, boot) VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET boot = excluded.boot",
                (str(digest), size, self._metadata.boot),
            )

    def open(self, digest: Digest) -> VerifyingReader:
        """Open a blob for reading. Raises NotFound; the reader raises DigestMismatch if the bytes are wrong."""
        size = self.size(digest)
        if size is None:
            raise NotFound(f"no blob {digest} in the store")
        try:
            return VerifyingReader(open_sparse(self.path(digest)), digest, size)
        except FileNotFoundError:
            raise NotFound(
                f"blob {digest} is missing on the disk", hint="pybuild fsck lists what else is damaged"
            ) from None

    def copy(self, blob: VerifyingReader, out: BinaryIO) -> None:
        """Write all bytes of a blob that was just opened to a file. Raises DigestMismatch, OSError."""
        fd = blob.fileno()
        now, status = time.time_ns(), os.fstat(fd)
        verified = f"{self._metadata.boot} {file_key(status).hex()}"
        is_boot_known = self._metadata.boot != UNKNOWN_BOOT
        (known,) = self._metadata.one("SELECT verified FROM blobs WHERE digest = ?", str(blob.digest)) or ("",)
        if is_boot_known and known == verified and status.st_size == blob.size:
            if copy_file(fd, out, blob.size) < blob.size or file_key(os.fstat(fd)) != file_key(status):
                raise blob.mismatch()
            return
        copy_verified(blob, out)
        if is_boot_known and is_settled(status, now) and file_key(os.fstat(fd)) == file_key(status):
            with suppress(CannotWrite), self._metadata.transaction() as db:
                db.execute("UPDATE blobs SET verified = ? WHERE digest = ?", (verified, str(blob.digest)))

    def read(self, digest: Digest, limit: Limit) -> bytes:
        """All bytes of a blob, verified. Raises DigestMismatch, or NotFound if it is larger than `limit`."""
        with self.open(digest) as reader:
            if reader.size > limit.value:
                raise limit.exceeded(NotFound, f"blob {digest} of {reader.size} bytes exceeds the limit of {{}}")
            data = b""
            while chunk := reader.read(_CHUNK):
                data += chunk
            return data


def copy_verified(blob: VerifyingReader, out: BinaryIO) -> None:
    """Write all bytes of a blob that was just opened to a file. Raises DigestMismatch, OSError."""
    with Pipeline(out.write) as stream:  # large blobs are read and verified while they are written
        while chunk := blob.read(_CHUNK):
            stream.write(chunk)
        stream.finish()


class VerifyingReader:
    """Reads a stream, and checks its size and digest when the end is reached."""

    def __init__(self, raw: BinaryIO, digest: Digest, size: int) -> None:
        self._raw = raw
        self.digest = digest
        self._hash = hashlib.new(digest.algorithm)
        self._left = size
        self.size = size

    def read(self, count: int = -1, /) -> bytes:
        """Up to `count` bytes. Raises DigestMismatch at the end of a damaged stream, or once it exceeds its size."""
        data = self._raw.read(count)
        self._hash.update(data)
        self._left -= len(data)
        if self._left < 0 or (not data and count != 0 and (self._left or self._hash.hexdigest() != self.digest.hex)):
            raise self.mismatch()
        return data

    def mismatch(self) -> DigestMismatch:
        """The error for bytes that do not match the digest."""
        return DigestMismatch(
            f"blob {self.digest}: the bytes do not match the digest",
            hint="the file is damaged: pybuild fsck lists what else is damaged; fetch or build it again",
        )

    def fileno(self) -> int:
        """The descriptor of the stream. Raises OSError if it has none."""
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> VerifyingReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
