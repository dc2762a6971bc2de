"""A row is one workload, done by pybuild, by the floor and by the peers that are installed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.exchanges import Moved


class Meter(Protocol):
    """Counts what the contenders of a row send and receive."""

    def reset(self, contender: str) -> None:
        """Begin to count what this contender does."""

    def read(self) -> Moved:
        """What was sent and received since `reset`."""


def nothing() -> None:
    """Do nothing before a run."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that does the work of a row."""

    name: str
    command: tuple[str, ...]
    before: Callable[[], object] = nothing  # restores the initial state; not timed
    environment: Mapping[str, str] = field(default_factory=dict)
    daemons: tuple[int, ...] = ()  # processes that do part of the work and outlive the command

    @property
    def is_peer(self) -> bool:
        return self.name not in ("pybuild", "floor")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload. The first contender is pybuild; the ratios are to the one named floor."""

    name: str
    what: str  # a few words for the table
    contenders: tuple[Contender, ...]
    aim: float | None = None  # the ratio of pybuild to the floor should stay below this
    limit: float | None = None  # the same in seconds, if the workload mainly waits
    buildkit_aim: float | None = None  # the ratio of pybuild to BuildKit should stay below this
    traffic: Meter | None = None  # if the row is about what crosses the network
    bytes_aim: int | None = None  # pybuild should send and receive fewer bytes
    chain_aim: int | None = None  # at most so many of its requests should wait for each other


def shell(name: str, script: str, before: Callable[[], object] = nothing) -> Contender:
    """A contender that is a shell command; it fails if any part of a pipe fails."""
    return Contender(name, ("bash", "-euo", "pipefail", "-c", script), before)


def floor(script: str, before: Callable[[], object] = nothing) -> Contender:
    """The same work with the simplest tools; an image builder cannot be much faster."""
    return shell("floor", script, before)


def namespaces() -> str:
    """The command prefix that creates the namespaces of a step."""
    return "unshare -mpfiu" if os.geteuid() == 0 else "unshare -rmpfiu"


def in_root(root: Path, command: str) -> str:
    """The shell command that runs a command in a root directory."""
    enter = "chroot" if os.geteuid() == 0 else "unshare -r chroot"
    return f"{enter} {shlex.quote(str(root))} sh -c {shlex.quote(command)}"
