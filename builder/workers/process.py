"""Starting worker processes: fork and exec of a bare interpreter, connected by a socket pair.

The interpreter runs as `python -SI`: no site packages of the machine, nothing from the environment or the working
directory. What it may import is the directory that holds our own packages, and for job workers the places where the
main process found its libraries.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from pybuild.builder.sandbox.frames import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE = "import sys; sys.path[:0] = {paths!r}; from {module} import main; main({arguments})"
_GRACE_SECONDS = 5.0
# mallopt(3): blocks of a MiB come from memory that stays, and not each from pages that the kernel has to clear anew,
# which takes a tenth of the time of a large layer. Other C libraries than glibc do not look at these.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


def packages_directory() -> str:
    """The directory (or zip archive) that holds the package pybuild, as an entry for sys.path.

    It is found from the name of this module and not by resolving links: in a checkout pybuild/builder is one.
    """
    return os.path.abspath(os.path.join(__file__, *[os.pardir] * len(__name__.split("."))))


class WorkerProcess:
    """A worker and the connection to it. Closing the connection is the order to kill all and end."""

    def __init__(self, module: str, *, paths: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        """Start `module`.main(socket descriptor, *pass_fds)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            numbers = (theirs.fileno(), *pass_fds)
            code = _CODE.format(paths=list(paths), module=module, arguments=", ".join(map(str, numbers)))
            # A session of its own: Ctrl-C on the terminal is for the main process, which tells its workers.
            self._process = subprocess.Popen(
                [sys.executable, "-SI", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None,
                pass_fds=numbers,
                start_new_session=True,
                cwd="/",
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath, **_MALLOC},
            )
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End a worker in the middle of whatever it does. One that runs a program ends that first. Idempotent."""
        self.channel.close()
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the worker and wait for it: afterwards nothing that it started is left. Idempotent."""
        self.channel.close()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
