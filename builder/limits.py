"""What the command of a RUN may use up. None of it is part of what a step is: it decides how a step runs, not what it makes."""

from __future__ import annotations

import resource
from enum import Enum

from pybuild.builder.errors import BuildError
from pybuild.values import frozen

UNLIMITED = -1
ULIMITS: dict[str, int] = {  # docker's names of the limits of setrlimit(2)
    name: getattr(resource, f"RLIMIT_{name.upper()}")
    for name in (
        "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
        "sigpending", "stack",
    )
}  # fmt: skip


@frozen
class Ulimit:
    """A limit of each process, in the unit of getrlimit(2); UNLIMITED is none."""

    name: str  # of ULIMITS
    soft: int
    hard: int

    @property
    def number(self) -> int:
        """The kernel's number of it."""
        return ULIMITS[self.name]


class Controller(Enum):
    """What a cgroup can limit, by the kernel's names."""

    MEMORY = "memory"
    CPU = "cpu"
    PIDS = "pids"

    @property
    def option(self) -> str:
        """The option of a build that needs it."""
        return {Controller.MEMORY: "--memory", Controller.CPU: "--cpus", Controller.PIDS: "--pids-limit"}[self]


@frozen
class StepLimits:
    """The limits of each RUN. None: as much as there is."""

    shm_size: int = 64 << 20  # bytes of /dev/shm
    ulimits: tuple[Ulimit, ...] = ()
    memory: int | None = None  # bytes of all its processes and files in memory, swap included
    cpus: float | None = None  # processors, as time that is used in the time that goes by
    pids: int | None = None  # processes and threads

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """What is needed of cgroups."""
        given = {Controller.MEMORY: self.memory, Controller.CPU: self.cpus, Controller.PIDS: self.pids}
        return tuple(controller for controller, limit in given.items() if limit is not None)


def check_limits(limits: StepLimits) -> None:
    """Find out before the work which limits this process cannot give. Raises BuildError.

    A hard limit can only be lowered: a process in a user namespace has no CAP_SYS_RESOURCE that counts for it.
    """
    for ulimit in limits.ulimits:
        here = resource.getrlimit(ulimit.number)[1]
        if _value(ulimit.hard) > _value(here):
            raise BuildError(
                f"--ulimit {ulimit.name}: {_shown(ulimit.hard)} is above {_shown(here)}, the hard limit of this process",
                hint=f"raise it where pybuild is started: ulimit -H, or LimitX= of a systemd unit ({ulimit.name})",
            )


def _value(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
