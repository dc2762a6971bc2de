"""Measures the time, cpu time and peak memory of one command and all its processes.

Memory is the sum of the proportional set sizes (`Pss` in /proc/PID/smaps_rollup: a page shared by three processes
counts one third in each) of all descendants, sampled every few milliseconds. Sampling takes time, so no run is both
sampled and timed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.exchanges import Moved
    from bench.row import Contender, Meter

_INTERVAL = 0.01  # seconds between two samples of memory
_PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A command of a workload did not succeed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run."""

    seconds: float
    cpu: float  # seconds, user and system, of all processes that were waited for
    moved: Moved | None = None  # over the network; None if that is not counted


def adopt_orphans() -> None:
    """Become the parent of orphans (PR_SET_CHILD_SUBREAPER), so that every process stays in the tree."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def timed(contender: Contender, traffic: Meter | None = None) -> Sample:
    """Run a contender once and time it. Dirty pages of earlier runs are written before it starts."""
    contender.before()
    os.sync()
    if traffic is not None:
        traffic.reset(contender.name)
    before, start = _cpu_of_children(), time.perf_counter()
    _run(contender)
    seconds, cpu = time.perf_counter() - start, _cpu_of_children() - before
    return Sample(seconds, cpu, None if traffic is None else traffic.read())


def _cpu_of_children() -> float:
    """Seconds, user and system, of the processes that were waited for. times(2) would count in steps of 10 ms."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_memory(contender: Contender) -> int:
    """Run a contender once and return the peak memory (bytes) of all its processes, daemons included."""
    contender.before()
    with _MemorySampler(contender.daemons) as sampler:
        _run(contender)
    return sampler.peak


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
    """The environment of every command: it does not depend on the user's."""
    passed_on = {name: os.environ[name] for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
    return {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", **passed_on}


class _MemorySampler:
    """Samples the memory of child processes that start after it, and of some daemons, while it is open."""

    def __init__(self, daemons: tuple[int, ...]) -> None:
        self._others = set(_children(os.getpid())) - set(daemons)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak = 0

    def __enter__(self) -> _MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_INTERVAL):
            roots = [pid for pid in _children(os.getpid()) if pid not in self._others]
            self.peak = max(self.peak, memory_of_trees(roots))


def memory_of_trees(roots: list[int]) -> int:
    """The current memory (bytes) of some processes and all their descendants."""
    pending, total = list(roots), 0
    while pending:
        pid = pending.pop()
        total += _memory_of(pid)
        pending += _children(pid)
    return total


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def _memory_of(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
