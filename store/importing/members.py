"""The files of an archive to import, in any order: members of a tar, or files below a directory.

Nothing is unpacked, and no file is created under a name from an archive. A member of a tar is a range of its bytes. A
file of a directory is opened below that directory without following symbolic links, and read only if it is a regular
file.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import InvalidImage, NotFound, UnsafePath
from pybuild.store.formats import tar
from pybuild.store.formats.tar import TarReader, show
from pybuild.store.system.files import open_beneath
from pybuild.values import frozen
from pybuild.values.limits import ARCHIVE_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from pybuild.values.limits import Limit

_CHUNK = 1 << 20


@frozen
class MemberPlace:
    """Where another process finds the bytes of a file: in the file `path` at `offset`, or in the file `name` below it."""

    path: str
    name: str = ""  # can hold surrogates
    offset: int = 0

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """The bytes from `offset` on, of a file of `size` bytes. Raises NotFound, InvalidImage, OSError."""
        if self.name:
            with DirectoryMembers(self.path) as directory:
                yield from directory.chunks(os.fsencode(self.name), offset)
            return
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while offset < size and (data := os.pread(fd, min(size - offset, _CHUNK), self.offset + offset)):
                offset += len(data)
                yield data
        finally:
            os.close(fd)


class Members(Protocol):
    """The regular files of an archive, by name."""

    def __contains__(self, name: bytes) -> bool: ...

    def size(self, name: bytes) -> int:
        """The size of a file in bytes. Raises NotFound, or InvalidImage if it is not a regular file."""
        ...

    def chunks(self, name: bytes) -> Iterator[bytes]:
        """The bytes of a file, in chunks. Raises NotFound, InvalidImage."""
        ...


class PlacedMembers(Members, Protocol):
    """Members that another process can read too."""

    def place(self, name: bytes) -> MemberPlace:
        """Where another process of this user finds a file, as long as this object is open. Raises NotFound."""
        ...


def read_member(members: Members, name: bytes, limit: Limit) -> bytes:
    """All bytes of a file. Raises NotFound, or InvalidImage if it is larger than `limit`."""
    size = members.size(name)
    if size > limit.value:
        raise limit.exceeded(InvalidImage, f"{show(name)} of {size} bytes exceeds the limit of {{}}")
    return b"".join(members.chunks(name))


class ArchiveMembers:
    """The regular files of an uncompressed tar.

    A name that appears twice is an error. So is a symbolic link, unless `links` is true: then a name can be a link to a
    regular file of the same archive, as in the archives of `docker save` if several images share a layer.
    """

    def __init__(self, file: BinaryIO, *, links: bool = False) -> None:
        """Read the headers of the whole archive. Raises InvalidImage, UnsafePath."""
        self._file = file
        self._ranges: dict[bytes, tuple[int, int]] = {}
        self._links: dict[bytes, bytes] = {}
        file.seek(0)
        most = ARCHIVE_MEMBERS.value
        for member in TarReader(file):
            name = member.name.removeprefix(b"./")
            if member.type == tar.DIRECTORY:
                continue
            if member.type != tar.REGULAR and not (links and member.type == tar.SYMLINK):
                raise InvalidImage(f"archive entry {show(name)} is not a regular file")
            if name in self._ranges or name in self._links:
                raise InvalidImage(f"archive entry {show(name)} appears twice")
            if len(self._ranges) + len(self._links) >= most:
                raise ARCHIVE_MEMBERS.exceeded(InvalidImage, "the archive has more than the limit of {} entries")
            if member.type == tar.SYMLINK:
                self._links[name] = _target(name, member.linkname)
            else:
                self._ranges[name] = (member.offset, member.size)

    def __contains__(self, name: bytes) -> bool:
        return self._links.get(name, name) in self._ranges

    def size(self, name: bytes) -> int:
        return self._range(name)[1]

    def chunks(self, name: bytes) -> Iterator[bytes]:
        offset, left = self._range(name)
        while left:
            data = os.pread(self._file.fileno(), min(left, _CHUNK), offset)
            if not data:
                raise InvalidImage("the archive is truncated", hint="the file is incomplete; fetch it again")
            left -= len(data)
            offset += len(data)
            yield data

    def place(self, name: bytes) -> MemberPlace:
        # The path of the archive could name another file by now, or none if it came through a pipe.
        return MemberPlace(f"/proc/{os.getpid()}/fd/{self._file.fileno()}", offset=self._range(name)[0])

    def _range(self, name: bytes) -> tuple[int, int]:
        target = self._links.get(name, name)
        if target not in self._ranges:
            via = f", the target of {show(name)}" if target != name else ""
            raise NotFound(f"the archive has no {show(target)}{via}")
        return self._ranges[target]


def _target(name: bytes, link: bytes) -> bytes:
    """The target of a link, as a name in the archive. Raises UnsafePath if it is outside of the archive."""
    parts = name.split(b"/")[:-1]
    for part in link.split(b"/"):
        if part == b".." and parts:
            parts.pop()
        elif part == b".." or (part == b"" and link.startswith(b"/")):
            raise UnsafePath(f"archive entry {show(name)} is a link to {show(link)}, outside of the archive")
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


class DirectoryMembers:
    """The regular files below a directory, to which other users might be able to write. A context manager."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._path = path
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __contains__(self, name: bytes) -> bool:
        try:
            os.close(self._open(name))
        except NotFound:
            return False
        return True

    def size(self, name: bytes) -> int:
        fd = self._open(name)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def chunks(self, name: bytes, offset: int = 0) -> Iterator[bytes]:
        fd = self._open(name)
        try:
            left = os.fstat(fd).st_size - os.lseek(fd, offset, os.SEEK_SET)
            while left > 0 and (data := os.read(fd, min(left, _CHUNK))):
                left -= len(data)
                yield data
        finally:
            os.close(fd)

    def place(self, name: bytes) -> MemberPlace:
        os.close(self._open(name))
        return MemberPlace(os.path.abspath(self._path), os.fsdecode(name))

    def close(self) -> None:
        os.close(self._root)

    def __enter__(self) -> DirectoryMembers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, name: bytes) -> int:
        try:
            # O_NONBLOCK, so that opening a FIFO does not wait for its writer.
            fd = open_beneath(self._root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotFound(f"{self._path} has no {show(name)}") from None
            if error.errno in (errno.ELOOP, errno.EXDEV):
                raise UnsafePath(f"{self._path}: {show(name)} is a symbolic link or is behind one") from None
            if error.errno == errno.ENXIO:  # a socket
                raise InvalidImage(f"{self._path}: {show(name)} is not a regular file") from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidImage(f"{self._path}: {show(name)} is not a regular file")
        return fd
