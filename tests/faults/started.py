"""A command in a session of its own, which is disturbed after some time."""

from __future__ import annotations

import os
import select
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.cli import Done
from tests.support.processes import DEFAULT_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.works import Site, Work


@dataclass(frozen=True)
class Started:
    """A command that was started. Its output goes to files: a pipe would be held by processes that outlive it."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def ended_within(self, seconds: float) -> bool:
        """Wait that long; return whether it has ended. (Popen.wait looks only every 50 ms.)"""
        fd = os.pidfd_open(self.process.pid)
        try:
            return bool(select.select([fd], [], [], seconds)[0])
        finally:
            os.close(fd)

    def end(self) -> Done:
        """Wait for its end."""
        status = self.process.wait()
        return Done(status, self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))


@contextmanager
def started(site: Site, work: Work) -> Iterator[Started]:
    """Start a work. It is killed at the end of the block if it still runs."""
    out, err = site.place / "stdout", site.place / "stderr"
    pybuild = site.pybuild
    with open(out, "wb") as to_out, open(err, "wb") as to_err:
        process = subprocess.Popen(
            [*DEFAULT_SIGNALS, *pybuild.command, *map(str, work.arguments)],
            env=pybuild.env(), stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err, start_new_session=True,
        )  # fmt: skip
    try:
        yield Started(process, out, err)
    finally:
        process.kill()
        process.wait()


@dataclass
class Durations:
    """How long each work takes when nothing disturbs it, so that moments spread over all of it."""

    site: Site
    known: dict[str, float] = field(default_factory=dict)

    def of(self, work: Work) -> float:
        """Seconds. The first call runs the work."""
        if work.name not in self.known:
            work.prepare(self.site)
            start = time.monotonic()
            work.run(self.site)
            self.known[work.name] = time.monotonic() - start
        return self.known[work.name]
