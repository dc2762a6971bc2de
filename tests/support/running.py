"""Builds in progress: started, waited for until they say something, signalled, and looked for afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cli import Pybuild

DEADLINE_SECONDS = 60.0
GONE_SECONDS = 2.0  # after which nothing of a build that ended may be left


class Running:
    """A build in progress."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.text = ""

    def read_until(self, words: str) -> None:
        """Read what the build prints, up to a line that contains `words`."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.text += line.decode("utf-8", "replace")
            if words in self.text:
                return
        raise AssertionError(f"the build ended before it said {words!r}:\n{self.text}")

    def send(self, number: int) -> None:
        """Signal pybuild itself, not its workers."""
        os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Wait for the end; answer the exit status, or minus the number of the signal."""
        assert self._process.stderr is not None
        self.text += self._process.stderr.read().decode("utf-8", "replace")
        return self._process.wait(DEADLINE_SECONDS)


@contextmanager
def running_until(words: str, pybuild: Pybuild, *arguments: object) -> Iterator[Running]:
    """Start a build, and wait until it prints `words`."""
    process = subprocess.Popen(
        [*pybuild.command, *map(str, arguments)],
        env=pybuild.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        running = Running(process)
        running.read_until(words)
        yield running
    finally:
        process.kill()
        process.wait()


def leftovers(command: str, place: Path) -> list[str]:
    """Processes whose command line holds `command` and mounts below `place` that are still there after 2 seconds."""
    deadline = time.monotonic() + GONE_SECONDS
    while found := [*_processes(command), *_mounts(place)]:
        if time.monotonic() > deadline:
            return found
    return []


def _processes(command: str) -> list[str]:
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if command in words:
                found.append(f"{pid} {words}")
    return found


def _mounts(place: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place}/" in line]
