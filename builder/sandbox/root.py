"""The root filesystem of a step while operations build it. They access it by descriptors only.

openat2 opens every mount point below the descriptor of the root, and follows no symbolic link: the main process has
already resolved the image's own links.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.builder.sandbox import linux
from pybuild.store.system import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOUNT_POINT = os.O_PATH | os.O_CLOEXEC
_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


class OperationRefused(Exception):
    """The image or the machine does not allow an operation. The message says why, `hint` what helps."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Root:
    """The descriptors that operations share.

    `fd` is the root of the overlay, `scratch` a directory in memory for files that pybuild makes for the step; both are
    -1 until an operation sets them. `vault` is a file in memory with all the secrets, `agents` the socket of the relay
    to SSH agents (agents.py); both are -1 if there is none.
    """

    def __init__(self, vault: int = -1, agents: int = -1) -> None:
        self.vault = vault
        self.agents = agents
        self.fd = -1
        self.scratch = -1
        self._names = 0

    def new_name(self) -> str:
        """An unused name in the scratch directory."""
        self._names += 1
        return str(self._names)

    def open_mount_point(self, path: str, flags: int = 0) -> int:
        """Open a mount point in the image without following links."""
        return syscalls.openat2(self.fd, os.fsencode(path.strip("/")), _MOUNT_POINT | os.O_NOFOLLOW | flags, _RESOLVE)

    def open_directory(self, name: str) -> int:
        """Open a mount point of a filesystem of the kernel. Raises OperationRefused if it is not a directory."""
        try:
            return self.open_mount_point(name, os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise OperationRefused(f"the image has a non-directory at /{name}") from error
            raise

    def attach(self, tree: int, target: str, *, directory: bool) -> None:
        """Attach a mount to its target and close it. A missing target is created, but only inside another mount."""
        place = self._mount_point(target, directory=directory)
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode) != directory:
                raise OperationRefused(f"cannot mount on {target}: it is {'not a' if directory else 'a'} directory")
            linux.move_mount(tree, place)
        finally:
            os.close(place)
            os.close(tree)

    def _mount_point(self, target: str, *, directory: bool) -> int:
        try:
            return self.open_mount_point(target)
        except FileNotFoundError:
            pass
        parts = target.strip("/").split("/")
        for number in range(1, len(parts) + 1):
            path = "/".join(parts[:number])
            try:
                os.close(self.open_mount_point(path))
            except FileNotFoundError:
                self._make("/".join(parts[: number - 1]), parts[number - 1], directory or number < len(parts))
        return self.open_mount_point(target)

    def _make(self, above: str, name: str, directory: bool) -> None:
        parent = self.open_mount_point(above or ".", os.O_DIRECTORY)
        try:
            if _mount_of(parent) == _mount_of(self.fd):
                # A mount point made in the image would end up in the layer, so a target that it lacks is refused.
                raise OperationRefused(f"cannot mount on /{above}/{name}: it does not exist")
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except OSError as error:
            raise OperationRefused(f"cannot make the mount point /{above}/{name}: {error.strerror}") from error
        finally:
            os.close(parent)


def _mount_of(fd: int) -> str:
    """The number of the mount that a descriptor is on. proc_pid_fdinfo(5). Other mounts can be of the same filesystem."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(line for line in file if line.startswith("mnt_id:"))


def new_mount(fstype: str, options: Iterable[tuple[str, str | None]], attributes: int) -> int:
    """A detached mount of a new filesystem. An option with the value None is a flag."""
    context = linux.fsopen(fstype)
    try:
        for key, value in options:
            if value is None:
                linux.fsconfig_flag(context, key)
            else:
                linux.fsconfig_string(context, key, value.encode())
        linux.fsconfig_create(context)
        return linux.fsmount(context, attributes)
    finally:
        os.close(context)
