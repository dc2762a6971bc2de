"""The build context as a directory of the user, without the files that its ignore file excludes.

All files are owned by 0:0 in the image. The kernel never follows a link here: directories are opened name by name below
the descriptor of the root, files with O_NOFOLLOW; a FIFO or a socket is never opened.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError, CopyError
from pybuild.parser import IgnoreFile
from pybuild.store.formats.capability import without_root_id
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.objects.context_memo import file_key, is_settled
from pybuild.store.system.holes import chunks_of_file
from pybuild.values.limits import CONTEXT_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pybuild.store.objects.context_memo import Memo

_CAPABILITY = "security.capability"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_WHOLE = 1 << 16  # bytes; a file up to this size is read by one read(2)


class ContextTree:
    """A context directory as a FileTree."""

    allows_devices = False

    def __init__(
        self,
        root: str,
        ignore: IgnoreFile | None,
        excluded: dict[bytes, Entry] | None = None,
        memo: Memo | None = None,
    ) -> None:
        """Raises BuildError if the directory cannot be opened.

        `pybuild context` passes `excluded`, which collects the excluded entries of all listed directories. It also turns
        the limits off: a user who exceeds them needs the listing to see why. Entries of files that `memo` knows have a digest.
        """
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BuildError(f"cannot open the context {root}: {error.strerror}") from error
        self._ignore = ignore
        self._excluded = excluded
        self._memo = memo
        self._unread: dict[bytes, bytes] = {}  # path -> memo key, of files whose digest the memo lacks and can learn
        self._read: dict[bytes, bytes] = {}  # the same, of those files whose content was read
        self._listed: dict[bytes, dict[bytes, Entry]] = {}
        self._inodes: dict[bytes, tuple[int, int]] = {}
        self._entries = 0
        self._most = CONTEXT_ENTRIES.value
        self._sockets: set[bytes] = set()
        self._reading: tuple[bytes, int] | None = None  # path and descriptor of the directory of the last file read

    def close(self) -> None:
        self._leave()
        os.close(self._root)

    def lookup(self, path: bytes) -> Entry | None:
        if not path:
            return self._entry(b"", os.fstat(self._root), b"")
        parent, _, name = path.rpartition(b"/")
        above = self._parent_is_directory(parent)
        return self._list(parent).get(name) if above else None

    def readdir(self, path: bytes) -> list[Entry]:
        found = self._list(path)
        return [found[name] for name in sorted(found)]

    def identity(self, entry: Entry) -> Hashable | None:
        return self._inodes.get(entry.path)

    def learn(self, found: Iterable[tuple[Entry, bytes]]) -> None:
        """Store the digests of files in the memo, but only of files that did not change between listing and reading."""
        if self._memo is None:
            return
        for entry, sha256 in found:
            key = (self._read if entry.size else self._unread).get(entry.path)
            if key is not None:
                self._memo.learn(key, sha256)

    def save_memo(self, scratch: str) -> None:
        """Save the memo for the next build. `scratch` is a path in the store that does not exist."""
        if self._memo is not None:
            self._memo.save(scratch)

    def is_socket(self, entry: Entry) -> bool:
        """Whether the entry, which is an empty file in the listing, is a socket in the directory."""
        return entry.path in self._sockets

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file. Raises CopyError if its size is not the listed one, or it changes while it is read."""
        return iter((self._whole(entry),)) if entry.size <= _WHOLE else self._pieces(entry)

    def _whole(self, entry: Entry) -> bytes:
        """The content of a small file, by one read(2). A generator and a list would take as long as the read itself."""
        fd = self._open_file(entry)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
                raise self._changed(entry)
            data = os.read(fd, entry.size + 1)
        finally:
            os.close(fd)
        if len(data) != entry.size:
            return b"".join(self._pieces(entry))
        self._was_read(entry, status)
        return data

    def _pieces(self, entry: Entry) -> Iterator[bytes]:
        fd = self._open_file(entry)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode) or before.st_size != entry.size:
                raise self._changed(entry)
            left = entry.size
            for chunk in chunks_of_file(fd):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
            after = os.fstat(fd)
            if left or (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
                after.st_size,
                after.st_mtime_ns,
                after.st_ctime_ns,
            ):
                raise self._changed(entry)
            self._was_read(entry, before)
        finally:
            os.close(fd)

    def _open_file(self, entry: Entry) -> int:
        parent, _, name = entry.path.rpartition(b"/")
        directory = self._enter(parent)
        try:
            return os.open(name, _FILE, dir_fd=directory)
        except OSError as error:
            raise CopyError(f"cannot read {show(entry.path)} of the context: {error.strerror}") from error

    def _was_read(self, entry: Entry, status: os.stat_result) -> None:
        """Note that a file was read completely. `status` is from before the read."""
        key = self._unread.get(entry.path)
        if key is not None and key == file_key(status):
            self._read[entry.path] = key

    @staticmethod
    def _changed(entry: Entry) -> CopyError:
        return CopyError(
            f"{show(entry.path)} of the context changed while it was copied",
            hint="build again while no other process writes to it",
        )

    def _enter(self, path: bytes) -> int:
        """The descriptor of a directory. It stays open, because the next file is usually in the same directory."""
        if self._reading is None or self._reading[0] != path:
            self._leave()
            self._reading = (path, self._open(path))
        return self._reading[1]

    def _leave(self) -> None:
        if self._reading is not None:
            os.close(self._reading[1])
            self._reading = None

    def _parent_is_directory(self, path: bytes) -> bool:
        if not path:
            return True
        entry = self.lookup(path)
        return entry is not None and entry.kind is Kind.DIRECTORY

    def _open(self, path: bytes) -> int:
        """Open a directory of the context without following links. The path can be longer than PATH_MAX."""
        fd = os.dup(self._root)
        for name in path.split(b"/") if path else ():
            try:
                below = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError as error:
                raise CopyError(f"cannot read the directory {show(path)} of the context: {error.strerror}") from error
            finally:
                os.close(fd)
            fd = below
        return fd

    def _list(self, path: bytes) -> dict[bytes, Entry]:
        """The entries of a directory that are not excluded, by name.

        An excluded directory is in the list if a `!` line includes a path below it. To find out, `_list` first lists the
        directory itself. The stack is explicit, because directories can be nested deeper than Python can recurse.
        """
        pending = [path]
        scanned: dict[bytes, tuple[dict[bytes, Entry], list[bytes]]] = {}
        while pending:
            directory = pending[-1]
            if directory in self._listed:
                pending.pop()
            elif directory not in scanned:
                scanned[directory] = self._scan(directory)
                pending += [_join(directory, name) for name in scanned[directory][1]]
            else:
                found, undecided = scanned.pop(directory)
                for name in undecided:
                    if not self._listed[_join(directory, name)]:
                        entry = found.pop(name)
                        if self._excluded is not None:
                            self._excluded[entry.path] = entry
                self._listed[directory] = found
        return self._listed[path]

    def _scan(self, path: bytes) -> tuple[dict[bytes, Entry], list[bytes]]:
        """The entries of a directory by name, and the names of excluded directories that can have included paths below."""
        found: dict[bytes, Entry] = {}
        undecided = []
        fd = self._open(path)
        now = time.time_ns()
        try:
            try:
                names = os.listdir(fd)
            except OSError as error:
                raise CopyError(f"cannot read the directory {show(path)} of the context: {error.strerror}") from error
            for text in names:
                name = os.fsencode(text)
                child = _join(path, name)
                try:
                    status = os.lstat(name, dir_fd=fd)
                    link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else b""
                except FileNotFoundError:
                    continue  # removed after listdir
                if self._ignore is not None and self._ignore.excludes(text := os.fsdecode(child)):
                    if not stat.S_ISDIR(status.st_mode) or not self._ignore.may_contain_included(text):
                        if self._excluded is not None:
                            self._excluded[child] = _entry_of(child, status, link)
                        continue
                    undecided.append(name)
                self._count()
                if not stat.S_ISREG(status.st_mode):
                    found[name] = self._entry(child, status, link)
                    continue
                found[name] = self._file(child, status, b"/proc/self/fd/%d/%s" % (fd, name), now)
                if status.st_nlink > 1:
                    self._inodes[child] = (status.st_dev, status.st_ino)
        finally:
            os.close(fd)
        return found, undecided

    def _count(self) -> None:
        """Count an entry. Only the number of entries has a limit: the size of a file that no COPY reads costs nothing."""
        self._entries += 1
        if self._entries > self._most and self._excluded is None:
            raise CONTEXT_ENTRIES.exceeded(
                CopyError,
                "the context exceeds the limit of {} entries",
                hint="exclude files that the build does not need in .dockerignore",
            )

    def _file(self, path: bytes, status: os.stat_result, host_path: bytes, now: int) -> Entry:
        """The entry of a regular file. `host_path` is its path on this machine, `now` a time before `status` was read."""
        sha256 = b""
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        key = file_key(status) if self._memo is not None else b""
        if self._memo is not None and (known := self._memo.find(key)) is not None:
            sha256 = known
        else:
            xattrs = _capability(host_path)
            if self._memo is not None and not xattrs and is_settled(status, now):
                self._unread[path] = key
        mtime = status.st_mtime_ns // 1_000_000_000
        return Entry(
            path, Kind.FILE, status.st_mode & 0o7777, 0, 0, mtime, status.st_size, b"", b"", 0, xattrs, sha256
        )  # fmt: skip

    def _entry(self, path: bytes, status: os.stat_result, link: bytes) -> Entry:
        """The entry of anything except a regular file."""
        if stat.S_ISSOCK(status.st_mode):
            self._sockets.add(path)
        return _entry_of(path, status, link)


def _entry_of(path: bytes, status: os.stat_result, link: bytes) -> Entry:
    """The entry for a result of lstat(2), without extended attributes and digest."""
    mtime = status.st_mtime_ns // 1_000_000_000
    mode = stat.S_IMODE(status.st_mode)
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFREG | stat.S_IFSOCK:
            return Entry(path, Kind.FILE, mode, mtime=mtime, size=status.st_size)
        case stat.S_IFDIR:
            return Entry(path, Kind.DIRECTORY, mode, mtime=mtime)
        case stat.S_IFLNK:
            return Entry(path, Kind.SYMLINK, 0o777, mtime=mtime, link=link)
        case stat.S_IFIFO:
            return Entry(path, Kind.FIFO, mode, mtime=mtime)
        case _:
            kind = Kind.CHAR if stat.S_ISCHR(status.st_mode) else Kind.BLOCK
            return Entry(path, kind, mode, mtime=mtime, rdev=status.st_rdev)


def _capability(host_path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The file capabilities as an xattr of revision 2 (20 bytes): the root id of a user namespace is removed."""
    try:
        # Few files have capabilities. listxattr takes half the time of a getxattr that fails with an exception.
        if _CAPABILITY not in os.listxattr(host_path, follow_symlinks=False):
            return ()
        value = os.getxattr(host_path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return ()  # removed, or the filesystem has no extended attributes
    return ((_CAPABILITY.encode(), without_root_id(value)),)


def _join(directory: bytes, name: bytes) -> bytes:
    """The path of a name in a directory; b"" is the root."""
    return directory + b"/" + name if directory else name
