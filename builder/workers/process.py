"""Starting worker processes: fork and exec of a bare interpreter, connected by a socket pair.

The interpreter runs as `python -SI`: it ignores the machine's site packages, the environment and the working directory.
It can import from the directory that holds the package pybuild; job workers can also import from the directories where
the main process found its libraries.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from pybuild.builder.sandbox.frames import Channel
from pybuild.values import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE = "import sys; sys.path[:0] = {paths!r}; from {module} import main; main({arguments})"
_GRACE_SECONDS = 5.0
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
        """Start `module`.main(socket descriptor, *pass_fds)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            numbers = (theirs.fileno(), *pass_fds)
            code = _CODE.format(paths=list(paths), module=module, arguments=", ".join(map(str, numbers)))
            # A worker in a session of its own does not get the SIGINT of Ctrl-C: the main process ends its workers.
            self._process = subprocess.Popen(
                [sys.executable, "-SI", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None,
                pass_fds=numbers,
                start_new_session=True,
                cwd="/",
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath, **_MALLOC, **limits.to_environment()},
            )
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        return self._process.pid

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
