"""Exporting images as OCI layouts and docker archives, to a tar or a directory.

The output is a function of the image and its names alone: no times, no owners, a fixed order. A docker archive is also
an OCI layout, as in BuildKit and docker since version 25: its manifest.json refers to the blobs of the layout.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, StoreError
from pybuild.store.exporting.publish import nothing, replacing, temporary_directory, temporary_name, unnamed_file
from pybuild.store.formats import tar
from pybuild.store.formats.bounded_json import dump
from pybuild.store.formats.docker_archive import MANIFEST, manifest_json
from pybuild.store.formats.oci_layout import (
    INDEX,
    LAYOUT,
    LAYOUT_JSON,
    NAME_ANNOTATION,
    REF_ANNOTATION,
    blob_name,
    index_json,
)
from pybuild.store.formats.oci_manifest import Descriptor, Index
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.tar_header import entry_header
from pybuild.store.system.directories import remove_tree
from pybuild.store.system.disk_full import OUTPUT_HINT, no_space
from pybuild.store.system.files import open_beneath, read_regular
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.blobs import Blobs
    from pybuild.store.objects.images import StoredImage

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_archive(
    blobs: Blobs, image: StoredImage, names: list[Reference], out: BinaryIO, *, docker: bool = False
) -> None:
    """Write an image as a tar; every blob is verified (`Blobs.copy`). Raises DigestMismatch, OSError."""
    archive = _ArchiveWriter(out)
    archive.add_bytes(LAYOUT, LAYOUT_JSON)
    archive.add_bytes(INDEX, index_json(_entries(blobs, image, names)))
    if docker:
        archive.add_bytes(MANIFEST, dump(manifest_json(image.manifest, names)))
    archive.add_directory(b"blobs/")
    archive.add_directory(b"blobs/sha256/")
    for digest in _digests(image):
        archive.add_blob(blobs, digest)
    archive.finish()


def publish_archive(
    blobs: Blobs,
    image: StoredImage,
    names: list[Reference],
    destination: str,
    *,
    docker: bool = False,
    ready: Callable[[], None] = nothing,
) -> None:
    """Write an archive to a path, completely or not at all. Raises OSError, NoSpace, DigestMismatch.

    `ready` is called when only the final name is missing; if it raises an error, the path is as before.
    """
    with replacing(destination) as out:
        write_archive(blobs, image, names, out, docker=docker)
        out.flush()
        ready()


def publish_directory(
    blobs: Blobs,
    image: StoredImage,
    names: list[Reference],
    destination: str,
    *,
    ready: Callable[[], None] = nothing,
) -> None:
    """Write an image into a new or an existing layout directory.

    In an existing layout the images with other names stay. Its index.json is replaced last and atomically, so a failure
    leaves the old images. Several processes can write into one layout, new or existing, and each image stays. Raises
    StoreError if the directory contains anything else; DigestMismatch, OSError. `ready` is called when only index.json, or
    the name of the directory, is missing; if it raises an error, the layout has the images as before.
    """
    target = os.path.realpath(destination)
    try:
        # A new layout becomes visible as a whole. If another process has made it meanwhile, the image is added to that.
        if not _is_layout(target, destination):
            if _write_new_layout(blobs, image, names, target, ready):
                return
            ready = nothing
        fd = os.open(target, _DIRECTORY)
        try:
            _write_layout(blobs, image, names, fd, destination, ready)
        finally:
            os.close(fd)
    except OSError as error:
        raise no_space(error, destination, hint=OUTPUT_HINT) from error


def _write_layout(
    blobs: Blobs, image: StoredImage, names: list[Reference], fd: int, shown: str, ready: Callable[[], None]
) -> None:
    """Add an image to the layout in a directory, which can be empty."""
    for digest in _digests(image):
        _put_blob(blobs, digest, fd)
    _put_bytes(fd, LAYOUT, LAYOUT_JSON)
    ready()  # before the lock: another output of the same build can go to this layout
    with suppress(OSError):  # a filesystem without locks: the last of two writers wins there
        fcntl.flock(fd, fcntl.LOCK_EX)
    before = _read_index(fd, shown)
    entries = _entries(blobs, image, names)
    if before is not None:
        entries = [*_others(before, entries), *entries]
    _put_bytes(fd, INDEX, index_json(entries, dict(before.annotations) if before else None))
    os.fsync(fd)


def _is_layout(target: str, shown: str) -> bool:
    """Whether the directory is a layout already; false if it is empty or missing."""
    try:
        existing = os.listdir(target)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise StoreError(f"{shown} is a file", hint="tar=false writes a directory") from None
    if existing and "oci-layout" not in existing:
        raise StoreError(f"{shown} contains something other than an OCI layout", hint="name a new or empty directory")
    return bool(existing)


def _write_new_layout(
    blobs: Blobs, image: StoredImage, names: list[Reference], target: str, ready: Callable[[], None]
) -> bool:
    """Write a temporary directory and rename it to `target`. False if another process has made `target` meanwhile."""
    parent, name = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with temporary_directory(parent_fd, name) as (temporary, fd):
            _write_layout(blobs, image, names, fd, target, nothing)
            ready()
            try:
                os.rename(temporary, name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
            return True
    finally:
        os.close(parent_fd)


def _entries(blobs: Blobs, image: StoredImage, names: list[Reference]) -> list[Descriptor]:
    """The entries of an image in index.json: one for each of its names, or one without a name."""
    size = blobs.size(image.manifest_digest) or 0
    config = image.config
    platform = Platform(config.os, config.architecture, config.variant)
    full = [name.with_default_tag() for name in names]
    annotations = [{NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag or ""} for name in full]
    return [
        Descriptor(image.manifest.media_type, image.manifest_digest, size, each, platform)
        for each in annotations or [{}]
    ]


def _digests(image: StoredImage) -> list[Digest]:
    """The digests of the blobs of an image, each once."""
    layers = (layer.digest for layer in image.manifest.layers)
    return list(dict.fromkeys((image.manifest_digest, image.manifest.config.digest, *layers)))


def _read_index(fd: int, shown: str) -> Index | None:
    try:
        index = open_beneath(fd, INDEX, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise InvalidImage(f"{shown}/index.json: {error.strerror}") from error
    try:
        return Index.from_bytes(read_regular(index, MANIFEST_BYTES, f"{shown}/index.json"))
    finally:
        os.close(index)


def _others(before: Index, entries: list[Descriptor]) -> list[Descriptor]:
    """The entries of an existing index that stay: those with other names. Having no name counts as a name."""

    def name(entry: Descriptor) -> tuple[str | None, str | None]:
        return entry.annotations.get(NAME_ANNOTATION), entry.annotations.get(REF_ANNOTATION)

    new = {name(entry) for entry in entries}
    return [entry for entry in before.manifests if name(entry) not in new]


def _put_blob(blobs: Blobs, digest: Digest, fd: int) -> None:
    with blobs.open(digest) as reader, _new_file(fd, blob_name(digest)) as out:
        blobs.copy(reader, out)


def _put_bytes(fd: int, name: bytes, data: bytes) -> None:
    with _new_file(fd, name) as out:
        out.write(data)


@contextmanager
def _new_file(fd: int, path: bytes) -> Iterator[BinaryIO]:
    """Write a file below a directory, and rename it into place. No link in `path` is followed."""
    *parents, name = path.split(b"/")
    parent = os.dup(fd)
    try:
        for part in parents:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
            below = os.open(part, _DIRECTORY, dir_fd=parent)
            os.close(parent)
            parent = below
        temporary = os.fsencode(os.path.basename(temporary_name("/" + os.fsdecode(name))))
        try:
            with unnamed_file(parent, temporary, 0o644) as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            remove_tree(parent, temporary)
            raise
    finally:
        os.close(parent)


class _ArchiveWriter:
    """Writes the members of a tar: no times, no owners."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def add_directory(self, name: bytes) -> None:
        self._out.write(_header(name, tar.DIRECTORY, 0o755, 0))

    def add_bytes(self, name: bytes, data: bytes) -> None:
        self._out.write(_header(name, tar.REGULAR, 0o644, len(data)) + data + bytes(-len(data) % tar.BLOCK))

    def add_blob(self, blobs: Blobs, digest: Digest) -> None:
        with blobs.open(digest) as reader:
            self._out.write(_header(blob_name(digest), tar.REGULAR, 0o644, reader.size))
            blobs.copy(reader, self._out)
            self._out.write(bytes(-reader.size % tar.BLOCK))

    def finish(self) -> None:
        self._out.write(tar.END)


def _header(name: bytes, kind: bytes, mode: int, size: int) -> bytes:
    return entry_header(name, kind, mode=mode, uid=0, gid=0, size=size, mtime=0)
