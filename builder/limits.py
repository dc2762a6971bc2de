"""Limits on the resources of RUN commands. They affect how a step runs, not its result, so no cache key has them."""

from __future__ import annotations

import resource
from enum import Enum

from pybuild.builder.errors import BuildError
from pybuild.values import frozen

UNLIMITED = -1
ULIMITS: dict[str, int] = {  # docker's names for the limits of setrlimit(2)
    name: getattr(resource, f"RLIMIT_{name.upper()}")
    for name in (
        "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
        "sigpending", "stack",
    )
}  # fmt: skip


@frozen
class Ulimit:
    """A limit on each process, in the unit of getrlimit(2), or UNLIMITED."""

    name: str  # of ULIMITS
    soft: int
    hard: int

    @property
    def number(self) -> int:
        """The kernel's number for it: RLIMIT_…"""
        return ULIMITS[self.name]


class Controller(Enum):
    """The cgroup controllers that can limit a step, by the kernel's names."""

    MEMORY = "memory"
    CPU = "cpu"
    PIDS = "pids"

    @property
    def option(self) -> str:
        """The command line option that needs it."""
        return {Controller.MEMORY: "--memory", Controller.CPU: "--cpus", Controller.PIDS: "--pids-limit"}[self]


@frozen
class StepLimits:
    """The limits of each RUN; None is no limit."""

    shm_size: int = 64 << 20  # bytes of /dev/shm
    ulimits: tuple[Ulimit, ...] = ()
    memory: int | None = None  # bytes of all its processes and of its files in memory, swap included
    cpus: float | None = None  # CPU seconds per second
    pids: int | None = None  # processes and threads

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """The controllers that these limits need."""
        given = {Controller.MEMORY: self.memory, Controller.CPU: self.cpus, Controller.PIDS: self.pids}
        return tuple(controller for controller, limit in given.items() if limit is not None)


def check_limits(limits: StepLimits) -> None:
    """Raise BuildError if a limit is above this process's own hard limit.

    A step cannot raise it: in a user namespace CAP_SYS_RESOURCE does not apply to resource limits.
    """
    for ulimit in limits.ulimits:
        own_hard = resource.getrlimit(ulimit.number)[1]
        if _comparable(ulimit.hard) > _comparable(own_hard):
            raise BuildError(
                f"--ulimit {ulimit.name}: {_shown(ulimit.hard)} is above {_shown(own_hard)}, the hard limit of this process",
                hint=f"raise it before pybuild starts: ulimit -H, or LimitX= of a systemd unit ({ulimit.name})",
            )


def _comparable(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
