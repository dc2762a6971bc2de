"""Steps in the root of a container: what may not happen anywhere else, and the end of what a step has started.

tests/containers/test_in_place.py runs real steps in a container.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox import descendants, in_place
from pybuild.builder.sandbox.frames import Channel
from tests.support.cli import Pybuild

if TYPE_CHECKING:
    from pathlib import Path

    from tests.builder.sandbox.conftest import InChild

ENTERED = "from pybuild.builder.sandbox.container_root import entered; import os; print(entered(), os.getcwd(), os.environ.get(V))"
END = """
import os, signal
from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.descendants import end_descendants
linux.set_child_subreaper(True)
os.setsid()
reader, writer = os.pipe()
for number in range(12):
    if not os.fork():
        signal.alarm(50)
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if number >= 8:  # chains: each process makes the next one, in a session of its own, and ends
            os.write(writer, b".")
            for _ in range(100_000):  # it ends by itself if nothing ends it
                if os.fork():
                    os._exit(0)
                os.setsid()
            os._exit(0)
        if os.fork():
            os._exit(0)
        os.write(writer, b".")
        if number % 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        signal.pause()
for _ in range(12):
    os.read(reader, 1)
end_descendants()
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("none left")
"""
BOMB = """
import os, resource, signal, sys, time
from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.descendants import end_descendants
linux.set_child_subreaper(True)
reader, writer = os.pipe()
end = time.monotonic() + 5
if not os.fork():
    resource.setrlimit(resource.RLIMIT_NPROC, (60, 60))
    if os.getuid() == 0:  # whom the limit does not hold
        os.setgroups([])
        os.setresgid(54321, 54321, 54321)
        os.setresuid(54321, 54321, 54321)
    full = False
    while time.monotonic() < end:  # each process makes others as long as it lives
        try:
            if not os.fork():
                os.setsid()
                signal.alarm(6)
        except BlockingIOError:
            if not full:
                os.write(writer, b".")
                full = True
    os.write(2, b"nothing has ended it\\n")
    os._exit(1)
os.read(reader, 1)
end_descendants()
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("none left")
"""


@pytest.mark.parametrize("value", ["", "0:1", "3:4", "9999:9999", "x:y", "3", "-1:-1", "/:/"])
def test_a_variable_alone_does_not_make_this_machine_the_image(value: str, tmp_path: Path) -> None:
    """3 is the root of this machine, and 4 another directory of it."""
    fds = [os.open("/", os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)]
    script = f"V = 'PYBUILD_CONTAINER_ROOT'; import os; os.dup2({fds[0]}, 3); os.dup2({fds[1]}, 4); {ENTERED}"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYBUILD_CONTAINER_ROOT": value}, cwd=tmp_path, pass_fds=fds,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for fd in fds:
        os.close(fd)
    assert done.stdout == f"False {tmp_path} None\n"


@pytest.mark.parametrize("variable", [{}, {"PYBUILD_CONTAINER_ROOT": "0:0"}])
def test_no_step_runs_in_place_on_this_machine(tmp_path: Path, variable: dict[str, str]) -> None:
    (tmp_path / "Buildfile").write_text("FROM scratch\nCOPY Buildfile /\nRUN true\n")
    done = Pybuild(tmp_path / "store", variable).run("--isolation=in-place", tmp_path)
    assert done.status == 1
    assert "Buildfile:3:1: error: the isolation in-place works only in pybuild's own image" in done.err
    assert "COPY" not in done.err.replace("COPY Buildfile /\n", "")  # nothing was made


def test_the_end_of_a_step_makes_no_directories(tmp_path: Path) -> None:
    """The link goes where it still is; a directory that the step has removed does not come back."""
    (tmp_path / "kept").mkdir()
    link = tmp_path / "kept" / "token"
    link.symlink_to(tmp_path / "none")
    gone = tmp_path / "gone/deep/token"
    in_place._unlink_targets({str(link): str(tmp_path / "none"), str(gone): str(tmp_path / "none")})
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_all_descendants_are_ended_however_they_hide() -> None:
    done = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "none left\n", done.stderr


def test_processes_that_double_all_the_time_are_ended() -> None:
    """Each makes others in sessions of their own. There are at most 60, and after 5 s they would end by themselves."""
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("none left\n", "")


def test_a_step_that_cannot_be_ended_fails(in_child: InChild) -> None:
    """It has ended well, and what it has left goes on."""

    def finish() -> str:
        ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        reader, writer = os.pipe()
        status, report = os.pipe()
        os.write(report, b'{"exit": 0}\n')
        os.close(report)
        descendants._SECONDS = -1.0
        if (pid := os.fork()) == 0:
            os._exit(0)
        if os.fork() == 0:
            signal.alarm(50)
            signal.pause()
        worker = in_place.InPlaceWorker(Channel(ours))
        step = object.__new__(in_place.InPlaceStep)
        step.pid, step.status_fd = pid, status
        pidfd = os.pidfd_open(pid)
        worker._poll.register(pidfd)
        worker._steps[pidfd] = step, writer
        worker._finish(pidfd)
        descendants._SECONDS = 50.0
        descendants.end_descendants()
        return os.read(reader, 999).decode()

    said = in_child(finish)
    assert "cannot end what the step has started: some of its processes are left" in said
    assert "exit" not in said
