"""The job that tries whether steps can run in overlays here: the kernel decides by the filesystem of the store.

The root of a container, which is an overlay, NFS and others cannot hold the upper directory of an overlay; some mount one and
cannot remove files in it, or cannot say that a directory hides another one. So the trial does what steps do.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.overlay import mount_overlay
from pybuild.builder.sandbox.root import OperationRefused
from pybuild.store.layers.tree_files import OPAQUE
from pybuild.store.system.directories import opened_directory, remove_tree
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

# What says nothing about the filesystem. Then the step itself fails, and says so.
_PASSING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR))


@frozen
class OverlayTried:
    """Why steps cannot run in overlays; "" if they can."""

    obstacle: str


@frozen
class TryOverlay:
    """Try to mount an overlay and to change files in it. `directory` is an unused path on the store's filesystem."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> OverlayTried:
        above, name = os.path.split(self.directory)
        os.mkdir(self.directory, 0o700)
        try:
            return OverlayTried(in_child(lambda: _change_in_overlay(self.directory), linux.CLONE_NEWNS))
        finally:
            with opened_directory(above) as fd:
                remove_tree(fd, name)


def _change_in_overlay(directory: str) -> None:
    """Remove a file and a directory of the lower layer, which writes whiteouts, and make the directory anew."""
    lower, upper, work, root = (f"{directory}/{name}" for name in ("lower", "upper", "work", "root"))
    for path in (lower, upper, work, root, f"{lower}/gone", f"{lower}/anew"):
        os.mkdir(path, 0o755)
    found = mount_overlay([lower], (upper, work), root)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
    os.rmdir("gone", dir_fd=fd)
    os.rmdir("anew", dir_fd=fd)
    os.mkdir("anew", dir_fd=fd)
    if not stat.S_ISCHR(os.lstat(f"{upper}/gone").st_mode):
        raise OperationRefused("an overlay made no whiteout")
    if os.getxattr(f"{upper}/anew", OPAQUE) != b"y":
        raise OperationRefused("an overlay did not hide a directory")


def in_child(trial: Callable[[], None], namespaces: int) -> str:
    """Run a trial in a child with new namespaces, which end with the child; return "" or the error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(namespaces)
            trial()
        except (OSError, OperationRefused) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error) or "refused"
            if isinstance(error, OSError) and error.errno in _PASSING:
                problem = ""
            os.write(writer, problem.encode("utf-8", "backslashreplace")[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        problem = pipe.read().decode()
    os.waitpid(pid, 0)
    return problem
