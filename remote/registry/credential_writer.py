"""Replacing a file with credentials: whole or not at all, one program after the other, readable for its owner only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.store.errors import StoreError
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.store.system.files import read_regular
from pybuild.values.limits import CREDENTIALS_BYTES, hint_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

_WRITTEN_BY = "pybuild, docker and podman login write this file"
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP)  # network filesystems, whose directories have no locks


class CredentialFile:
    """A file of docker or podman, locked by `open_locked`. `text` is "" if it does not exist yet."""

    def __init__(self, path: str, target: str, directory: int) -> None:
        """`target` is the file behind the symbolic links of `path`; `directory` is open."""
        self.path = path
        self._name = os.path.basename(target)
        self._directory = directory
        self._found: os.stat_result | None = None
        self.text = self._read()
        try:
            data = load_object(self.text.encode() or b"{}", path, limit=CREDENTIALS_BYTES)
            self.fields = Fields(data, path)
            self.auths = self.fields.object("auths")
            self.helpers = self.fields.mapping("credHelpers")
            self.default_helper = self.fields.text("credsStore", "")
        except StoreError as error:
            raise ConfigError(f"{error}; nothing was changed", hint=hint_beside(_WRITTEN_BY, error)) from None

    def replace(self, text: str) -> None:
        """Write the new content. After a failure the old one is there. Raises ConfigError."""
        temporary = f".{self._name}.pybuild"  # under the lock; what a killed login left is replaced
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=self._directory)
            try:
                with open(fd, "wb") as file:
                    self._keep_owner(fd)
                    file.write(text.encode())
                    file.flush()
                    os.fsync(fd)
                os.rename(temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=self._directory)
                raise
            os.fsync(self._directory)
        except OSError as error:
            mounted = "a file that is mounted cannot be replaced: mount its directory, or use --authfile FILE"
            hint = mounted if error.errno == errno.EBUSY else "--authfile FILE names another file"
            raise ConfigError(f"{self.path}: {error.strerror}", hint=hint) from None

    def _read(self) -> str:
        try:
            fd = os.open(self._name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from None
        try:
            self._found = os.fstat(fd)
            text = read_regular(fd, CREDENTIALS_BYTES, self.path).decode()
        except StoreError as error:
            raise ConfigError(str(error), hint=error.hint) from None
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path} is not UTF-8; nothing was changed", hint=_WRITTEN_BY) from None
        finally:
            os.close(fd)
        # mktemp(1) makes an empty file: it has nothing to lose.
        return text if text.strip() else ""

    def _keep_owner(self, fd: int) -> None:
        """Give a new file the owner of the old one and its mode, but no access for all users."""
        if self._found is None:
            return
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (self._found.st_uid, self._found.st_gid):
            with contextlib.suppress(PermissionError):
                os.fchown(fd, self._found.st_uid, self._found.st_gid)
        os.fchmod(fd, (stat.S_IMODE(self._found.st_mode) | 0o600) & 0o660)


@contextlib.contextmanager
def open_locked(path: str) -> Iterator[CredentialFile]:
    """Open a file for reading and replacing, while no other pybuild writes it. Makes its directory if it is missing.

    Raises ConfigError if the file is broken, which leaves it as it is, or if its place cannot be written.
    """
    target = os.path.realpath(path)
    try:
        _make_directory(os.path.dirname(target))
        directory = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="--authfile FILE names another file") from None
    try:
        try:
            # On the directory, because another file takes the name; closing it releases the lock.
            fcntl.flock(directory, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise ConfigError(f"{path}: no lock: {error.strerror}") from None
        yield CredentialFile(path, target, directory)
    finally:
        os.close(directory)


def _make_directory(path: str) -> None:
    """Make a directory and those above it, for this user only."""
    if not os.path.isdir(path):
        _make_directory(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
