"""Trying out, inside the namespace of the steps, what a RUN will need: a real overlay and a real /proc.

Settings tell little: containers, security modules and file systems all have a say. So the very calls are made that a
step makes, in a directory of the store, and undone.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.operations import Overlay
from pybuild.builder.sandbox.root import OperationRefused, Root
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

_PROC = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC


@frozen
class Probed:
    """What came of each trial: nothing where it worked, else what the kernel said."""

    overlay: str
    proc: str
    cgroup: str


@frozen
class Probe:
    """Try out overlay, /proc and cgroup namespaces. `directory` is an empty one of the store's file system."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> Probed:
        return Probed(
            _in_child(self._overlay, linux.CLONE_NEWNS),
            _in_child(_proc, linux.CLONE_NEWNS | linux.CLONE_NEWPID),
            _in_child(lambda: None, linux.CLONE_NEWCGROUP),
        )

    def _overlay(self) -> None:
        """Mount, and remove a directory of the lower layer through the mount: that writes a whiteout and an attribute."""
        lower, upper, work, root = (f"{self.directory}/{name}" for name in ("lower", "upper", "work", "root"))
        for path in (lower, upper, work, root, f"{lower}/gone", f"{lower}/kept"):
            os.mkdir(path, 0o755)
        found = Root()
        Overlay((lower,), upper, work, root).execute(found)
        os.rmdir("gone", dir_fd=_readable(found.fd))
        if not stat.S_ISCHR(os.lstat(f"{upper}/gone").st_mode):
            raise OSError("overlay made no whiteout")


def _readable(fd: int) -> int:
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)


def _proc() -> None:
    """In a new pid namespace, whose first process is a child of this one."""
    pid = os.fork()
    if pid == 0:
        try:
            context = linux.fsopen("proc")
            linux.fsconfig_create(context)
            linux.fsmount(context, _PROC)
        except OSError as error:
            os._exit(min(error.errno or 255, 255))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def _in_child(trial: Callable[[], None], namespaces: int) -> str:
    """Run a trial in a child with namespaces of its own, so that nothing of it is left; answer what went wrong."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            linux.unshare(namespaces)
            trial()
        except (OSError, OperationRefused) as error:
            said = (error.strerror if isinstance(error, OSError) else None) or str(error) or "refused"
        os.write(writer, said.encode("utf-8", "backslashreplace")[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    return answer
