"""The keeper and init of a step, without a build: what they report, and that no signal is lost."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox import linux, process
from pybuild.builder.sandbox.process import Step
from pybuild.builder.sandbox.report import report
from pybuild.builder.sandbox.spec import SandboxSpec

if TYPE_CHECKING:
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild

SPEC = SandboxSpec(
    argv=("/bin/true",), env=(), cwd="/", uid=0, gid=0, groups=(), lowers=("/",), upper="/", work="/", mountpoint="/",
    files="/", resolv_conf="", hosts="", hostname="x", resolv_conf_target="/x", hosts_target="/x", new_network=False,
)  # fmt: skip
WAIT_SECONDS = 20


def outputs() -> tuple[int, int]:
    return os.open("/dev/null", os.O_WRONLY), os.open("/dev/null", os.O_WRONLY)


def ends(pid: int) -> bool:
    """Whether a child ends soon; it is killed if not."""
    pidfd = os.pidfd_open(pid)
    try:
        ended = bool(select.select([pidfd], [], [], WAIT_SECONDS)[0])
        if not ended:
            os.kill(pid, signal.SIGKILL)
        return ended
    finally:
        os.close(pidfd)
        os.waitpid(pid, 0)


def test_a_signal_that_comes_before_the_keeper_knows_init_is_not_lost(
    in_child: InChild, enter_namespaces: EnterNamespaces
) -> None:
    """The worker sends SIGTERM when the build ends; init must not live on because it was born a moment before."""

    def run() -> tuple[bool, object]:
        enter_namespaces()
        real_fork = os.fork
        forks = 0

        def fork() -> int:
            nonlocal forks
            forks += 1
            of_init = forks == 2  # the first one makes the keeper, which counts on from its copy
            pid = real_fork()
            if of_init and pid:
                os.kill(os.getpid(), signal.SIGTERM)
            return pid

        def sleeping_init(*_: object) -> None:
            linux.set_pdeathsig(signal.SIGKILL)
            time.sleep(10 * WAIT_SECONDS)

        os.fork = fork
        process._init = sleeping_init  # type: ignore[assignment]
        step = Step(SPEC, outputs(), b"")
        ended = ends(step.pid)
        return ended, step.result()

    assert in_child(run) == (True, {"error": "the step was killed", "hint": None})


def test_init_does_not_outlive_a_keeper_that_was_killed_before_init_could_ask_for_it(
    in_child: InChild, enter_namespaces: EnterNamespaces
) -> None:
    """PR_SET_PDEATHSIG comes too late if the parent has died already, and getppid() is 0 in a new pid namespace."""

    def run() -> bool:
        enter_namespaces()
        linux.set_child_subreaper(True)  # init becomes a child of this process
        real_set, real_umask = linux.set_pdeathsig, os.umask
        reader, writer = os.pipe()
        keeper = 0

        def set_pdeathsig(signal: int) -> None:
            nonlocal keeper
            if not keeper:
                keeper = os.pidfd_open(os.getpid())
            else:  # in init
                os.write(writer, b"init was born")
                select.select([keeper], [], [])
            real_set(signal)

        def umask(mask: int) -> int:
            os.write(writer, b"init goes on")
            return real_umask(mask)

        linux.set_pdeathsig, os.umask = set_pdeathsig, umask
        vars(process)["close_all_but"] = lambda *_: None
        step = Step(SPEC, outputs(), b"")
        os.close(writer)
        assert os.read(reader, 100) == b"init was born"
        os.kill(step.pid, signal.SIGKILL)
        ended = ends(step.pid)
        step.result()  # waits until init has ended
        return ended and os.read(reader, 100) == b""

    assert in_child(run)


@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001f4a5" * 70_000, "\udc80" * 70_000], ids=["long", "wide", "bytes"])
def test_a_report_never_fills_the_pipe(text: str) -> None:
    """Nothing reads the pipe while the step runs, so a write must not wait for a reader."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # the kernel gives no more to users with many pipes
    for _ in range(3):
        report(writer, {"error": text, "hint": text})
    os.close(writer)
    step = Step.__new__(Step)
    step.status_fd = reader
    error = step.result()["error"]
    assert isinstance(error, str)
    start, end = error.split("…")
    assert text.startswith(start) and text.endswith(end) and 20 < len(error) < 1000


def test_a_step_for_which_no_process_can_be_made_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        Step(SPEC, outputs(), b"")
    assert os.listdir("/proc/self/fd") == before
