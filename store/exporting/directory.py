"""Exporting the root filesystem of an image as files in a directory of the user.

The directory can contain anything, including links from an earlier image. Paths are therefore opened below it without
following links (openat2). Each file is created under a temporary name that then becomes its name: this replaces a name,
and never writes through it. Files of the directory that the image does not have stay.

All files belong to the user. Setuid and setgid bits are left out, because they would mean another user than in the
image. Extended attributes are left out as well, and so are device nodes, which only root can create and which are
useless outside of a container. After a failure each file is either the old or the new one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.exporting.publish import nothing, temporary_name, unnamed_file
from pybuild.store.exporting.rootfs_tar import Rootfs
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of
from pybuild.store.objects.indexes import StoredIndex
from pybuild.store.system.directories import opened_directory, remove_tree
from pybuild.store.system.disk_full import OUTPUT_HINT, no_space
from pybuild.store.system.files import open_beneath, replace_file
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_MAX_PATH = 4000  # bytes of a path for one system call; PATH_MAX is 4096


@frozen
class LocalReport:
    """What was written, and what was left out."""

    size: int  # bytes of all files
    files: int  # number of names, without directories
    devices: tuple[bytes, ...]  # paths of the device nodes that were left out


def write_local(store: Store, image: Stored, destination: str, *, ready: Callable[[], None] = nothing) -> LocalReport:
    """Write the files of an image into a directory; create it if it does not exist. Raises StoreError, OSError.

    Those of an index go into a directory for each platform.
    After an error, of `ready` too, which is called last, a directory that was created is gone. In one that existed before,
    what was written stays.
    """
    is_new = not os.path.lexists(destination)
    try:
        report = _write_local(store, image, destination)
        ready()
        return report
    except BaseException:
        if is_new and os.path.isdir(destination):
            target = os.path.realpath(destination)
            with opened_directory(os.path.dirname(target)) as parent:
                remove_tree(parent, os.path.basename(target))
        raise


def _write_local(store: Store, image: Stored, destination: str) -> LocalReport:
    try:
        os.makedirs(destination, exist_ok=True)
        root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError):
        raise StoreError(f"{destination} is not a directory", hint="type=local writes into a directory") from None
    try:
        if not isinstance(image, StoredIndex):
            return _write_image(store, image, root, destination)
        reports = []
        for one in image.images:
            name = one.exact_platform.directory
            below = _platform_directory(root, name.encode(), destination)
            try:
                reports.append(_write_image(store, one, below, f"{destination}/{name}"))
            finally:
                os.close(below)
        devices = tuple(device for report in reports for device in report.devices)
        return LocalReport(sum(report.size for report in reports), sum(report.files for report in reports), devices)
    except OSError as error:
        raise no_space(error, destination, hint=OUTPUT_HINT) from error
    finally:
        os.close(root)


def _write_image(store: Store, image: StoredImage, root: int, shown: str) -> LocalReport:
    """Write the files of an image below a descriptor."""
    writer = FileWriter(root, shown)
    try:
        with Rootfs(store, image) as rootfs:
            files = ((item.entry, chunks) for item, chunks in rootfs.in_order_of_layers())
            return writer.write((item.entry for item in rootfs.items), files)
    finally:
        writer.close()


def _platform_directory(root: int, name: bytes, shown: str) -> int:
    """The descriptor of the directory of one platform. It is made, also in place of a link, which is never followed."""
    writer = FileWriter(root, shown)
    try:
        writer.make_directory(name)
    finally:
        writer.close()
    fd = os.open(name, _DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    os.fchmod(fd, 0o755)
    return fd


class FileWriter:
    """Writes files below a directory. It keeps the last parent directory open, because neighbours share it."""

    def __init__(self, root: int, shown: str, *, replace: bool = True) -> None:
        """Write below the descriptor `root`, which the caller closes. Errors call it `shown`.

        If `replace` is false, a name that exists already is a StoreError.
        """
        self._replaces = replace
        self._root = root
        self._shown = shown
        self._open_path = b""
        self._open_fd = os.dup(root)

    def close(self) -> None:
        os.close(self._open_fd)

    def write(self, entries: Iterable[Entry], contents: Iterable[tuple[Entry, Iterator[bytes]]]) -> LocalReport:
        """Write entries, a directory before its files; `contents` are the files that are not empty, with their bytes."""
        devices, links, directories, size, files = [], [], [], 0, 0
        for entry in entries:
            files += entry.kind is not Kind.DIRECTORY
            if entry.hardlink:
                links.append(entry)
            elif entry.kind is Kind.DIRECTORY:
                self._at(entry, self._directory)
                directories.append(entry)
            elif entry.kind is Kind.FILE:
                if not entry.size:
                    self._at(entry, self._file, iter(()))
            elif entry.kind in (Kind.CHAR, Kind.BLOCK):
                devices.append(entry.path)
            else:
                self._at(entry, self._special)
        for entry, chunks in contents:
            self._at(entry, self._file, chunks)
            size += entry.size
        for entry in links:
            if entry.kind in (Kind.CHAR, Kind.BLOCK):
                devices.append(entry.path)
            else:
                self._at(entry, self._link)
        # Times and modes of directories come last: creating files in them changes the times and needs write permission.
        for entry in reversed(directories):
            self._at(entry, self._finish_directory)
        return LocalReport(size, files - len(devices), tuple(devices))

    def make_directory(self, path: bytes) -> None:
        """Make one directory, whose parent exists, as `write` does."""
        self._at(Entry(path, Kind.DIRECTORY), self._directory)

    def _at(self, entry: Entry, make: Callable[..., None], *arguments: object) -> None:
        """Call `make` with the entry, the descriptor of its parent and its name. Errors contain the path."""
        try:
            parent, _, name = entry.path.rpartition(b"/")
            make(entry, self._parent(parent), name, *arguments)
        except OSError as error:
            error.filename = f"{self._shown}/{show(entry.path)[1:-1]}"
            raise

    def _parent(self, path: bytes) -> int:
        if path != self._open_path:
            fd = self._open_directory(path)
            os.close(self._open_fd)
            self._open_fd, self._open_path = fd, path
        return self._open_fd

    def _open_directory(self, path: bytes) -> int:
        fd = os.dup(self._root)
        while path:
            cut = len(path) if len(path) <= _MAX_PATH else path.rindex(b"/", 0, _MAX_PATH)
            try:
                below = open_beneath(fd, path[:cut], _DIRECTORY)
            finally:
                os.close(fd)
            fd, path = below, path[cut + 1 :]
        return fd

    def _directory(self, entry: Entry, parent: int, name: bytes) -> None:
        """Make a directory that can be written to. An existing one stays; any other file is replaced."""
        while True:
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
                return
            except FileExistsError:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                break
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
        if status.st_mode & 0o700 != 0o700:
            self._change_mode(parent, name, stat.S_IMODE(status.st_mode) | 0o700)

    def _finish_directory(self, entry: Entry, parent: int, name: bytes) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            os.fchmod(fd, entry.mode & 0o1777)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    @staticmethod
    def _change_mode(parent: int, name: bytes, mode: int) -> None:
        # A directory without permissions can only be opened with O_PATH, and fchmod(2) refuses such a descriptor.
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    def _file(self, entry: Entry, parent: int, name: bytes, chunks: Iterator[bytes]) -> None:
        def make(temporary: bytes) -> None:
            with unnamed_file(parent, temporary, 0o600) as out:
                for chunk in chunks:
                    out.write(chunk)
                out.flush()
                os.fchmod(out.fileno(), entry.mode & 0o777)
                os.utime(out.fileno(), (entry.mtime, entry.mtime))

        self._replace(entry, parent, name, make)

    def _special(self, entry: Entry, parent: int, name: bytes) -> None:
        def make(temporary: bytes) -> None:
            if entry.kind is Kind.SYMLINK:
                os.symlink(entry.link, temporary, dir_fd=parent)
            else:
                os.mkfifo(temporary, 0o600, dir_fd=parent)
                os.chmod(temporary, entry.mode & 0o777, dir_fd=parent)
            os.utime(temporary, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

        self._replace(entry, parent, name, make)

    def _link(self, entry: Entry, parent: int, name: bytes) -> None:
        def make(temporary: bytes) -> None:
            source = self._open_directory(parent_of(entry.hardlink))
            try:
                first = entry.hardlink.rpartition(b"/")[2]
                os.link(first, temporary, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)

        self._replace(entry, parent, name, make)

    def _replace(self, entry: Entry, parent: int, name: bytes, make: Callable[[bytes], None]) -> None:
        """Make a file under a temporary name, and rename it to `name`."""
        temporary = os.fsencode(os.path.basename(temporary_name("/pybuild")))
        try:
            make(temporary)
            if not self._replaces:
                self._link_new(entry, temporary, parent, name)
                return
            try:
                replace_file(temporary, name, parent)
            except IsADirectoryError:
                self._remove_empty(entry, parent, name)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)

    def _link_new(self, entry: Entry, temporary: bytes, parent: int, name: bytes) -> None:
        try:
            os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            raise StoreError(f"{self._shown}/{show(entry.path)[1:-1]}: exists already") from None

    def _remove_empty(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise StoreError(
                f"{self._shown}/{show(entry.path)[1:-1]} is a directory with files in it, but not in the image",
                hint="remove it, or write to another directory",
            ) from None
