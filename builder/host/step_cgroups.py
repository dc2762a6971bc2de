"""The limits of a whole step: a cgroup for each RUN, below the one that pybuild was started in.

In version 2 a cgroup with processes cannot have others below it that are limited; where pybuild is alone in its own, it goes
into one beside those of its steps, and comes back at the end. Memory includes swap: what is told is all there is.

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
_OWN = 2  # processes of a step that are ours: its keeper and its process 1


class StepCgroup:
    """The cgroups of one step, one in each hierarchy that is needed."""

    def __init__(self, limits: StepLimits, cgroups: Sequence[Cgroup]) -> None:
        self._limits = limits
        self._cgroups = cgroups

    @property
    def directories(self) -> tuple[str, ...]:
        """Where the step has to go."""
        return tuple(cgroup.path for cgroup in self._cgroups)

    @property
    def out_of_memory(self) -> str | None:
        """What to say where the kernel has killed a process of the step."""
        if not self._count("memory.oom_control", "oom_kill") and not self._count("memory.events", "oom_kill"):
            return None
        return f"killed: out of memory, limit {_shown(self._limits.memory or 0)}"

    def explain(self, error: BuildError) -> BuildError:
        """An error that the step ended with, as one that tells which limit was the cause."""
        killed = self.out_of_memory
        if killed is not None:
            if not isinstance(error, StepFailed):
                return StepFailed(f"RUN was {killed}", 137)  # process 1 of the step, or its keeper
            if error.status == 137:
                return StepFailed(f"RUN was {killed}", error.status, hint=error.hint)
            return StepFailed(f"{error}, and a process of it was {killed}", error.status, hint=error.hint)
        if self._count("pids.events", "max"):
            error.hint = f"it had {self._limits.pids} processes, which is the limit (--pids-limit), and wanted more"
        return error

    def _count(self, file: str, key: str) -> int:
        return sum(cgroup.count(file, key) for cgroup in self._cgroups)


class Cgroups:
    """A context manager for one build, to be entered before it starts any process and left when all have ended."""

    def __init__(self, limits: StepLimits) -> None:
        self._limits = limits
        self._by_directory: dict[str, list[tuple[Controller, CgroupPlace]]] = {}
        self._leaf: Cgroup | None = None  # where this process is, in version 2
        self._home = ""  # where it was
        self._enabled: list[str] = []

    def __enter__(self) -> Cgroups:
        """Raises BuildError where a limit cannot be given."""
        found = own_cgroups()
        remove_abandoned(found)
        unified = []
        for controller in self._limits.controllers:
            place = found.get(controller.value) or found.get(UNIFIED)
            if place is None:
                raise _lacking(controller, "no cgroups of it are mounted here")
            if place.version == 2:
                unified.append(controller)
            self._by_directory.setdefault(place.directory, []).append((controller, place))
        try:
            if unified:
                self._enable(found[UNIFIED].directory, unified)
            with self.step():
                pass  # so it works
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @contextmanager
    def step(self, more: int = 0) -> Iterator[StepCgroup]:
        """The cgroups of a step, in which `more` processes do not count. Raises BuildError."""
        with ExitStack() as stack:
            made = []
            for directory, controllers in self._by_directory.items():
                names = ", ".join(controller.option for controller, _ in controllers)
                try:
                    cgroup = Cgroup(directory)
                    stack.callback(cgroup.remove)
                    for controller, place in controllers:
                        self._limit(cgroup, controller, place.version, more)
                except OSError as error:
                    raise BuildError(
                        f"{names}: no cgroup can be made in {directory}: {error.strerror}", hint=_fix(controllers[0][1])
                    ) from error
                made.append(cgroup)
            yield StepCgroup(self._limits, made)

    def _limit(self, cgroup: Cgroup, controller: Controller, version: int, more: int) -> None:
        limits = self._limits
        match controller:
            case Controller.MEMORY:
                cgroup.write("memory.limit_in_bytes" if version == 1 else "memory.max", str(limits.memory))
                swap = ("memory.memsw.limit_in_bytes", str(limits.memory)) if version == 1 else ("memory.swap.max", "0")
                if os.path.exists(f"{cgroup.path}/{swap[0]}"):  # else this kernel does not count it
                    cgroup.write(*swap)
            case Controller.CPU:
                quota = round((limits.cpus or 0) * _PERIOD)
                if version == 1:
                    cgroup.write("cpu.cfs_period_us", str(_PERIOD))
                    cgroup.write("cpu.cfs_quota_us", str(quota))
                else:
                    cgroup.write("cpu.max", f"{quota} {_PERIOD}")
            case Controller.PIDS:
                cgroup.write("pids.max", str((limits.pids or 0) + _OWN + more))
            case _:
                assert_never(controller)

    def _enable(self, home: str, controllers: Sequence[Controller]) -> None:
        """Have cgroups below ours limited, in version 2."""
        try:
            there = read_words(f"{home}/cgroup.controllers")
            for controller in controllers:
                if controller.value not in there:
                    listed = ", ".join(there) or "none"
                    raise _lacking(controller, f"the cgroup {home} has not got it (it has {listed})", delegated=True)
            enabled = read_words(f"{home}/cgroup.subtree_control")
            wanted = [controller.value for controller in controllers if controller.value not in enabled]
            if wanted:
                self._enable_in(home, wanted)
        except OSError as error:
            names = ", ".join(controller.option for controller in controllers)
            said = "other processes are in it" if error.errno == errno.EBUSY else error.strerror
            raise BuildError(
                f"{names}: the cgroup {home} cannot be divided: {said}", hint=_fix(CgroupPlace(home, 2))
            ) from error

    def _enable_in(self, home: str, controllers: list[str]) -> None:
        text = " ".join(f"+{name}" for name in controllers)
        try:
            write(f"{home}/cgroup.subtree_control", text)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._leaf, self._home = Cgroup(home), home
            self._leaf.write("cgroup.procs", "0")
            write(f"{home}/cgroup.subtree_control", text)
            self._enabled = controllers

    def _leave(self) -> None:
        """Go back to where this process was. Where that is refused, the cgroup ends with who made it for us."""
        if self._leaf is None:
            return
        leaf, self._leaf = self._leaf, None
        try:
            if self._enabled:
                write(f"{self._home}/cgroup.subtree_control", " ".join(f"-{name}" for name in self._enabled))
            write(f"{self._home}/cgroup.procs", "0")
        except OSError:
            return
        leaf.remove()


def _lacking(controller: Controller, why: str, *, delegated: bool = False) -> BuildError:
    return BuildError(
        f"{controller.option} needs the cgroup controller {controller.value}: {why}",
        hint=_fix(CgroupPlace("", 2)) if delegated else SEE_DOCTOR,
    )


def _fix(place: CgroupPlace) -> str:
    if place.version == 1:
        return f"root can, and who owns the cgroup that pybuild is started in; {SEE_DOCTOR}"
    user = "" if os.geteuid() == 0 else "--user "
    return f"with systemd: systemd-run {user}--scope -p Delegate=yes pybuild ...; {SEE_DOCTOR}"


def _shown(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
