"""Runs commands of pybuild side by side on one store, in every order of their steps.

A step of a command is what it does between two of its points (tests/support/stopping.py). Only one process runs at a time,
so a *schedule*, the list of which process goes on, decides everything. Whoever is about to begin a transaction while
another process is inside one waits for it, as SQLite would make it wait.

`explore` is a search over schedules. Two schedules after which the store is the same, and each process is at the same
point and has read the same, can only go on in the same ways. So the search goes on from one of them. This makes all orders
of two commands affordable: most steps commute. Schedules with fewer switches between processes come first, because most
faults need few of them.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib
import itertools
import os
import pkgutil
import shutil
import signal
import socket
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.stopping import Stop, run_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

for _name in ("commands", "options", "progress", "builder", "store"):
    # Forked processes find these imported. Without this, imports would be nearly all of what they do.
    for _module in pkgutil.walk_packages(importlib.import_module(f"pybuild.{_name}").__path__, f"pybuild.{_name}."):
        importlib.import_module(_module.name)

_PATIENCE = 60.0  # seconds until a process that neither stops nor ends is a failure
_DIRECTORIES = ("blobs/sha256", "tocs", "trees", "cachemounts", "ingest")


@dataclass(frozen=True)
class Ended:
    """The end of a command."""

    status: int
    output: str  # standard output and standard error


@dataclass
class Outcome:
    """What a schedule led to: an end for each command."""

    ended: tuple[Ended, ...]
    trace: tuple[str, ...]  # "process:point" for each step

    def __str__(self) -> str:
        return "\n".join([" ".join(self.trace), *(f"--- {end.status}\n{end.output}" for end in self.ended)])


@dataclass
class Explored:
    """The size of a search."""

    schedules: int = 0
    states: int = 0
    outcomes: int = 0
    complete: bool = False


class _Process:
    """A command in a forked process."""

    def __init__(self, number: int, root: Path, arguments: Sequence[str], output: Path) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            here.close()
            run_here(number, str(root), list(arguments), output, there)
        there.close()
        here.settimeout(_PATIENCE)
        self._control = here
        self._output = output
        self.ended: Ended | None = None
        self.stop = Stop("start", False, "")
        self._hear()

    def go_on(self) -> None:
        """Let it run to its next point, or to its end."""
        self._control.send(b"g")
        self._hear()

    def _hear(self) -> None:
        message = self._control.recv(4096)
        if message:
            point, in_transaction, read = message.decode().rsplit(" ", 2)
            self.stop = Stop(point, in_transaction == "1", read)
            return
        _, status = os.waitpid(self.pid, 0)
        self.ended = Ended(os.waitstatus_to_exitcode(status), self._output.read_text())
        self.stop = Stop("ended", False, repr(self.ended))

    def close(self) -> None:
        self._control.close()
        if self.ended is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@dataclass
class Interleaving:
    """Commands that run side by side on copies of the store `seed`, in a directory for scratch."""

    seed: Path
    commands: Sequence[Sequence[str]]
    scratch: Path
    explored: Explored = field(default_factory=Explored)

    @property
    def root(self) -> Path:
        """The store that the commands work on."""
        return self.scratch / "store"

    def explore(self, most: int | None = None) -> Iterator[Outcome]:
        """Yield an outcome for each state of the store that a schedule ends in; at most `most` schedules are tried."""
        pending: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]  # switches, order, schedule
        seen: set[str] = set()
        pushed = 0
        while pending and (most is None or self.explored.schedules < most):
            _, _, schedule = heapq.heappop(pending)
            self.explored.schedules += 1
            outcome, branches = self._run(schedule, seen)
            for branch in branches:
                pushed += 1
                heapq.heappush(pending, (_switches(branch), pushed, branch))
            if outcome is not None:
                self.explored.outcomes += 1
                yield outcome
        self.explored.states = len(seen)
        self.explored.complete = not pending

    def _run(self, schedule: tuple[int, ...], seen: set[str]) -> tuple[Outcome | None, list[tuple[int, ...]]]:
        """Follow a schedule, then go on without switches. Returns the outcome, unless it leads to a state that is known,
        and the schedules that branch off on the way."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.seed, self.root, symlinks=True)
        processes: list[_Process] = []
        branches: list[tuple[int, ...]] = []
        trace: list[str] = []
        taken: list[int] = []
        try:
            for number, arguments in enumerate(self.commands):
                processes.append(_Process(number, self.root, arguments, self.scratch / f"output{number}"))
            while ready := [number for number, process in enumerate(processes) if _is_ready(process, processes)]:
                if len(taken) < len(schedule):
                    choice = schedule[len(taken)]
                    assert choice in ready, (schedule, trace)
                else:
                    if len(ready) > 1 or len(taken) == len(schedule):
                        state = self._state(processes)
                        if state in seen:
                            return None, branches
                        seen.add(state)
                    choice = taken[-1] if taken and taken[-1] in ready else ready[0]
                    branches += [(*taken, other) for other in ready if other != choice]
                trace.append(f"{choice}:{processes[choice].stop.point}")
                taken.append(choice)
                processes[choice].go_on()
            ends = tuple(process.ended for process in processes if process.ended is not None)
            assert len(ends) == len(processes), f"all wait for each other: {trace}"
            state = self._state(processes)
            if state in seen:
                return None, branches
            seen.add(state)
            return Outcome(ends, tuple(trace)), branches
        finally:
            for process in processes:
                process.close()

    def _state(self, processes: Sequence[_Process]) -> str:
        """A digest of everything that decides what can happen next."""
        state = hashlib.sha256(repr([process.stop for process in processes]).encode())
        for directory in _DIRECTORIES:
            path = self.root / directory
            state.update(repr(sorted(os.listdir(path)) if path.exists() else None).encode())
        if (self.root / "metadata.db").exists():
            with closing(sqlite3.connect(self.root / "metadata.db", timeout=0.0)) as db:
                for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
                    state.update(repr(db.execute(f"SELECT * FROM {table}").fetchall()).encode())
        return state.hexdigest()


def run_alone(number: int, root: Path, arguments: Sequence[str], output: Path) -> Ended:
    """Run a command without stops, in a forked process."""
    pid = os.fork()
    if pid == 0:
        run_here(number, str(root), list(arguments), output, None)
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), output.read_text())


def _is_ready(process: _Process, processes: Sequence[_Process]) -> bool:
    if process.ended is not None:
        return False
    others = (other for other in processes if other is not process)
    return process.stop.point != "begin" or not any(other.stop.in_transaction for other in others)


def _switches(schedule: tuple[int, ...]) -> int:
    return sum(one != other for one, other in itertools.pairwise(schedule))
