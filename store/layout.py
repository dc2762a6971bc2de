"""OCI image layouts as one tar: writing them, and finding one's way in them.

Source: OCI image-spec, image-layout.md. What is written is a function of the image and its names alone: no times, no
owners, a fixed order. The file appears under a temporary name and is renamed, so that a reader never sees half of it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from store import tarformat
from store.errors import InvalidImage, NotFound
from store.files import no_space
from store.jsonio import dump
from store.spec import MediaType
from store.tarformat import TarReader, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from store.blobs import Blobs
    from store.digest import Digest
    from store.images import Image
    from store.reference import Reference

NAME_ANNOTATION = "io.containerd.image.name"  # the full name
REF_ANNOTATION = "org.opencontainers.image.ref.name"  # the tag
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20
MAX_MEMBERS = 100_000


def write_archive(blobs: Blobs, image: Image, names: list[Reference], out: BinaryIO) -> None:
    """Write an image as an OCI archive; every blob is verified on the way. Raises DigestMismatch, OSError."""
    descriptor: dict[str, object] = {
        "mediaType": image.manifest.media_type,
        "digest": str(image.manifest_digest),
        "size": blobs.size(image.manifest_digest),
    }
    platform = {"architecture": image.config.architecture, "os": image.config.os}
    if image.config.variant:
        platform["variant"] = image.config.variant
    manifests = []
    given: list[Reference | None] = [*names] if names else [None]
    for name in given:
        annotations = {}
        if name is not None:
            full = name.with_default_tag()
            annotations = {NAME_ANNOTATION: str(full), REF_ANNOTATION: full.tag or ""}
        manifests.append({**descriptor, **({"annotations": annotations} if annotations else {}), "platform": platform})
    index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": manifests}
    archive = _ArchiveWriter(out)
    archive.add_bytes(b"oci-layout", _LAYOUT)
    archive.add_bytes(b"index.json", dump(index))
    archive.add_directory(b"blobs/")
    archive.add_directory(b"blobs/sha256/")
    for digest in dict.fromkeys(
        (image.manifest_digest, image.manifest.config.digest, *(d.digest for d in image.manifest.layers))
    ):
        archive.add_blob(blobs, digest)
    archive.finish()


def publish_archive(blobs: Blobs, image: Image, names: list[Reference], destination: str) -> None:
    """Write an OCI archive to a path, all of it or nothing. Raises OSError, NoSpace, DigestMismatch."""
    directory, name = os.path.split(os.path.abspath(destination))
    temporary = f"{directory}/.{name[:200]}.{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as out:
            write_archive(blobs, image, names, out)
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, destination)
    except OSError as error:
        if error.filename == temporary:  # a name that nobody has chosen
            error.filename, error.filename2 = destination, None
        raise no_space(error, destination) from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


class _ArchiveWriter:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def add_directory(self, name: bytes) -> None:
        self._out.write(_header(name, tarformat.DIRECTORY, 0o755, 0))

    def add_bytes(self, name: bytes, data: bytes) -> None:
        self._out.write(_header(name, tarformat.REGULAR, 0o644, len(data)) + data + bytes(-len(data) % tarformat.BLOCK))

    def add_blob(self, blobs: Blobs, digest: Digest) -> None:
        with blobs.open(digest) as reader:
            self._out.write(
                _header(
                    b"blobs/%s/%s" % (digest.algorithm.encode(), digest.hex.encode()),
                    tarformat.REGULAR,
                    0o644,
                    reader.size,
                )
            )
            while chunk := reader.read(_CHUNK):
                self._out.write(chunk)
            self._out.write(bytes(-reader.size % tarformat.BLOCK))

    def finish(self) -> None:
        self._out.write(tarformat.END)


def _header(name: bytes, kind: bytes, mode: int, size: int) -> bytes:
    return tarformat.header(name, kind, mode=mode, uid=0, gid=0, size=size, mtime=0)


class ArchiveFiles:
    """The regular files of an uncompressed tar, to be read in any order.

    Nothing is unpacked: a member is a range of the archive. A name that appears twice is refused, and so is a link
    where a file is asked for.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ranges: dict[bytes, tuple[int, int]] = {}
        file.seek(0)
        for member in TarReader(file):
            name = member.name.removeprefix(b"./")
            if member.type == tarformat.DIRECTORY:
                continue
            if member.type != tarformat.REGULAR:
                raise InvalidImage(f"archive entry {show(name)} is not a regular file")
            if name in self._ranges:
                raise InvalidImage(f"archive entry {show(name)} appears twice")
            if len(self._ranges) >= MAX_MEMBERS:
                raise InvalidImage(f"the archive has more than {MAX_MEMBERS} entries")
            self._ranges[name] = (member.offset, member.size)

    def __contains__(self, name: bytes) -> bool:
        return name in self._ranges

    def read(self, name: bytes, limit: int) -> bytes:
        """A whole small member. Raises NotFound, InvalidImage where it is larger than `limit`."""
        if self._size(name) > limit:
            raise InvalidImage(f"archive entry {show(name)} exceeds the limit of {limit} bytes")
        return b"".join(self.chunks(name))

    def chunks(self, name: bytes) -> Iterator[bytes]:
        """The bytes of a member, in pieces."""
        left = self._size(name)
        offset = self._ranges[name][0]
        while left:
            data = os.pread(self._file.fileno(), min(left, _CHUNK), offset)
            if not data:
                raise InvalidImage("the archive is truncated", hint="the file is incomplete; fetch it again")
            left -= len(data)
            offset += len(data)
            yield data

    def _size(self, name: bytes) -> int:
        if name not in self._ranges:
            raise NotFound(f"the archive has no {show(name)}")
        return self._ranges[name][1]


def looks_like_layout(file: BinaryIO) -> bool:
    """Tell an OCI archive from the tar of a root filesystem, by its first names."""
    file.seek(0)
    found = False
    for member in TarReader(file):
        name = member.name.removeprefix(b"./")
        if name in (b"oci-layout", b"index.json"):
            found = True
        elif (
            name not in (b"", b"manifest.json", b"repositories") and not name.startswith(b"blobs/") and name != b"blobs"
        ):
            return False
        if name == b"oci-layout":
            return True
    return found
