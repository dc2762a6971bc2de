"""Where cgroups are made, how those of dead builds are removed, and the rules of version 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.errors import SandboxError, StepFailed
from pybuild.builder.host.cgroupfs import (
    UNIFIED,
    Cgroup,
    CgroupPlace,
    own_cgroups,
    parse_cgroups,
    read_words,
    remove_abandoned,
    remove_tree,
    write,
)
from pybuild.builder.host.mountinfo import parse_mounts
from pybuild.builder.host.step_cgroups import StepCgroup, _shown
from pybuild.builder.limits import StepLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

V1 = """\
24 1 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:22 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
26 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 24 0:24 /docker/ab /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids
28 24 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
"""
V2 = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mountinfo", "cgroups", "found"),
    [
        pytest.param(
            V1, "9:name=systemd:/x\n5:pids:/docker/ab/c\n4:memory:/a/b\n3:cpu,cpuacct:/\n",
            {"memory": ("/sys/fs/cgroup/memory/a/b", 1), "cpu": ("/sys/fs/cgroup/cpu,cpuacct", 1),
             "pids": ("/sys/fs/cgroup/pids/c", 1)},
            id="version 1",
        ),
        pytest.param(V2, "0::/user.slice/x.scope\n", {UNIFIED: ("/sys/fs/cgroup/user.slice/x.scope", 2)}, id="version 2"),
        pytest.param(V2, "0::/\n", {UNIFIED: ("/sys/fs/cgroup", 2)}, id="the root"),
        pytest.param(V1 + V2, "4:memory:/\n0::/y\n", {"memory": ("/sys/fs/cgroup/memory", 1), UNIFIED: ("/sys/fs/cgroup/y", 2)}, id="both"),
        pytest.param(V1, "5:pids:/docker/abc\n4:memory:/../x\n", {}, id="outside the mount"),
        pytest.param(V2.replace("/sys/fs/cgroup", "/a\\040b"), "0::/c:d\n", {UNIFIED: ("/a b/c:d", 2)}, id="characters"),
        pytest.param("", "0::/\n", {}, id="mounted nowhere"),
        pytest.param(
            "".join(f"9 1 8:1 / /mnt/a{character}b rw - ext4 /dev/sda rw\n" for character in "\r\v\f\x1c\x85\u2028\xa0") + V2,
            "0::/x\f\n", {UNIFIED: ("/sys/fs/cgroup/x\f", 2)}, id="names that only Python would break",
        ),
        pytest.param("9 1 8:1 /\nx - y\n" + V2, "0::/\nx\n:\n", {UNIFIED: ("/sys/fs/cgroup", 2)}, id="lines of another form"),
    ],
)  # fmt: skip
def test_cgroups_are_found_in_the_files_of_proc(mountinfo: str, cgroups: str, found: dict[str, tuple[str, int]]) -> None:
    known = {name: (place.directory, place.version) for name, place in parse_cgroups(parse_mounts(mountinfo), cgroups).items()}
    assert {name: place for name, place in known.items() if name in ("memory", "cpu", "pids", UNIFIED)} == found


@pytest.fixture
def parent() -> Iterator[str]:
    """A cgroup for the test in the first hierarchy of this machine. Concurrent builds do not look for abandoned ones in it."""
    path = f"{next(iter(own_cgroups().values())).directory}/test-of-pybuild-{os.getpid()}"
    os.mkdir(path)
    yield path
    remove_tree(path)


def test_only_cgroups_of_dead_builds_are_removed(parent: str) -> None:
    held = Cgroup(parent)
    dead = f"{parent}/pybuild-of-a-dead-build"
    other = f"{parent}/not-ours"
    for path in (dead, f"{dead}/below", other):
        os.mkdir(path)
    try:
        remove_abandoned({"x": CgroupPlace(parent, 1), "y": CgroupPlace("/nowhere", 1)})
        assert (os.path.isdir(held.path), os.path.isdir(dead), os.path.isdir(other)) == (True, False, True)
    finally:
        held.remove()
        remove_tree(other)
    assert not os.path.isdir(held.path)


def test_a_cgroup_with_a_process_stays_until_it_has_ended(parent: str) -> None:
    cgroup = Cgroup(parent)
    process = subprocess.Popen(["sleep", "1000"])
    cgroup.write("cgroup.procs", str(process.pid))
    assert not remove_tree(cgroup.path)
    process.kill()
    process.wait()
    cgroup.remove()
    assert not os.path.isdir(cgroup.path)


# Version 2 with the controllers that this machine has there, which need not be those that a build limits.
DIVIDE = """
import os, sys
from types import SimpleNamespace
from pybuild.builder.host.cgroupfs import Cgroup, UNIFIED, own_cgroups, read_words, write
from pybuild.builder.host.step_cgroups import Cgroups
from pybuild.builder.errors import BuildError
from pybuild.builder.limits import StepLimits
home, *names = sys.argv[1:]
write(home + "/cgroup.procs", "0")
assert own_cgroups()[UNIFIED].directory == home
wanted = [SimpleNamespace(value=name, option="--" + name) for name in names]
cgroups = Cgroups(StepLimits())
try:
    cgroups._enable(home, wanted)
    print(own_cgroups()[UNIFIED].directory != home, read_words(home + "/cgroup.subtree_control") == names)
    step = Cgroup(home)
    print(read_words(step.path + "/cgroup.controllers") == names)
    step.remove()
except BuildError as error:
    print("error:", error, error.hint)
finally:
    cgroups._leave()
print(own_cgroups()[UNIFIED].directory == home, read_words(home + "/cgroup.subtree_control"), next(os.walk(home))[1])
"""


@pytest.fixture
def home() -> Iterator[str]:
    """A cgroup of version 2 without processes, with one controller if this machine has any in version 2."""
    top = own_cgroups()[UNIFIED].directory
    first = [name for name in read_words(f"{top}/cgroup.controllers") if name not in read_words(f"{top}/cgroup.subtree_control")][
        :1
    ]
    for name in first:
        write(f"{top}/cgroup.subtree_control", f"+{name}")
    path = f"{top}/test-of-pybuild-{os.getpid()}"
    os.mkdir(path)
    yield path
    os.rmdir(path)
    for name in first:
        write(f"{top}/cgroup.subtree_control", f"-{name}")


def divide(home: str, *names: str) -> list[str]:
    checkout = Path(__file__).resolve().parent.parent.parent.parent
    done = subprocess.run([sys.executable, "-c", DIVIDE, home, *names], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_cgroup_of_version_2_is_divided_and_restored(home: str) -> None:
    names = read_words(f"{home}/cgroup.controllers")[:1]
    # Without a controller there is nothing to enable, and no reason to move.
    assert divide(home, *names) == [f"{bool(names)} True", "True", "True [] []"]


def test_a_cgroup_of_version_2_with_other_processes_is_not_changed(home: str) -> None:
    other = subprocess.Popen(["sleep", "1000"])
    write(f"{home}/cgroup.procs", str(other.pid))
    try:
        names = read_words(f"{home}/cgroup.controllers")[:1]
        lines = divide(home, *names, *([] if names else ["none"]))
        reason = f"cannot divide the cgroup {home}: other processes are in it" if names else "does not have it"
        assert reason in lines[0] and "systemd-run --scope -p Delegate=yes" in lines[0]
        assert lines[1:] == ["True [] []"]
    finally:
        other.kill()
        other.wait()


def test_the_error_names_a_missing_controller(home: str) -> None:
    lines = divide(home, "nosuch")
    assert lines[0].startswith(f"error: --nosuch needs the cgroup controller nosuch: the cgroup {home} does not have it")
    assert lines[1:] == ["True [] []"]


# What a step's error says about its limits


class Counted:
    """A cgroup with these counters."""

    path = "/nowhere"

    def __init__(self, **counts: int) -> None:
        self._counts = counts

    def count(self, file: str, key: str) -> int:
        return self._counts.get(file.replace(".", "_"), 0)


FAILED = StepFailed("RUN exited with status 2", 2, hint="before")


@pytest.mark.parametrize("file", ["memory_oom_control", "memory_events"])
@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (StepFailed("RUN was ended by signal SIGKILL", 137), "RUN was killed: out of memory, limit 512 MiB", 137),
        (SandboxError("the step was killed"), "RUN was killed: out of memory, limit 512 MiB", 137),
        (FAILED, "RUN exited with status 2, and a process of it was killed: out of memory, limit 512 MiB", 2),
    ],
)
def test_the_error_of_a_step_that_ran_out_of_memory_says_so(
    file: str, error: StepFailed, message: str, status: int
) -> None:
    explained = StepCgroup(StepLimits(memory=512 << 20), [Counted(), Counted(**{file: 1})]).explain(error)  # type: ignore[list-item]
    assert isinstance(explained, StepFailed)
    assert (str(explained), explained.status, explained.hint) == (message, status, error.hint)


def test_the_error_of_a_step_that_reached_the_limit_of_processes_says_so() -> None:
    counted = Counted(pids_events=3)
    explained = StepCgroup(StepLimits(pids=7), [counted]).explain(StepFailed("x", 1))  # type: ignore[list-item]
    assert explained.hint == "it tried to start more than 7 processes, the limit (--pids-limit)"
    assert StepCgroup(StepLimits(pids=7), [Counted()]).explain(FAILED) is FAILED  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("size", "text"), [(1 << 30, "1 GiB"), (512 << 20, "512 MiB"), (17 << 10, "17 KiB"), (16777217, "16777217 bytes")]
)
def test_sizes_are_shown_in_the_largest_unit_without_a_fraction(size: int, text: str) -> None:
    assert _shown(size) == text
