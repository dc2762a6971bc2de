"""The root filesystem of a step while it is put together, reached by descriptors only.

Every mount point is opened with openat2 below the descriptor of the root, and no symbolic link is ever followed: where
the image's own links lead has been found out before.
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

_PLACE = os.O_PATH | os.O_CLOEXEC
_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


class OperationRefused(Exception):
    """The image or the machine does not allow an operation; the text says why, `hint` what helps."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Root:
    """`fd` is the root of the overlay once that is mounted, `scratch` a directory in memory for what is made for the step.

    `vault` holds the secrets, `agents` leads to the process that serves SSH agents (agents.py); -1 where there is none.
    """

    def __init__(self, vault: int = -1, agents: int = -1) -> None:
        self.vault = vault
        self.agents = agents
        self.fd = -1
        self.scratch = -1
        self._names = 0

    def new_name(self) -> str:
        """A name for something in the scratch directory."""
        self._names += 1
        return str(self._names)

    def place(self, path: str, flags: int = 0) -> int:
        """Open a mount point of the image, without following any link on the way."""
        return syscalls.openat2(self.fd, os.fsencode(path.strip("/")), _PLACE | os.O_NOFOLLOW | flags, _RESOLVE)

    def directory(self, name: str) -> int:
        """Open one of the directories that the kernel's file systems need."""
        try:
            return self.place(name, os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise OperationRefused(f"the image has a non-directory at /{name}") from error
            raise

    def attach(self, tree: int, target: str, *, directory: bool) -> None:
        """Put a mount on its target and close it. What is missing of the target is made, in other mounts only."""
        place = self._mount_point(target, directory=directory)
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode) != directory:
                raise OperationRefused(
                    f"{target} is {'no' if directory else 'a'} directory, so it cannot be mounted on"
                )
            linux.move_mount(tree, place)
        finally:
            os.close(place)
            os.close(tree)

    def _mount_point(self, target: str, *, directory: bool) -> int:
        try:
            return self.place(target)
        except FileNotFoundError:
            pass
        parts = target.strip("/").split("/")
        for number in range(1, len(parts) + 1):
            path = "/".join(parts[:number])
            try:
                os.close(self.place(path))
            except FileNotFoundError:
                self._make("/".join(parts[: number - 1]), parts[number - 1], directory or number < len(parts))
        return self.place(target)

    def _make(self, above: str, name: str, directory: bool) -> None:
        parent = self.place(above or ".", os.O_DIRECTORY)
        try:
            if os.fstat(parent).st_dev == os.fstat(self.fd).st_dev:
                # It would end up in the layer. A directory of the image that cannot be looked up is no reason to.
                raise OperationRefused(f"there is no /{above}/{name} to mount on")
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except OSError as error:
            raise OperationRefused(f"cannot make the mount point /{above}/{name}: {error.strerror}") from error
        finally:
            os.close(parent)


def new_mount(fstype: str, options: Iterable[tuple[str, str | None]], attributes: int) -> int:
    """A new file system with these options, as a mount that is attached nowhere yet; None for an option without value."""
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
