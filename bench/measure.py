"""One command: how long it takes, what it costs, and the most memory that its whole process tree holds.

Memory is the sum of the proportional set sizes (`Pss` of /proc/PID/smaps_rollup: a page shared by three processes
counts a third in each) of all descendants, looked at every few milliseconds. Looking takes time of its own, so a run
that is looked at is never one that is timed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.row import Contender

_INTERVAL = 0.01  # seconds between two looks
_PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A command of a workload did not succeed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run."""

    seconds: float
    cpu: float  # seconds of all processes that were waited for, user and system


def adopt_orphans() -> None:
    """Make processes whose parents end ours, so that a tree stays whole however it forks (PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def timed(contender: Contender) -> Sample:
    """Run it once and time it. What others left to be written is on the disk before it starts."""
    contender.before()
    os.sync()
    before, start = os.times(), time.perf_counter()
    _run(contender)
    seconds, after = time.perf_counter() - start, os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Sample(seconds, cpu)


def peak_memory(contender: Contender) -> int:
    """Run it once more and return the most bytes its processes held together, its daemons' included."""
    contender.before()
    with _Watch(contender.daemons) as watch:
        _run(contender)
    return watch.peak


def _run(contender: Contender) -> None:
    done = subprocess.run(
        contender.command,
        env={**clean_environment(), **contender.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        said = "\n".join(done.stderr.decode("utf-8", "replace").splitlines()[-15:])
        raise Failed(f"{contender.name}: status {done.returncode}: {' '.join(contender.command)}\n{said}")


def clean_environment() -> dict[str, str]:
    """What every command gets, whoever runs the benchmark."""
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
    return {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", **kept}


class _Watch:
    """Looks at the processes below this one that started since, and at some daemons, until told to stop."""

    def __init__(self, daemons: tuple[int, ...]) -> None:
        self._others = set(_children(os.getpid())) - set(daemons)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak = 0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(_INTERVAL):
            roots = [pid for pid in _children(os.getpid()) if pid not in self._others]
            self.peak = max(self.peak, memory_of_trees(roots))


def memory_of_trees(roots: list[int]) -> int:
    """The bytes that some processes and all their descendants hold now."""
    pending, held = list(roots), 0
    while pending:
        pid = pending.pop()
        held += _held(pid)
        pending += _children(pid)
    return held


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def _held(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
