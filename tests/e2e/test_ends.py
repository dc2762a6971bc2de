"""All ways in which a build can end: no process survives and the store is intact."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.cli import SCRIPT, Pybuild, copy_store, write_context
from tests.support.processes import Process, descendants, descendants_with, running, survivors

BASE = "FROM pybuild.test/base\n"
# Ignores catchable signals and has children in their own sessions.
STUBBORN = (
    "RUN trap '' TERM INT HUP; (setsid sh -c \"trap '' TERM INT HUP; sleep 1000\" &); (sleep 1001 &);"
    " mkdir -p /made/deep; echo ready; sleep 1002; echo survived\n"
)


def mounts_of(pybuild: Pybuild) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(pybuild.root) in line]


def cgroups_of(*pids: int) -> set[str]:
    return {Path(f"/proc/{pid}/cgroup").read_text() for pid in pids}


def left_in(pybuild: Pybuild) -> list[str]:
    return os.listdir(pybuild.root / "ingest")


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", BASE + "RUN echo kept > /kept\n" + STUBBORN)


def assert_recovers(pybuild: Pybuild, context: Path) -> None:
    """Assert that the store is intact, the earlier step is cached, and a build without the stubborn step succeeds."""
    pybuild.assert_whole()
    (context / "Buildfile").write_text(BASE + "RUN echo kept > /kept\nRUN mkdir -p /made/deep\n")
    assert pybuild("--progress=json", context).finished() == {
        "RUN echo kept > /kept": True, "RUN mkdir -p /made/deep": False,
    }  # fmt: skip


SIGNALS = {
    "SIGINT": (signal.SIGINT, 130, "error: interrupted"),
    "SIGTERM": (signal.SIGTERM, 143, "error: terminated by SIGTERM"),
    "SIGHUP": (signal.SIGHUP, 129, "error: terminated by SIGHUP"),
}


@pytest.mark.parametrize(("number", "status", "message"), SIGNALS.values(), ids=SIGNALS)
def test_a_signal_ends_a_build_and_all_its_processes(
    pybuild: Pybuild, stubborn: Path, number: signal.Signals, status: int, message: str
) -> None:
    with running(pybuild, stubborn) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        assert sum("sleep 100" in process.command for process in started) >= 3
        # One that has ended and was not waited for yet has no command, and no cgroup.
        running_now = [process.pid for process in started if process.command]
        assert cgroups_of(*running_now) == cgroups_of(os.getpid()), "none that could be left"
        os.kill(build.pid, number)
        done = build.end()
        assert survivors(started) == []
    assert done.status == status
    assert done.err.endswith(message + "\n")
    assert "survived" not in done.err.replace("echo survived", "") and "Traceback" not in done.err
    assert left_in(pybuild) == []
    assert mounts_of(pybuild) == []
    assert_recovers(pybuild, stubborn)


def test_ctrl_c_reaches_the_whole_group(pybuild: Pybuild, stubborn: Path) -> None:
    with running(pybuild, stubborn) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        os.killpg(build.pid, signal.SIGINT)
        assert build.end().status == 130
        assert survivors(started) == []
    assert left_in(pybuild) == []
    pybuild.assert_whole()


def test_a_second_signal_does_not_damage_the_store(pybuild: Pybuild, stubborn: Path) -> None:
    with running(pybuild, stubborn) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        for _ in range(2):
            os.kill(build.pid, signal.SIGINT)
        assert build.end().status == 130
        assert survivors(started) == []
    assert_recovers(pybuild, stubborn)


def test_a_signal_ends_a_copy(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "context", BASE + "COPY big /\n")
    with open(context / "big", "wb") as file:
        file.truncate(8 << 30)
    with running(pybuild, context) as build:
        build.wait_for("step_started", "COPY")
        started = descendants(build.pid)
        os.kill(build.pid, signal.SIGTERM)
        assert build.end().status == 143
        assert survivors(started) == []
    assert left_in(pybuild) == []
    pybuild.assert_whole()


def test_a_signal_before_anything_runs(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = tmp_path / "recipe"
    context = write_context(tmp_path / "context", BASE)
    recipe.write_text(BASE + "".join(f"ENV a{number}=$a\n" for number in range(50_000)))
    with running(pybuild, "-f", recipe, context) as build:
        while not os.path.exists(pybuild.root / "ingest") or not left_in(pybuild):
            os.sched_yield()
        os.kill(build.pid, signal.SIGINT)
        done = build.end()
    # The build can be interrupted before or after it has reported its start.
    assert (done.status, done.err.splitlines()[-1]) == (130, "error: interrupted")
    pybuild.assert_whole()


# -- kill -9


def own_number(pid: int) -> int:
    """The pid of a process inside its step: proc_pid_status(5), NSpid."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def find(processes: list[Process], what: str) -> Process:
    """A process of a build in the middle of a RUN."""
    sandbox = next(process for process in processes if "pybuild.builder.sandbox.worker" in process.command)
    # The network of the step has processes of the same kind beside these; only process 1 of the step has commands.
    parents = {process.pid: process.parent for process in processes}
    command = next(process for process in processes if "echo ready" in process.command)
    first = next(process for process in processes if process.pid == command.parent)
    keeper = next(process for process in processes if process.pid == parents[first.pid])
    match what:
        case "the sandbox worker":
            return sandbox
        case "its keeper":
            return keeper
        case "process 1 of the step":
            return first
        case "the command":
            # A detached process is a child of process 1 too, and a process before exec looks the same.
            children = [one for one in processes if one.parent == first.pid and "echo survived" in one.command]
            return min(children, key=lambda process: own_number(process.pid))
        case _:
            raise AssertionError(what)


def test_no_process_survives_kill_9(pybuild: Pybuild, stubborn: Path) -> None:
    with running(pybuild, stubborn) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        os.kill(build.pid, signal.SIGKILL)
        build.end()
        assert survivors(started) == []
    assert mounts_of(pybuild) == []
    assert_recovers(pybuild, stubborn)


VICTIMS = {
    "the sandbox worker": "error: the sandbox worker ended unexpectedly",
    "its keeper": "error: the step was killed",
    "process 1 of the step": "error: the step was killed",
    "the command": "error: RUN was ended by signal SIGKILL",
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_process_of_the_sandbox_fails_the_build(pybuild: Pybuild, stubborn: Path, victim: str) -> None:
    with running(pybuild, stubborn) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        os.kill(find(started, victim).pid, signal.SIGKILL)
        done = build.end()
        assert survivors(started) == []
    assert done.status == 1
    assert f"Buildfile:3:1: {VICTIMS[victim]}" in done.err and "Traceback" not in done.err
    assert left_in(pybuild) == []
    assert_recovers(pybuild, stubborn)


def test_a_killed_job_worker_fails_the_build(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "context", BASE + "COPY big /\n")
    with open(context / "big", "wb") as file:
        file.truncate(8 << 30)
    with running(pybuild, context) as build:
        build.wait_for("step_started", "COPY")
        started = descendants_with(build.pid, "pybuild.builder.workers.job_worker")
        worker = next(one for one in started if "pybuild.builder.workers.job_worker" in one.command)
        os.kill(worker.pid, signal.SIGKILL)
        done = build.end()
        assert survivors(started) == []
    assert done.status == 1
    assert "Buildfile:2:1: error: a worker process ended unexpectedly" in done.err
    assert left_in(pybuild) == []
    pybuild.assert_whole()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("victim", ["process 1 of the step", "its keeper", "the sandbox worker", "all workers"])
def test_a_signal_to_a_process_of_the_sandbox(
    pybuild: Pybuild, tmp_path: Path, victim: str, number: signal.Signals
) -> None:
    """SIGINT ends no worker: it is sent to all processes of a tree, and the main process ends its workers. SIGTERM ends them."""
    step = "RUN --mount=type=cache,target=/c echo ready; until [ -e /c/go ]; do sleep 0.1; done; echo done\n"
    context = write_context(tmp_path / "c", BASE + "COPY go /go\n" + step, go="x")
    with running(pybuild, context) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        workers = [one for one in started if "pybuild.builder.workers.job_worker" in one.command]
        assert len(workers) >= 2
        for process in workers if victim == "all workers" else [find(started, victim)]:
            os.kill(process.pid, number)
        ends_well = number == signal.SIGINT or victim in ("process 1 of the step", "all workers")
        if ends_well:  # else the signal alone has to end the build: a slow victim would get it after the step
            (cache,) = pybuild.root.glob("cachemounts/*/fs")
            (cache / "go").touch()
        done = build.end()
        assert survivors(started) == []
    assert "Traceback" not in done.err and "namespaces" not in done.err
    if ends_well:
        assert done.status == 0, done.err
    else:
        assert done.status == 1 and VICTIMS[victim] in done.err
    assert left_in(pybuild) == []
    pybuild.assert_whole()


# -- the end of a command


def test_background_processes_end_with_their_command(tmp_path: Path, pybuild: Pybuild) -> None:
    daemons = "for i in 1 2 3 4 5 6 7 8 9; do (trap '' TERM; setsid sleep 1000 &); done"
    context = write_context(tmp_path / "context", BASE + f"RUN {daemons}; echo ready\nRUN ls -d /proc/[0-9]*\n")
    with running(pybuild, context) as build:
        build.wait_for("step_output", "ready")
        started = [one for one in descendants(build.pid) if "sleep" in one.command]
        done = build.end()
        # These processes held the pipes of the command, but the build did not wait for them.
        assert survivors(started) == []
    assert done.status == 0
    pybuild.assert_whole()


# -- kill -9 at a chosen system call of the main process

RECIPE = BASE + "WORKDIR /a\nCOPY file .\nRUN echo made > made\n"
POINTS = (
    ("mkdir", 3), ("rename", 1), ("rename", 6), ("rename", 10), ("renameat2", 1), ("mkdir", 12), ("fsync", 1), ("fsync", 4), ("pwrite64", 12),
    ("pwrite64", 70), ("pwrite64", 110), ("sendto", 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> tuple[Path, str, bytes]:
    """A context, with the digest and archive of an undisturbed build."""
    directory = tmp_path_factory.mktemp("golden")
    context = write_context(directory / "context", RECIPE, file="content")
    root = directory / "store"
    copy_store(store_with_base, root)
    archive = directory / "app.tar"
    done = Pybuild(root, {"SOURCE_DATE_EPOCH": "1000"})("-t", "app", "-o", f"type=oci,dest={archive}", context)
    return context, done.out, archive.read_bytes()


def assert_undamaged(pybuild: Pybuild) -> None:
    """Assert that no object is damaged. Files without a database row can exist; they belong to no object."""
    assert " 0 damaged" in pybuild("fsck").out
    assert left_in(pybuild) == []


@pytest.mark.parametrize(("call", "count"), POINTS, ids=[f"{call} {count}" for call, count in POINTS])
def test_a_build_succeeds_after_kill_9_at_any_system_call(
    tmp_path: Path, pybuild: Pybuild, golden: tuple[Path, str, bytes], call: str, count: int
) -> None:
    context, digest, archive = golden
    output = tmp_path / "app.tar"
    output.write_bytes(b"of an earlier build")
    arguments = ("-t", "app", "-o", f"type=oci,dest={output}", context)
    inject = ("strace", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=SIGKILL:when={count}")
    killed = Pybuild(pybuild.root, {"SOURCE_DATE_EPOCH": "1000"}, (*inject, SCRIPT)).run(*arguments)
    assert killed.status == -signal.SIGKILL, killed.err
    assert output.read_bytes() == b"of an earlier build"
    assert_undamaged(pybuild)
    assert pybuild(*arguments, SOURCE_DATE_EPOCH="1000").out == digest
    assert output.read_bytes() == archive
    assert_undamaged(pybuild)


def test_a_program_with_a_very_long_name_is_an_error(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f'{BASE}RUN ["/{"a" * 70_000}"]\n')
    message = pybuild.refused(context)
    assert "error: cannot start /aaa" in message and "…: File name too long" in message
