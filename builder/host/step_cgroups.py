"""The limits of a whole step: a cgroup for each RUN, below the one that pybuild was started in.

In version 2 a cgroup that has processes cannot limit the cgroups below it. If pybuild is the only process of its
cgroup, it moves into a new cgroup beside those of its steps, and back at the end. The memory limit includes swap.

Source: the kernel's cgroup-v2.rst ("No Internal Process Constraint", "Interface Files" of memory, cpu and pids),
cgroup-v1/memory.rst, scheduler/sched-bwc.rst, cgroup-v1/pids.rst.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.errors import BuildError, StepFailed
from pybuild.builder.host.cgroupfs import UNIFIED, Cgroup, CgroupPlace, own_cgroups, read_words, remove_abandoned, write
from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.builder.limits import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.limits import StepLimits

_PERIOD = 100_000  # microseconds
_OWN_PROCESSES = 2  # pybuild's own processes in a step: its keeper and its process 1


class StepCgroup:
    """The cgroups of one step, one in each hierarchy that limits it."""

    def __init__(self, limits: StepLimits, cgroups: Sequence[Cgroup]) -> None:
        self._limits = limits
        self._cgroups = cgroups

    @property
    def directories(self) -> tuple[str, ...]:
        """The cgroups that the step has to enter."""
        return tuple(cgroup.path for cgroup in self._cgroups)

    @property
    def out_of_memory(self) -> str | None:
        """What to report if the kernel killed a process of the step for lack of memory; None if it did not."""
        if not self._count("memory.oom_control", "oom_kill") and not self._count("memory.events", "oom_kill"):
            return None
        return f"killed: out of memory, limit {_shown(self._limits.memory or 0)}"

    def explain(self, error: BuildError) -> BuildError:
        """The step's error, with the limit that caused it, if one did."""
        killed = self.out_of_memory
        if killed is not None:
            if not isinstance(error, StepFailed):
                return StepFailed(f"RUN was {killed}", 137)  # process 1 of the step, or its keeper
            if error.status == 137:
                return StepFailed(f"RUN was {killed}", error.status, hint=error.hint)
            return StepFailed(f"{error}, and a process of it was {killed}", error.status, hint=error.hint)
        if self._count("pids.events", "max"):
            return error.hinting(f"it tried to start more than {self._limits.pids} processes, the limit (--pids-limit)")
        return error

    def _count(self, file: str, key: str) -> int:
        return sum(cgroup.count(file, key) for cgroup in self._cgroups)


class Cgroups:
    """A context manager for one build. Enter it before the build starts a process; leave it after all have ended."""

    def __init__(self, limits: StepLimits) -> None:
        self._limits = limits
        self._by_directory: dict[str, list[tuple[Controller, CgroupPlace]]] = {}
        self._own: Cgroup | None = None  # version 2: the cgroup that this process has moved into
        self._home = ""  # version 2: the cgroup that it came from
        self._enabled: list[str] = []  # version 2: controllers that were enabled in it

    def __enter__(self) -> Cgroups:
        """Raises BuildError if a limit cannot be set."""
        found = own_cgroups()
        remove_abandoned(found)
        unified = []
        for controller in self._limits.controllers:
            place = found.get(controller.value) or found.get(UNIFIED)
            if place is None:
                raise _lacking(controller, "its cgroups are not mounted here")
            if place.version == 2:
                unified.append(controller)
            self._by_directory.setdefault(place.directory, []).append((controller, place))
        try:
            if unified:
                self._enable(found[UNIFIED].directory, unified)
            with self.step():
                pass  # a trial, which raises BuildError if a limit cannot be set
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @contextmanager
    def step(self, extra_processes: int = 0) -> Iterator[StepCgroup]:
        """Make the cgroups of a step. `extra_processes` is added to its limit of processes. Raises BuildError."""
        with ExitStack() as stack:
            made = []
            for directory, controllers in self._by_directory.items():
                names = ", ".join(controller.option for controller, _ in controllers)
                try:
                    cgroup = Cgroup(directory)
                    stack.callback(cgroup.remove)
                    for controller, place in controllers:
                        self._limit(cgroup, controller, place.version, extra_processes)
                except OSError as error:
                    raise BuildError(
                        f"{names}: cannot make a cgroup in {directory}: {error.strerror}", hint=_fix(controllers[0][1])
                    ) from error
                made.append(cgroup)
            yield StepCgroup(self._limits, made)

    def _limit(self, cgroup: Cgroup, controller: Controller, version: int, extra_processes: int) -> None:
        limits = self._limits
        match controller:
            case Controller.MEMORY:
                cgroup.write("memory.limit_in_bytes" if version == 1 else "memory.max", str(limits.memory))
                swap = ("memory.memsw.limit_in_bytes", str(limits.memory)) if version == 1 else ("memory.swap.max", "0")
                if os.path.exists(f"{cgroup.path}/{swap[0]}"):  # missing if this kernel does not account for swap
                    cgroup.write(*swap)
            case Controller.CPU:
                quota = round((limits.cpus or 0) * _PERIOD)
                if version == 1:
                    cgroup.write("cpu.cfs_period_us", str(_PERIOD))
                    cgroup.write("cpu.cfs_quota_us", str(quota))
                else:
                    cgroup.write("cpu.max", f"{quota} {_PERIOD}")
            case Controller.PIDS:
                cgroup.write("pids.max", str((limits.pids or 0) + _OWN_PROCESSES + extra_processes))
            case _:
                assert_never(controller)

    def _enable(self, home: str, controllers: Sequence[Controller]) -> None:
        """Version 2: let the cgroups below `home`, the cgroup of this process, use these controllers."""
        try:
            available = read_words(f"{home}/cgroup.controllers")
            for controller in controllers:
                if controller.value not in available:
                    listed = ", ".join(available) or "none"
                    raise _lacking(controller, f"the cgroup {home} does not have it (it has {listed})", delegated=True)
            enabled = read_words(f"{home}/cgroup.subtree_control")
            wanted = [controller.value for controller in controllers if controller.value not in enabled]
            if wanted:
                self._enable_in(home, wanted)
        except OSError as error:
            names = ", ".join(controller.option for controller in controllers)
            reason = "other processes are in it" if error.errno == errno.EBUSY else error.strerror
            raise BuildError(
                f"{names}: cannot divide the cgroup {home}: {reason}", hint=_fix(CgroupPlace(home, 2))
            ) from error

    def _enable_in(self, home: str, controllers: list[str]) -> None:
        text = " ".join(f"+{name}" for name in controllers)
        try:
            write(f"{home}/cgroup.subtree_control", text)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._own, self._home = Cgroup(home), home
            self._own.write("cgroup.procs", "0")
            write(f"{home}/cgroup.subtree_control", text)
            self._enabled = controllers

    def _leave(self) -> None:
        """Move this process back to its first cgroup. If the kernel refuses, a later build removes the new one."""
        if self._own is None:
            return
        own, self._own = self._own, None
        try:
            if self._enabled:
                write(f"{self._home}/cgroup.subtree_control", " ".join(f"-{name}" for name in self._enabled))
            write(f"{self._home}/cgroup.procs", "0")
        except OSError:
            return
        own.remove()


def _lacking(controller: Controller, why: str, *, delegated: bool = False) -> BuildError:
    return BuildError(
        f"{controller.option} needs the cgroup controller {controller.value}: {why}",
        hint=_fix(CgroupPlace("", 2)) if delegated else SEE_DOCTOR,
    )


def _fix(place: CgroupPlace) -> str:
    if place.version == 1:
        return f"start pybuild as root, or in a cgroup that its user owns; {SEE_DOCTOR}"
    user = "" if os.geteuid() == 0 else "--user "
    return f"with systemd: systemd-run {user}--scope -p Delegate=yes pybuild ...; {SEE_DOCTOR}"


def _shown(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
