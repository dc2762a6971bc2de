"""The job that tries, inside the namespace of the steps, what a RUN needs: an overlay and a new /proc.

Settings of the kernel do not say whether these work: containers, security modules and filesystems also restrict them.
So the job makes the same system calls as a step, in a directory of the store.
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
    """The result of each trial: "" if it worked, else the error."""

    overlay: str
    proc: str
    cgroup: str


@frozen
class Probe:
    """Try overlay, /proc and cgroup namespaces. `directory` is an empty directory on the store's filesystem."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> Probed:
        return Probed(
            _in_child(self._overlay, linux.CLONE_NEWNS),
            _in_child(_proc, linux.CLONE_NEWNS | linux.CLONE_NEWPID),
            _in_child(lambda: None, linux.CLONE_NEWCGROUP),
        )

    def _overlay(self) -> None:
        """Mount an overlay and remove a directory of its lower layer, which writes a whiteout."""
        lower, upper, work, root = (f"{self.directory}/{name}" for name in ("lower", "upper", "work", "root"))
        for path in (lower, upper, work, root, f"{lower}/gone", f"{lower}/kept"):
            os.mkdir(path, 0o755)
        found = Root()
        Overlay((lower,), upper, work, root).execute(found)
        os.rmdir("gone", dir_fd=_readable(found.fd))
        if not stat.S_ISCHR(os.lstat(f"{upper}/gone").st_mode):
            raise OSError("overlay did not make a whiteout")


def _readable(fd: int) -> int:
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)


def _proc() -> None:
    """Mount a new /proc from a child: only a child is in the new pid namespace."""
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
    """Run a trial in a child with new namespaces, which end with the child; return "" or the error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        problem = ""
        try:
            linux.unshare(namespaces)
            trial()
        except (OSError, OperationRefused) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error) or "refused"
        os.write(writer, problem.encode("utf-8", "backslashreplace")[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        problem = pipe.read().decode()
    os.waitpid(pid, 0)
    return problem
