"""Files with holes: ranges that no write has touched. They read as zeros and take no space on the disk.

Some files of images are nearly all hole: disk images, databases, what truncate(1) makes. Where pybuild writes the content
of files it makes holes of long runs of zeros, so that 20 GB of zeros fit on a small disk.

A hole is read without asking the kernel for its zeros, which would fill the page cache with them. SEEK_DATA of lseek(2)
finds the end of a hole; a filesystem that does not support it answers that everything is data.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from _typeshed import ReadableBuffer

ZEROS = bytes(1 << 20)  # the chunk of every hole: whoever is given this very object need not look at it
MIN_HOLE = 1 << 16  # bytes; to read or write a shorter run of zeros takes no longer than to skip it
_BUFFER = 1 << 20
_AT_ONCE = 16 << 20  # bytes that the kernel copies before a signal is answered
_GRAIN = 1 << 16  # bytes; zeros become a hole in pieces of this size


def chunks_of_file(fd: int, start: int = 0, size: int | None = None) -> Iterator[bytes]:
    """The bytes of an open regular file from `start`, in chunks of at most 1 MiB. Raises OSError.

    They are `size` bytes, or those up to the present end of the file, whatever is less. A hole comes as ZEROS again and
    again, and a shorter rest.
    """
    position, end = start, os.fstat(fd).st_size
    if size is not None:
        end = min(end, start + size)
    while position < end:
        hole = _data_after(fd, position, end) - position
        if hole < MIN_HOLE:
            chunk = os.pread(fd, min(len(ZEROS), end - position), position)
            if not chunk:
                return
            position += len(chunk)
            yield chunk
            continue
        position += hole
        while hole:
            size = min(hole, len(ZEROS))
            hole -= size
            yield ZEROS if size == len(ZEROS) else ZEROS[:size]


def _data_after(fd: int, position: int, end: int) -> int:
    """Where the next data of a file begins, at `position` or behind it; at most `end`."""
    try:
        return min(os.lseek(fd, position, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return end
        if error.errno == errno.EINVAL:  # not supported
            return position
        raise


def copy_file(source: int, out: BinaryIO, size: int) -> int:
    """Write the first `size` bytes of an open regular file to a stream; return how many there were. Raises OSError.

    Where both are files the kernel copies them (copy_file_range(2)), and shares their blocks if the filesystem can. Where
    it cannot copy (other filesystems, a pipe, an old kernel), they are read and written. Holes are written as zeros: a
    SparseFile makes holes of them again.
    """
    size = min(size, os.fstat(source).st_size)
    position = 0
    by_kernel = _is_file(out)
    while position < size:
        data = _data_after(source, position, size)
        if data - position >= MIN_HOLE:
            for chunk in chunks_of_file(source, position, data - position):
                out.write(chunk)
            position = data
            continue
        end = _hole_after(source, data, size)
        if by_kernel:
            copied = _copied_by_kernel(source, position, end - position, out)
            by_kernel = copied == end - position
            position += copied
        else:
            for chunk in chunks_of_file(source, position, end - position):
                out.write(chunk)
                position += len(chunk)
            if position < end:  # the file has become shorter
                return position
    return position


def _copied_by_kernel(source: int, position: int, size: int, out: BinaryIO) -> int:
    """Have the kernel copy a part of a file; return how many bytes it did. If it cannot go on, it does fewer."""
    out.flush()
    target, copied = out.fileno(), 0
    try:
        while copied < size:
            done = os.copy_file_range(source, target, min(size - copied, _AT_ONCE), offset_src=position + copied)
            if not done:
                break
            copied += done
    except OSError:
        pass  # copying in the other way works, or says what is wrong
    out.seek(0, os.SEEK_CUR)  # the buffer of `out` learns where its file is now
    return copied


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream without descriptor: io.UnsupportedOperation
        return False


def _hole_after(fd: int, position: int, end: int) -> int:
    """Where the next hole of a file begins behind the data at `position`; at most `end`."""
    if position >= end:
        return end
    try:
        return min(os.lseek(fd, position, os.SEEK_HOLE), end)
    except OSError:  # not supported
        return end


def size_on_disk(path: str | bytes, size: int) -> int:
    """The bytes that a file of `size` bytes takes on the disk: less than that if it has holes. Raises OSError."""
    return min(size, os.lstat(path).st_blocks * 512)


def create_sparse(path: str, mode: str = "xb") -> BinaryIO:
    """A new file to write to; long runs of zeros become holes. Raises OSError."""
    return buffered(SparseFile(path, mode))


def buffered(raw: SparseFile) -> BinaryIO:
    """A buffer before a file, so that it sees long pieces."""
    return io.BufferedWriter(raw, _BUFFER)


def open_sparse(path: str) -> io.FileIO:
    """A file to read from front to back, unbuffered: its holes are not read. Raises OSError."""
    raw = SparseFile(path, "rb")
    status = os.fstat(raw.fileno())
    if status.st_blocks * 512 < status.st_size:
        return raw
    raw.close()
    return io.FileIO(path, "rb")


class SparseFile(io.FileIO):
    """A file, read or written from front to back. Only what is new can be written: a hole leaves old data as it is."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write the first bytes of `data`, or make a hole of them; return how many that were. Raises OSError."""
        view = memoryview(data)
        if len(view) < _GRAIN:
            return super().write(view)
        is_hole = _is_zero(view[:_GRAIN])
        end = _GRAIN
        while end < len(view) and _is_zero(view[end : end + _GRAIN]) is is_hole:
            end += _GRAIN
        end = min(end, len(view))
        if not is_hole:
            return super().write(view[:end])
        self.truncate(self.seek(end, os.SEEK_CUR))
        return end

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; b"" at the end. Raises OSError."""
        if size is None or size < _GRAIN:
            return super().read(size)
        position = self.tell()
        end = os.fstat(self.fileno()).st_size
        hole = _data_after(self.fileno(), position, end) - position if position < end else 0
        if hole < MIN_HOLE:
            self.seek(position)
            return super().read(size)
        size = min(size, hole, len(ZEROS))
        self.seek(position + size)
        return ZEROS if size == len(ZEROS) else ZEROS[:size]


def _is_zero(piece: memoryview) -> bool:
    return ZEROS.startswith(piece)
