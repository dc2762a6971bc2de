"""Starting worker processes: fork and exec of a bare interpreter, connected by a socket pair.

The interpreter runs as `python -SI`: it ignores the machine's site packages, the environment and the working directory. It
can import from the directory that holds the package pybuild; job workers can also import from the directories where the
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
# mallopt(3): glibc keeps freed blocks of a MiB and reuses them. Otherwise the kernel clears new pages for each block, which
# takes a tenth of the time of a large layer. Other C libraries ignore these variables.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


def packages_directory() -> str:
    """The directory (or zip archive) that holds the package pybuild, as an entry for sys.path.

    The name of this module tells how far up it is. Links are not resolved: in a checkout pybuild/builder is a link.
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
            # In a session of its own the worker gets no Ctrl-C of the terminal: the main process ends its workers.
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
        """Terminate the worker, whatever it is doing. A worker that runs a program ends the program first. Idempotent."""
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
