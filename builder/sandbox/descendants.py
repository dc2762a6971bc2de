"""Ending everything that descends from this process, where no pid namespace does that.

This process has to be a subreaper (PR_SET_CHILD_SUBREAPER): then what its descendants leave behind becomes its child, so no
process gets away, however often it forks and whatever session it makes. A process is known by its number and the time of its
start, because the kernel uses numbers again.
"""

from __future__ import annotations

import errno
import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_START = 19  # the field of the time of start in /proc/PID/stat, counted from the state, the first one after the name
_WAIT = 100  # milliseconds for the end of a killed process


def end_descendants(spare: Collection[int] = ()) -> None:
    """Kill all descendants but the children `spare`, and what descends from these; wait until none is left. Raises OSError."""
    stopped: set[tuple[int, int]] = set()
    while True:
        _reap(spare)
        found = _descendants(spare)
        if not found:
            return
        new = found - stopped
        # First all are stopped, until there are no new ones: otherwise one could fork while the others are killed.
        for process in new:
            _send(process, signal.SIGSTOP)
        stopped |= new
        if not new:
            for process in found:
                _kill(process)


def _descendants(spare: Collection[int]) -> set[tuple[int, int]]:
    """The processes below this one: number and time of start."""
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (status := _status(int(name))) is not None:
            parent, start, ended = status
            if not ended:
                children.setdefault(parent, []).append((int(name), start))
            elif parent != os.getpid():  # its children are ours by now
                children.setdefault(parent, [])
    found: set[tuple[int, int]] = set()
    pending = [os.getpid()]
    while pending:
        for process in children.get(pending.pop(), ()):
            if process[0] not in spare and process not in found:
                found.add(process)
                pending.append(process[0])
    return found


def _status(pid: int) -> tuple[int, int, bool] | None:
    """The parent, the time of start in ticks, and whether the process has ended; proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), int(fields[_START]), fields[0] in (b"Z", b"X")


def _send(process: tuple[int, int], number: int) -> int:
    """Send a signal to this very process. Returns a pidfd of it, -1 if it has ended."""
    pid, start = process
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    status = _status(pid)
    if status is None or status[1] != start:
        os.close(pidfd)
        return -1
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        _send_as_owner(pid, number)
    if number == signal.SIGKILL:
        return pidfd
    os.close(pidfd)
    return -1


def _kill(process: tuple[int, int]) -> None:
    pidfd = _send(process, signal.SIGKILL)
    if pidfd >= 0:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_WAIT)
        os.close(pidfd)


def _send_as_owner(pid: int, number: int) -> None:
    """Without CAP_KILL a signal needs the same user; kill(2)."""
    owner = os.stat(f"/proc/{pid}").st_uid
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(owner, owner, owner)
            os.kill(pid, number)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _reap(spare: Collection[int]) -> None:
    """Wait for children that have ended, except for `spare`, which others wait for."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in spare:
            return
        try:
            os.waitpid(ended.si_pid, 0)
        except OSError as error:
            if error.errno != errno.ECHILD:
                raise
