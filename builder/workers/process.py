"""Starting worker processes: fork and exec of a bare interpreter, connected by a socket pair.

The interpreter runs as `python -SI`: it ignores the machine's site packages, the environment and the working directory.
It can import from the directory that holds the package pybuild; job workers can also import from the directories where
the main process found its libraries.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.sandbox import container_root
from pybuild.builder.sandbox.frames import Channel
from pybuild.values import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

# A process inherits blocked and ignored signals, and pybuild can be called by a program that blocks all of them. Workers
# need SIGTERM and SIGCHLD. They ignore SIGINT, which can be sent to a whole tree of processes: the main process ends them.
_CODE = (
    "import signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, ()); signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.signal(signal.SIGCHLD, signal.SIG_DFL); "
    "sys.path[:0] = {paths!r}; {enter}from {module} import main; main({arguments})"
)
_ENTER = "from pybuild.builder.sandbox.container_root import entered; entered(); "
_FIRST_FREE = 3  # the caller can have closed its standard streams, and Popen opens those of the worker
_GRACE_SECONDS = 5.0
_MOMENT_SECONDS = 0.5  # the kernel closes the files of a process a little before it has ended
# mallopt(3): with these glibc reuses freed blocks of a MiB. Otherwise the kernel clears new pages for each block, which
# takes a tenth of the time of a large layer. Other C libraries ignore these variables.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


def packages_directory() -> str:
    """The directory (or zip archive) that holds the package pybuild, as an entry for sys.path.

    It is as many levels up as this module's name has parts. Links are not resolved: in a checkout pybuild/builder is a
    link.
    """
    return os.path.abspath(os.path.join(__file__, *[os.pardir] * len(__name__.split("."))))


class WorkerProcess:
    """A worker and the connection to it. A worker whose connection is closed kills what it has started, and ends."""

    def __init__(self, module: str, *, paths: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        """Start `module`.main(socket descriptor, *pass_fds). Raises BuildError if the machine has no process for it."""
        try:
            self._start(module, paths, pass_fds)
        except OSError as error:
            raise BuildError(
                f"cannot start a worker process: {error.strerror}",
                hint="the machine, a cgroup or a limit of the user allows no more processes or open files",
            ) from error

    def _start(self, module: str, paths: Sequence[str], pass_fds: Sequence[int]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, ExitStack() as stack, ExitStack() as on_failure:
            on_failure.callback(ours.close)
            numbers = []
            for fd in (theirs.fileno(), *pass_fds):
                numbers.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE))
                stack.callback(os.close, numbers[-1])
            enter = _ENTER if container_root.entered() else ""
            code = _CODE.format(paths=list(paths), enter=enter, module=module, arguments=", ".join(map(str, numbers)))
            # A worker in a session of its own does not get the SIGINT of Ctrl-C: the main process ends its workers.
            self._process = subprocess.Popen(
                [container_root.PYTHON if enter else sys.executable, "-SI", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None,
                pass_fds=numbers,
                start_new_session=True,
                cwd="/",
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath, **_MALLOC, **limits.to_environment()},
            )
            on_failure.pop_all()
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether the worker has ended; asked after something that only its end explains, so it waits for a moment."""
        try:
            self._process.wait(_MOMENT_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Terminate the worker, whatever it is doing. If it runs a program, it ends that first. Idempotent."""
        self.channel.close()
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the worker and everything that it has started, and wait until they have ended. Idempotent."""
        self.channel.close()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
