"""Each system call of the sandbox fails once, in real steps: the step fails with a clear text, and nothing else happens.

The steps run in a real worker with real namespaces, mounts and processes. A first step records the calls; then each of them
fails in a step of its own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox import mounts
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.sandbox.spec import SandboxSpec
from tests.builder.sandbox.faults import UNPATCHED, Faults, patched_names, serve
from tests.support.cli import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.builder.sandbox.conftest import EnterNamespaces, InChild

ERRORS = (errno.EPERM, errno.ENOMEM, errno.EINVAL, errno.EMFILE)
# A step does not need what these do: at its end, or in a relay that has its listener.
HARMLESS = {("keeper", "waitpid"), ("relay", "recv_fds")}
# Errors that a machine can give to every step, which are handled.
HANDLED = {
    ("keeper", "unshare", errno.EINVAL),  # no cgroup namespaces
    ("command", "keyctl", errno.EPERM),  # no keyrings in a container
    ("init", "fsconfig", errno.EINVAL),  # a kernel without lowerdir+
    ("command", "prctl", errno.EINVAL),  # the end of the kernel's capabilities
    ("command", "landlock_create_ruleset", errno.EPERM), ("command", "landlock_restrict_self", errno.EPERM),  # forbidden
    ("worker", "recv_fds", errno.EPERM), ("worker", "recv_fds", errno.ENOMEM),  # the frame is read at the next attempt
    ("worker", "recv_fds", errno.EINVAL), ("worker", "recv_fds", errno.EMFILE),
}  # fmt: skip
CAN_FAIL_IN_WORKER = ("fork", "pidfd_open", "pipe2", "recv_fds")  # of close and waitpid only wrong arguments are errors
SENTENCES = {
    ("fsopen", errno.EPERM): ("this container forbids a new /proc, .*",),
    ("fsconfig", errno.EPERM): ("this container forbids a new /proc, .*",),
    ("fsmount", errno.EPERM): ("this container forbids a new /proc, .*",),
    ("close", errno.EPERM): ("this container forbids a new /proc, .*",),
    ("chown", errno.EINVAL): (r"\S+: this namespace maps no user 0 or no group 0",),
    ("setresgid", errno.EINVAL): ("cannot become user 0: this namespace maps no such id",),
    ("setresuid", errno.EINVAL): ("cannot become user 0: this namespace maps no such id",),
    ("open", errno.EINVAL): ("cannot become user 0: this namespace maps no such id",),
    ("execvpe", errno.EPERM): ("/bin/true: cannot be executed as user 0",),
}
EMPTY = ["/bin", "/proc", "/sys", "/dev", "/etc", "/tmp", "/run", "/cache", "/bound", "/tools"]


def make_root(place: Path) -> None:
    for name in EMPTY:
        (place / name[1:]).mkdir(parents=True)
    for name in ("etc/hosts", "etc/resolv.conf", "etc/secret", "etc/made", "run/agent"):
        (place / name).touch()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, place / "bin" / "true")


class Bench:
    """A worker, and the directories for its steps."""

    def __init__(self, place: Path, channel: Channel, pid: int, faults: Faults) -> None:
        self._place = place
        self._channel = channel
        self._faults = faults
        self._steps = 0
        self.pid = pid
        self.terminal = False
        self.in_container = False

    def _spec(self) -> SandboxSpec:
        self._steps += 1
        step = self._place / f"step{self._steps}"
        for name in ("upper", "work", "bound", "bupper", "bwork"):
            (step / name).mkdir(parents=True)
        root, cache = str(self._place / "root"), str(self._place / "cache")
        agent = str(self._place / "no-agent")
        return SandboxSpec(
            argv=("/bin/true",), env=("A=b",), cwd="/tmp/new", uid=0, gid=0, groups=(),
            lowers=(root, str(self._place / "empty")), upper=str(step / "upper"), work=str(step / "work"),
            mountpoint=str(self._place / "mountpoint"), files=str(self._place / "files"),
            resolv_conf="", hosts="x\n", hostname="x", resolv_conf_target="/etc/resolv.conf", hosts_target="/etc/hosts",
            new_network=True, secrets=(("SECRET", 0, 4),), rlimits=((4, 0, 0),), cgroups=(str(self._place / "cgroup"),),
            mounts=(
                mounts.Tmpfs("/tmp", 1 << 20), mounts.Tmpfs("/tmp/made/deep"), mounts.File("/etc/made", "x"),
                mounts.Program("/tools", "tool", "x"), mounts.SecretFile("/etc/secret", 0, 4, 0o400, 0, 0),
                mounts.AgentSocket("/run/agent", agent, 0o600, 0, 0),
                mounts.BoundFiles(
                    "/bound", (root, str(self._place / "empty")), str(step / "bupper"), str(step / "bwork"),
                    str(step / "bound"), "/etc", True, False,
                ),
                mounts.CacheDirectory("/cache", cache, "/", False),
            ),
            terminal=self.terminal,
            own_proc=not self.in_container, own_sys=not self.in_container,
            own_ids=("0 0 1\n", "0 0 1\n") if self.in_container else None,
        )  # fmt: skip

    def step(self, role: str = "", call: str = "", count: int = 0, code: int = 0) -> dict[str, object]:
        """Run a step in which one call fails; return the worker's report."""
        spec = self._spec()
        self._faults.plan(role, call, count, code)
        reader, end = os.pipe()
        vault = os.memfd_create("vault")
        os.write(vault, b"text")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._channel.send({"spec": spec.to_json()}, [theirs.fileno(), theirs.fileno(), end, vault])
            os.close(end)
            os.close(vault)
            with open(reader, "rb") as file:
                report = file.read()
        assert report, "the worker has ended"
        found: dict[str, object] = json.loads(report)
        return found

    def resources(self) -> tuple[list[str], str, str]:
        """Descriptors, mounts and children of the worker."""
        proc = Path(f"/proc/{self.pid}")
        files = sorted(os.readlink(path) for path in (proc / "fd").iterdir())
        return files, _own_mounts((proc / "mountinfo").read_text()), (proc / f"task/{self.pid}/children").read_text()


def _own_mounts(text: str) -> str:
    """The mounts without those that another test has just now, on the machine, where it makes a Debian."""
    return "\n".join(line for line in text.splitlines() if "/mmdebstrap." not in line)


@contextmanager
def bench(place: Path, enter_namespaces: EnterNamespaces) -> Iterator[tuple[Bench, Faults]]:
    enter_namespaces()
    make_root(place / "root")
    for name in ("empty", "cache", "mountpoint", "files", "cgroup"):
        (place / name).mkdir()
    (place / "cgroup" / "cgroup.procs").touch()
    faults = Faults()
    ours, theirs = socket.socketpair()
    faults.plan()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            serve(Channel(theirs), faults)
        finally:
            os._exit(0)
    theirs.close()
    channel = Channel(ours)
    try:
        yield Bench(place, channel, pid, faults), faults
    finally:
        channel.close()
        os.waitpid(pid, 0)


def is_right(role: str, call: str, code: int, report: dict[str, object]) -> bool:
    """Whether this is the report of a step in which a call has failed with an error."""
    if report == {"exit": 0}:  # a relay can end when the command is running already: the step goes on without it
        return role == "relay" or (role, call) in HARMLESS or (role, call, code) in HANDLED
    error = report["error"]
    assert isinstance(error, str)
    if role == "relay":
        return error == "the relay to the ssh agent for /run/agent has ended"
    if any(re.fullmatch(pattern, error) for pattern in SENTENCES.get((call, code), ())):
        return True
    return bool(re.fullmatch(rf"cannot [^:]+: ([a-z_0-9]+: )?{os.strerror(code)}(: \S*)?( \(.*\))?", error))


def failures(
    place: Path, enter_namespaces: EnterNamespaces, role: str, terminal: bool, all_codes: bool, in_container: bool
) -> tuple[int, list[str]]:
    """The number of calls of the process, and what is wrong after one of them has failed."""
    wrong = []
    with bench(place, enter_namespaces) as (worker, faults):
        worker.terminal = terminal
        worker.in_container = in_container
        assert worker.step() == {"exit": 0}
        calls = [one for one in faults.calls(role) if role != "worker" or one[0] in CAN_FAIL_IN_WORKER]
        before = worker.resources()
        for number, (call, count) in enumerate(calls[:: 2 if "PYBUILD_SHARE" in os.environ else 1]):
            for code in ERRORS if all_codes else (ERRORS[number % len(ERRORS)],):
                report = worker.step(role, call, count, code)
                if not is_right(role, call, code, report):
                    wrong.append(f"{call} {count}, {errno.errorcode[code]}: {report}")
                if worker.resources() != before:
                    wrong.append(f"{call} {count}: left {worker.resources()}, not {before}")
        if worker.step() != {"exit": 0}:
            wrong.append("the next step fails")
    return len(calls), wrong


@pytest.mark.parametrize(
    ("role", "terminal", "least"),
    [("worker", False, 4), ("keeper", False, 18), ("relay", False, 5), ("init", True, 185), ("command", True, 24)],
)
def test_a_call_that_fails_ends_its_step_alone(
    tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces, role: str, terminal: bool, least: int
) -> None:
    """Each call fails with one of the errors, in `make test` every second one; with PYBUILD_EVERY_ERROR=1 with each of them."""
    all_codes = bool(os.environ.get("PYBUILD_EVERY_ERROR"))
    calls, wrong = in_child(lambda: failures(tmp_path, enter_namespaces, role, terminal, all_codes, False))
    assert wrong == []
    assert calls >= least


@pytest.mark.parametrize(("role", "least"), [("init", 150), ("command", 29)])
def test_it_does_so_with_the_proc_of_a_container_and_ids_of_its_own(
    tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces, role: str, least: int
) -> None:
    all_codes = bool(os.environ.get("PYBUILD_EVERY_ERROR"))
    calls, wrong = in_child(lambda: failures(tmp_path, enter_namespaces, role, True, all_codes, True))
    assert wrong == []
    assert calls >= least


# frames.py and emulators.py are tested by themselves, the network in tests/e2e/test_step_network.py, and the others belong to steps without
# namespaces: tests/builder/sandbox/test_in_place.py.
ELSEWHERE = {"frames.py", "emulators.py", "gate.py", "netlink.py", "in_place.py", "descendants.py", "container_root.py"}


def test_no_call_of_the_sandbox_is_forgotten() -> None:
    modules = r"\b(?:os|socket|fcntl|resource|signal|select|syscalls)\.[a-z_0-9]+(?=\()"
    used = {
        name
        for path in (CHECKOUT / "builder" / "sandbox").glob("*.py")
        if path.name not in ELSEWHERE
        for name in re.findall(modules, path.read_text())
    }
    assert used - UNPATCHED <= patched_names()
