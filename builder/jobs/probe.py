"""The job that tries, inside the namespace of the steps, what a RUN needs: an overlay and a new /proc.

Settings of the kernel do not say whether these work: containers, security modules and filesystems also restrict them.
So the job makes the same system calls as a step, in a directory of the store.
"""

from __future__ import annotations

import os
from typing import ClassVar

from pybuild.builder.jobs.overlay_trial import TryOverlay, in_child
from pybuild.builder.sandbox import linux
from pybuild.values import frozen

_PROC = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC


@frozen
class Probed:
    """The result of each trial: "" if it worked, else the error."""

    overlay: str
    proc: str
    cgroup: str


@frozen
class Probe:
    """Try overlay, /proc and cgroup namespaces. `directory` is an unused path on the store's filesystem."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> Probed:
        return Probed(
            TryOverlay(self.directory).run().obstacle,
            in_child(_proc, linux.CLONE_NEWNS | linux.CLONE_NEWPID),
            in_child(lambda: None, linux.CLONE_NEWCGROUP),
        )


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
