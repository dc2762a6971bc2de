"""Running builds: the processes they have started, and whether all of these end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cli import Done

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cli import Pybuild

# The prefix of a command. Ignored signals stay ignored over exec: if the tests run under nohup or as a background job, their
# children would not receive these.
DEFAULT_SIGNALS = ("env", "--default-signal=HUP,INT,QUIT")
PATIENCE = 60.0  # seconds to wait for an event, enough on a loaded machine


@dataclass(frozen=True)
class Process:
    """A process. `fd` is a pidfd, which still names this process after the kernel reuses its number."""

    pid: int
    parent: int
    command: str
    fd: int


def _all() -> Iterator[tuple[int, int]]:
    """Number and parent of every process. proc_pid_stat(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    yield int(name), int(file.read().rpartition(b") ")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue


def descendants(pid: int) -> list[Process]:
    """All descendants of a process, parents first."""
    children: dict[int, list[int]] = {}
    for child, parent in _all():
        children.setdefault(parent, []).append(child)
    found = []
    pending = [(child, pid) for child in children.get(pid, [])]
    while pending:
        child, parent = pending.pop(0)
        pending += [(below, child) for below in children.get(child, [])]
        try:
            fd = os.pidfd_open(child)
            with open(f"/proc/{child}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(Process(child, parent, command, fd))
    return found


def descendants_with(pid: int, text: str) -> list[Process]:
    """The descendants, once one has this text in its command; a new process has its own command only after exec."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = descendants(pid)
        if any(text in process.command for process in found):
            return found
        assert time.monotonic() < deadline, f"no {text!r} among {[process.command for process in found]}"
        for process in found:
            os.close(process.fd)
        os.sched_yield()


def survivors(processes: list[Process]) -> list[str]:
    """The commands of the processes that do not end in time. A killed process needs some time to end."""
    poll = select.poll()
    left = {process.fd: process for process in processes}
    for fd in left:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(remaining * 1000):
            poll.unregister(fd)
            del left[fd]
    for process in processes:
        os.close(process.fd)
    return [process.command for process in left.values()]


def mounts_below(place: Path) -> list[str]:
    """The mounts below a directory in this namespace. proc_pid_mountinfo(5)."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place}/" in line]


class Running:
    """A running build with --progress=json."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lines: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, event: str, text: str = "") -> None:
        """Wait for an event of this kind whose data or instruction contains the text."""
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode()
            self._lines.append(line)
            if line.startswith("{"):
                fields = json.loads(line)
                if fields["event"] == event and text in fields.get("data", fields.get("instruction", "")):
                    return
        raise AssertionError("the build has ended: " + "".join(self._lines))

    def end(self) -> Done:
        """Wait until the build ends."""
        assert self._process.stderr is not None and self._process.stdout is not None
        rest = self._process.stderr.read().decode()
        status = self._process.wait()
        return Done(status, self._process.stdout.read().decode(), "".join(self._lines) + rest)


@contextmanager
def running(pybuild: Pybuild, *arguments: object) -> Iterator[Running]:
    """Start a build in a new session, and kill it at the end."""
    command = [*DEFAULT_SIGNALS, *pybuild.command, "--progress=json", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=pybuild.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()
