"""Ending everything that descends from this process, where no pid namespace does that.

This process has to be a subreaper (PR_SET_CHILD_SUBREAPER): then what its descendants leave behind becomes its child, so /proc
shows all of them below it, however often they fork and whatever sessions they make.

All are stopped before the first one is killed. A process that is stopped makes no others and keeps its place under each limit of
processes. So also those that fork without end run out of places, which killing them one after the other would make free. Killed
are the deepest ones first: the kernel continues a stopped process group when the last parent outside of it ends (setpgid(2)).
"""

from __future__ import annotations

import errno
import os
import select
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    # The number of a process, and when it has started (clock ticks since the boot): together they are not used again.
    _Process = tuple[int, int]

_PARENT, _START = 1, 19  # fields of /proc/PID/stat, counted from the state, the first one after the name
_MOMENT = 0.001  # seconds
_SECONDS = 60.0  # processes that write a core dump or much memory to a disk take some of them
_NO_PIDFD = (errno.ENOSYS, errno.EPERM)  # an old kernel or gVisor, and an old seccomp filter


def end_descendants() -> None:
    """Kill all descendants, and wait until none is left. Raises OSError, ETIMEDOUT if some are left after a minute."""
    end = os.times().elapsed + _SECONDS
    held: set[int] = set()
    before: list[_Process] = []
    while _reap(held):
        found = _stop_all(held, end)
        for process in reversed(found):
            _send(process, signal.SIGKILL)
        if found == before:  # they are killed, and the kernel has not ended them yet
            select.select([], [], [], _MOMENT)
        before = found


def _reap(held: set[int]) -> bool:
    """Wait for the children that have ended, and remove them from `held`. False if there are no others."""
    with suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            held.discard(pid)
        return True
    return False


def _stop_all(held: set[int], end: float) -> list[_Process]:
    """Stop all descendants until no new ones appear. Returns them, each after its parent.

    `held` are the children that were stopped before; they keep their numbers until this process waits for them.
    """
    stopped: set[_Process] = set()
    while True:
        found, new = [], False
        # What makes one process and ends, again and again, would be gone before all of /proc is read: children come first.
        while _reap(held) and (fresh := [pid for pid in _children() if pid not in held]):
            for pid in fresh:
                _deliver(pid, -1, signal.SIGSTOP)
            held.update(fresh)
            new = True
            _check_time(end)
        for process in _descendants():
            found.append(process)
            if process not in stopped:
                _send(process, signal.SIGSTOP)  # at once: later it would have made more of them
                stopped.add(process)
                new = True
            _check_time(end)
        _check_time(end)
        if not new:
            return found


def _check_time(end: float) -> None:
    if os.times().elapsed > end:
        raise OSError(errno.ETIMEDOUT, f"some of its processes are left after {_SECONDS:.0f} s")


def _children() -> list[int]:
    """The children of this process, which has one thread."""
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


def _descendants() -> Iterator[_Process]:
    """The descendants of this process, each after its parent, while /proc is read."""
    own = os.getpid()
    known = {own}
    early: dict[int, list[_Process]] = {}  # by a parent that was not read yet
    for name in os.listdir("/proc"):
        if not name.isdigit() or (read := _read(int(name))) is None:
            continue
        parent, process = read
        if parent not in known:
            early.setdefault(parent, []).append(process)
            continue
        queue = [process]
        while queue:
            process = queue.pop()
            known.add(process[0])
            yield process
            queue += early.pop(process[0], ())


def _read(pid: int) -> tuple[int, _Process] | None:
    """The parent of a process, and the process; None if it is gone. proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[_PARENT]), (pid, int(fields[_START]))


def _send(process: _Process, number: signal.Signals) -> None:
    """Send a signal to this process, not to another one that has got its number meanwhile."""
    pid = process[0]
    with suppress(ProcessLookupError):
        try:
            fd = os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in _NO_PIDFD:
                raise
            fd = -1
        try:
            read = _read(pid)
            if read is not None and read[1] == process:
                _deliver(pid, fd, number)
        finally:
            if fd >= 0:
                os.close(fd)


def _deliver(pid: int, fd: int, number: signal.Signals) -> None:
    try:
        _signal(pid, fd, number)
    except PermissionError:
        _signal_as_owner(pid, fd, number)


def _signal(pid: int, fd: int, number: signal.Signals) -> None:
    if fd >= 0:
        signal.pidfd_send_signal(fd, number)
    else:
        os.kill(pid, number)


def _signal_as_owner(pid: int, fd: int, number: signal.Signals) -> None:
    """Without CAP_KILL a signal needs the same user; kill(2). No process is made: there can be no place for one.

    The real and the saved user stay: processes of that user can do nothing to this one, and it can go back.
    """
    own = os.geteuid()
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return
    os.setresuid(-1, owner, -1)
    try:
        with suppress(PermissionError):  # it has changed its user meanwhile: the next round finds it again
            _signal(pid, fd, number)
    finally:
        os.setresuid(-1, own, -1)
