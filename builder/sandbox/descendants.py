"""Ending everything that descends from this process, where no pid namespace does that.

This process has to be a subreaper (PR_SET_CHILD_SUBREAPER): then what its descendants leave behind becomes its child, so no
process gets away, however often it forks and whatever session it makes. Only children are killed, which keep their numbers until
this process waits for them; those of a killed one are children in the next round. A round takes less time than a fork and the
end of its parent, so chains of processes that do nothing else are caught too. A whole process group is killed at once.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

_PARENT = 1  # a field of /proc/PID/stat, counted from the state, the first one after the name

_MOMENT = 0.001  # seconds


def end_descendants() -> None:
    """Kill all descendants, and wait until none is left. Raises OSError."""
    before: list[int] = []
    while _reap():
        children = _children()
        for pid in children:
            _kill(pid)
        if children == before:  # they are killed, and the kernel has not ended them yet
            select.select([], [], [], _MOMENT)
        before = children


def _reap() -> bool:
    """Wait for the children that have ended. False if there are no others."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _children() -> list[int]:
    """The children of this process, which has one thread; those that have ended as well."""
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == own]


def _parent(pid: str) -> int:
    """The parent of a process, 0 if it is gone; proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[_PARENT])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _kill(pid: int) -> None:
    """Kill a child, and its process group if that is not ours: a step has a session, and so groups, of its own."""
    with suppress(ProcessLookupError):
        group = os.getpgid(pid)
        if group != os.getpgrp():
            with suppress(PermissionError):  # none of the group could be killed
                os.killpg(group, signal.SIGKILL)
        try:
            os.kill(pid, signal.SIGKILL)
        except PermissionError:
            _kill_as_owner(pid)


def _kill_as_owner(pid: int) -> None:
    """Without CAP_KILL a signal needs the same user; kill(2)."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(owner, owner, owner)
            os.kill(pid, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
