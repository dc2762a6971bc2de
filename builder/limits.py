"""What the command of a RUN may use up. None of it is part of what a step is: it decides how a step runs, not what it makes."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from builder.errors import BuildError

UNLIMITED = -1
ULIMITS: dict[str, int] = {  # docker's names of the limits of setrlimit(2)
    name: getattr(resource, f"RLIMIT_{name.upper()}")
    for name in (
        "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
        "sigpending", "stack",
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A limit of each process, in the unit of getrlimit(2); UNLIMITED is none."""

    name: str  # of ULIMITS
    soft: int
    hard: int

    @property
    def number(self) -> int:
        """The kernel's number of it."""
        return ULIMITS[self.name]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each RUN. None: as much as there is."""

    shm_size: int = 64 << 20  # bytes of /dev/shm
    ulimits: tuple[Ulimit, ...] = ()


def check_limits(limits: Limits) -> None:
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
