"""What is measured: a row is one workload, done by pybuild, by the floor and by the peers that are there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


def nothing() -> None:
    """Nothing to do before a run."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One who does the work."""

    name: str
    command: tuple[str, ...]
    before: Callable[[], object] = nothing  # puts things back as they were; not timed
    environment: Mapping[str, str] = field(default_factory=dict)
    daemons: tuple[int, ...] = ()  # processes that do a part of the work and outlive the command

    @property
    def is_peer(self) -> bool:
        return self.name not in ("pybuild", "floor")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload. The first contender is pybuild; the ratios are to the one named floor."""

    name: str
    what: str  # in a few words, for the table
    contenders: tuple[Contender, ...]
    aim: float | None = None  # the ratio of pybuild to the floor that we want to stay below
    limit: float | None = None  # the same in seconds, where the work is waiting


def shell(name: str, script: str, before: Callable[[], object] = nothing) -> Contender:
    """A contender that is a line of shell; it fails with any part of a pipe."""
    return Contender(name, ("bash", "-euo", "pipefail", "-c", script), before)


def floor(script: str, before: Callable[[], object] = nothing) -> Contender:
    """The same work by the plainest tools: what no builder of images can be much faster than."""
    return shell("floor", script, before)


def namespaces() -> str:
    """The words that run a command in the namespaces that a step gets."""
    return "unshare -mpfiu" if os.geteuid() == 0 else "unshare -rmpfiu"


def in_root(root: Path, command: str) -> str:
    """The line that runs a shell command in a root directory."""
    enter = "chroot" if os.geteuid() == 0 else "unshare -r chroot"
    return f"{enter} {shlex.quote(str(root))} sh -c {shlex.quote(command)}"
