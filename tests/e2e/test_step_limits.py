"""--memory, --cpus and --pids-limit: their effect, and that no cgroup is left behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.host.cgroupfs import UNIFIED, parse_cgroups
from pybuild.builder.host.mountinfo import own_mounts
from tests.support.cgroups import Parents
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.people import Person, forget, make_person
from tests.support.processes import descendants, running, survivors
from tests.support.terminals import on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

HUNGRY = "dd if=/dev/zero of=/dev/null bs=300M count=1"  # dd allocates a buffer of 300 MiB
FILES = {
    ("memory", 1): "memory.limit_in_bytes", ("memory", 2): "memory.max", ("cpu", 1): "cpu.cfs_quota_us",
    ("cpu", 2): "cpu.max", ("pids", 1): "pids.max", ("pids", 2): "pids.max",
}  # fmt: skip


@pytest.fixture
def parents() -> Iterator[Parents]:
    found = Parents(0)
    yield found
    found.close()


@pytest.fixture
def inside(pybuild: Pybuild, parents: Parents) -> Pybuild:
    return parents.entered(pybuild)


def limits_of(pid: int) -> dict[str, str]:
    """The limits of a process (controller -> value) and the names of its cgroups."""
    found = parse_cgroups(own_mounts(), Path(f"/proc/{pid}/cgroup").read_text())
    limits = {}
    for controller in ("memory", "cpu", "pids"):
        place = found.get(controller) or found[UNIFIED]
        assert os.path.basename(place.directory).startswith("pybuild-")
        limits[controller] = Path(place.directory, FILES[controller, place.version]).read_text().split()[0]
    return limits


def test_a_step_is_in_cgroups_with_its_limits(tmp_path: Path, inside: Pybuild, parents: Parents) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo ready; sleep 1000\n")
    with running(inside, "-m", "64m", "--cpus=1.5", "--pids-limit", "20", context) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        command = next(one for one in started if "sleep 1000" in one.command)  # the shell, or the program that it executed
        assert limits_of(command.pid) == {"memory": str(64 << 20), "cpu": "150000", "pids": "22"}
        assert len(parents.ours()) == len(parents.paths)
        os.kill(build.pid, signal.SIGTERM)
        assert build.end().status == 143
        assert survivors(started) == []
    assert parents.ours() == set()
    inside.assert_whole()


def test_each_step_has_its_own_limits(tmp_path: Path, inside: Pybuild, parents: Parents) -> None:
    """Two parallel steps, each with more than half of the limit."""
    half = "dd if=/dev/zero of=/dev/null bs=40M count=1; touch"
    recipe = f"FROM {BASE} AS a\nRUN {half} /a\nFROM {BASE} AS b\nRUN {half} /b\nFROM {BASE}\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    inside("--memory=64m", write_context(tmp_path / "c", recipe))
    assert parents.ours() == set()


@pytest.mark.parametrize(
    ("command", "message", "status"),
    [
        (f"exec {HUNGRY}", "RUN was killed: out of memory, limit 64 MiB", 137),
        (
            f"{HUNGRY}; exit 5",
            "RUN exited with status 5, and a process of it was killed: out of memory, limit 64 MiB",
            5,
        ),
    ],
)
def test_a_step_above_its_memory_limit_reports_it(
    tmp_path: Path, inside: Pybuild, parents: Parents, command: str, message: str, status: int
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN {command}\n")
    assert message in inside.refused("-m64m", "--exit-code=run", context, status=status)
    assert parents.ours() == set()


def test_a_killed_process_in_a_successful_step_is_noted(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN {HUNGRY} || true\n")
    message = pybuild("--memory=64m", "--progress=plain", context).err
    assert "note: a process of a RUN that succeeded was killed: out of memory, limit 64 MiB" in message
    assert "killed" not in pybuild("--memory=512m", "--no-cache", "--progress=plain", context).err


def test_processes_are_limited(tmp_path: Path, inside: Pybuild, parents: Parents) -> None:
    many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all"
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN {many}\n")
    message = inside.refused("--pids-limit=8", context)
    assert "hint: it tried to start more than 8 processes, the limit (--pids-limit)" in message
    inside("--pids-limit=10", context)
    assert parents.ours() == set()


def test_the_smallest_limits_are_enough_to_start(tmp_path: Path, pybuild: Pybuild) -> None:
    """The sandbox needs little memory, and its processes do not count."""
    context = write_context(tmp_path / "c", f'FROM {BASE}\nRUN ["true"]\n')
    pybuild("--pids-limit=1", "--memory=16m", "--cpus=0.01", context)


def test_limits_are_not_part_of_the_cache_key(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\n")
    pybuild("--memory=100m", "--cpus=1", "--pids-limit=100", context)
    assert pybuild("--memory=1g", "--progress=json", context).finished() == {"RUN true": True}
    assert pybuild("--progress=json", context).finished() == {"RUN true": True}


@pytest.mark.parametrize("options", [(), ("--memory=64m",)], ids=["without limits", "with limits"])
def test_the_next_build_removes_cgroups_left_by_kill_9(
    tmp_path: Path, inside: Pybuild, parents: Parents, options: tuple[str, ...]
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo ready; sleep 1000\n")
    other = write_context(tmp_path / "other", f"FROM {BASE}\nRUN echo other\n")
    with running(inside, "--memory=64m", "--pids-limit=9", context) as build:
        build.wait_for("step_output", "ready")
        started = descendants(build.pid)
        during = parents.ours()
        assert during
        inside(*options, "--no-cache", other)
        assert parents.ours() == during  # a running build keeps its cgroups
        os.kill(build.pid, signal.SIGKILL)
        build.end()
        assert survivors(started) == []
    assert parents.ours() == during
    inside(*options, "--no-cache", other)
    assert parents.ours() == set()


def test_a_shell_in_a_failed_step_has_the_same_limits(tmp_path: Path, inside: Pybuild, parents: Parents) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 1\n")
    options = ("--on-fail=shell", "--memory=64m", "--cpus=2", "--pids-limit=9")
    with on_terminal(inside, *options, context) as terminal:
        terminal.wait_until(lambda lines: lines[-1].endswith("#"))
        (shell,) = [one for one in descendants(terminal.process.pid) if one.command == "/bin/sh "]
        assert limits_of(shell.pid) == {"memory": str(64 << 20), "cpu": "200000", "pids": "11"}
        terminal.press(b"exit\n")
        terminal.end()
        assert terminal.process.returncode == 1
    assert parents.ours() == set()


# Ordinary users


@pytest.fixture(params=["range", "single"])
def ordinary(request: pytest.FixtureRequest, base_archive: Path) -> Iterator[Person]:
    person = make_person(request.param)
    (person.home / "base.tar").write_bytes(base_archive.read_bytes())
    person.pybuild()("import", person.home / "base.tar")
    yield person
    forget(person)


@pytest.mark.parametrize("option", ["--memory=64m", "--cpus=1", "--pids-limit=9"])
def test_impossible_limits_are_reported_before_anything_runs(ordinary: Person, option: str) -> None:
    context = ordinary.context("c", f"FROM {BASE}\nRUN echo ran\n")
    message = ordinary.pybuild().refused(option, "--progress=plain", context)
    assert message.startswith(f"error: {option.partition('=')[0]}") and "see pybuild doctor" in message
    assert "cgroup" in message and "ran" not in message
    checks = [json.loads(line) for line in ordinary.pybuild().run("doctor", "--json").out.splitlines()]
    (check,) = [check for check in checks if check["name"] == "limits"]
    assert check["state"] == "note" and check["found"].startswith("none of the limits works; ") and check["fix"]


def test_a_user_with_delegated_cgroups_can_set_limits(ordinary: Person) -> None:
    """Delegated as by a service manager; tests/builder/host/test_step_cgroups.py tests version 2."""
    parents = Parents(ordinary.uid)
    try:
        inside = parents.entered(ordinary.pybuild())
        context = ordinary.context("c", f"FROM {BASE}\nRUN {HUNGRY}\n")
        message = inside.refused("--memory=64m", "--cpus=1", "--pids-limit=20", "--exit-code=run", context, status=137)
        assert "error: RUN was killed: out of memory, limit 64 MiB" in message
        assert "--memory, --cpus, --pids-limit work" in inside.run("doctor").out
        assert parents.ours() == set()
    finally:
        parents.close()
