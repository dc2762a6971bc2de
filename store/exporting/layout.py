"""Writing OCI layouts, as a tar or a directory, from blobs wherever they are. A docker archive is one with a manifest.json.

The output is a function of its content alone: no times, no owners, a fixed order.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import BlobVanished, InvalidImage, StoreError
from pybuild.store.exporting.publish import nothing, temporary_directory, temporary_name, unnamed_file
from pybuild.store.formats import tar
from pybuild.store.formats.bounded_json import dump
from pybuild.store.formats.docker_archive import MANIFEST
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
from pybuild.store.formats.tar_header import entry_header
from pybuild.store.objects.blobs import copy_verified
from pybuild.store.system.directories import remove_tree
from pybuild.store.system.disk_full import OUTPUT_HINT, no_space
from pybuild.store.system.files import open_beneath, read_regular
from pybuild.values import frozen
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import BinaryIO

    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.blobs import VerifyingReader

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class LayoutContent:
    """What is written: the entries for index.json, and all documents and blobs in their order, each once.

    `open` reads one of them, and `copy` writes what it reads and checks it. `saved` is the manifest.json of a docker
    archive.
    """

    entries: tuple[Descriptor, ...]
    digests: tuple[Digest, ...]
    open: Callable[[Digest], VerifyingReader]
    copy: Callable[[VerifyingReader, BinaryIO], None] = copy_verified
    saved: list[dict[str, object]] | None = None


def write_layout_tar(content: LayoutContent, out: BinaryIO) -> None:
    """Write a layout as a tar; every blob is verified. Raises DigestMismatch, OSError."""
    archive = _ArchiveWriter(out)
    archive.add_bytes(LAYOUT, LAYOUT_JSON)
    archive.add_bytes(INDEX, index_json(content.entries))
    if content.saved is not None:
        archive.add_bytes(MANIFEST, dump(content.saved))
    archive.add_directory(b"blobs/")
    for algorithm in sorted({digest.algorithm for digest in content.digests}):
        archive.add_directory(b"blobs/%s/" % algorithm.encode())
    for digest in content.digests:
        archive.add_blob(content, digest)
    archive.finish()


def layout_has(destination: str, sizes: Mapping[Digest, int]) -> frozenset[Digest]:
    """Those of the blobs that a layout directory has already, after they were read and checked."""
    try:
        fd = os.open(os.path.realpath(destination), _DIRECTORY)
    except OSError:
        return frozenset()
    try:
        return frozenset(digest for digest, size in sizes.items() if _has_blob(fd, digest, size))
    finally:
        os.close(fd)


def publish_layout(
    content: LayoutContent,
    destination: str,
    there: frozenset[Digest] = frozenset(),
    *,
    ready: Callable[[], None] = nothing,
    tidy: bool = False,
) -> None:
    """Write into a new or an existing layout directory. The blobs `there` are in it and not written again.

    In an existing layout the images with other names stay. Its index.json is replaced last and atomically, so a failure
    leaves the old images. Several processes can write into one layout, new or existing, and each image stays. Raises
    StoreError if the directory contains anything else; DigestMismatch, OSError. `ready` is called when only index.json, or
    the name of the directory, is missing; if it raises an error, the layout has the images as before. With `tidy` the blobs
    are removed that only the images needed whose names these take.
    """
    target = os.path.realpath(destination)
    try:
        # A new layout becomes visible as a whole. If another process has made it meanwhile, the image is added to that.
        if not is_layout(target, destination):
            if _write_new_layout(content, target, ready):
                return
            ready = nothing
        fd = os.open(target, _DIRECTORY)
        try:
            _write_layout(content, fd, destination, there, ready, tidy=tidy)
        finally:
            os.close(fd)
    except OSError as error:
        raise no_space(error, destination, hint=OUTPUT_HINT) from error


def _write_layout(
    content: LayoutContent,
    fd: int,
    shown: str,
    there: frozenset[Digest],
    ready: Callable[[], None],
    *,
    tidy: bool = False,
) -> None:
    """Add an image to the layout in a directory, which can be empty."""
    from pybuild.store.exporting.layout_blobs import has_file, remove_unneeded  # a local import: not for archives

    for digest in content.digests:
        if digest not in there:
            _put_blob(content, digest, fd)
    _put_bytes(fd, LAYOUT, LAYOUT_JSON)
    ready()  # before the lock: another output of the same build can go to this layout
    with suppress(OSError):  # a filesystem without locks: the last of two writers wins there
        fcntl.flock(fd, fcntl.LOCK_EX)
    for digest in content.digests:
        if not has_file(fd, digest):  # another writer has removed what only its old image needed
            if digest in there:
                raise BlobVanished(f"{shown}: another process has removed blob {digest}", hint="try again")
            _put_blob(content, digest, fd)
    before = _read_index(fd, shown)
    entries = list(content.entries)
    if before is not None:
        entries = [*_others(before, entries), *entries]
    _put_bytes(fd, INDEX, index_json(entries, dict(before.annotations) if before else None))
    os.fsync(fd)
    if tidy and before is not None:
        remove_unneeded(fd, [entry for entry in before.manifests if entry not in entries], entries)


def is_layout(target: str, shown: str) -> bool:
    """Whether the directory is a layout already; false if it is empty or missing. Raises StoreError for anything else."""
    try:
        existing = os.listdir(target)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise StoreError(f"{shown} is a file", hint="tar=false writes a directory") from None
    if existing and "oci-layout" not in existing:
        raise StoreError(f"{shown} contains something other than an OCI layout", hint="name a new or empty directory")
    return bool(existing)


def _write_new_layout(content: LayoutContent, target: str, ready: Callable[[], None]) -> bool:
    """Write a temporary directory and rename it to `target`. False if another process has made `target` meanwhile."""
    parent, name = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with temporary_directory(parent_fd, name) as (temporary, fd):
            _write_layout(content, fd, target, frozenset(), nothing)
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


def _others(before: Index, entries: Iterable[Descriptor]) -> list[Descriptor]:
    """The entries of an existing index that stay: those with other names. Having no name counts as a name."""

    def name(entry: Descriptor) -> tuple[str | None, str | None]:
        return entry.annotations.get(NAME_ANNOTATION), entry.annotations.get(REF_ANNOTATION)

    new = {name(entry) for entry in entries}
    return [entry for entry in before.manifests if name(entry) not in new]


def _has_blob(fd: int, digest: Digest, size: int) -> bool:
    try:
        blob = open_beneath(fd, blob_name(digest), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    with open(blob, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.hex


def _put_blob(content: LayoutContent, digest: Digest, fd: int) -> None:
    with content.open(digest) as reader, _new_file(fd, blob_name(digest)) as out:
        content.copy(reader, out)


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

    def add_blob(self, content: LayoutContent, digest: Digest) -> None:
        with content.open(digest) as reader:
            self._out.write(_header(blob_name(digest), tar.REGULAR, 0o644, reader.size))
            content.copy(reader, self._out)
            self._out.write(bytes(-reader.size % tar.BLOCK))

    def finish(self) -> None:
        self._out.write(tar.END)


def _header(name: bytes, kind: bytes, mode: int, size: int) -> bytes:
    return entry_header(name, kind, mode=mode, uid=0, gid=0, size=size, mtime=0)
