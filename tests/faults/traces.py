"""What commands leave on the machine after their end: processes, mounts, cgroups, files outside of their store.

While a `Machine` is entered, this process adopts each orphan below it (prctl(2), PR_SET_CHILD_SUBREAPER), so a process
whose parent was killed is found wherever it is.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.cgroups import Parents
from tests.support.processes import PATIENCE, descendants, mounts_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cli import Pybuild
    from tests.support.processes import Process

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def _adopt(orphans: bool) -> None:
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Machine:
    """The machine before some commands; `left` tells what they have added to it. `place` has all of their files."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._parents = Parents(0)

    def __enter__(self) -> Self:
        _adopt(orphans=True)
        self._known = {process.pid for process in _closed(descendants(os.getpid()))}
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._ours():
            os.kill(process.pid, 9)
        self._wait_for_processes()
        _adopt(orphans=False)
        self._parents.close()

    def entered(self, pybuild: Pybuild) -> Pybuild:
        """The same command, in cgroups that only this machine's commands are in."""
        return self._parents.entered(pybuild)

    def left(self) -> Iterator[str]:
        """What is there that was not there before. A killed process needs some time to end; nothing else is waited for."""
        yield from (f"process {process.command or process.pid}" for process in self._wait_for_processes())
        yield from (f"mount {line}" for line in mounts_below(self._place))

    def cgroups_left(self) -> Iterator[str]:
        """The cgroups that are left. Those of a killed build are there until another build makes a step."""
        yield from (f"cgroup {path}" for path in sorted(self._parents.ours()))

    def _ours(self) -> list[Process]:
        return _closed([process for process in descendants(os.getpid()) if process.pid not in self._known])

    def _wait_for_processes(self) -> list[Process]:
        """Wait until none is left; return those that do not end."""
        deadline = time.monotonic() + PATIENCE
        while found := self._ours():
            for process in found:
                _wait(process.pid, max(deadline - time.monotonic(), 0))
            if time.monotonic() > deadline:
                return found
        return []


def _closed(processes: list[Process]) -> list[Process]:
    for process in processes:
        os.close(process.fd)
    return processes


def _wait(pid: int, seconds: float) -> None:
    """Wait for the end of a process; take its status if it was orphaned and is a child of this process now."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if poll.poll(seconds * 1000):
            with suppress(ChildProcessError):  # the child of another process, which waits for it
                os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    finally:
        os.close(fd)
