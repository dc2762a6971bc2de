"""From the sandbox worker to the command of a RUN: three forks, and the privileges that each process gives up.

    worker --fork--> keeper --fork--> init --fork--> the command
                     new mnt, pid,    pid 1 there:   own session, no capability beyond Docker's,
                     ipc, uts, cgroup mounts, then   seccomp filter, the user of the step
                     (net) namespaces reaps

When init ends, the kernel kills every other process of its pid namespace; once the keeper has waited for init, no
process of the step is left. SIGTERM makes the keeper kill init. Each of the three dies with its parent (PDEATHSIG).

The status pipe carries JSON objects, one a line: {"exit": n}, {"signal": n} or {"error": text, "hint": text}.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
from contextlib import suppress

from pybuild.builder.sandbox import agents, gate, linux, terminal
from pybuild.builder.sandbox.command import close_all_but, run_command
from pybuild.builder.sandbox.loopback import loopback_up
from pybuild.builder.sandbox.mounts import AgentSocket
from pybuild.builder.sandbox.operations import operations_for
from pybuild.builder.sandbox.own_ids import OwnIds
from pybuild.builder.sandbox.report import CONNECT, HOST_NAME, MAKE_NAMESPACES, hint_for, reason, report
from pybuild.builder.sandbox.root import OperationRefused, Root
from pybuild.store.system import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pybuild.builder.sandbox.spec import SandboxSpec

_LINE = 1000  # characters: with its newline it goes into a pipe whole or not at all
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS


class Step:
    """A RUN in progress, as the worker sees it: the keeper's pid and the read end of the status pipe."""

    def __init__(
        self, spec: SandboxSpec, fds: tuple[int, ...], seccomp: bytes, way: socket.socket | None = None
    ) -> None:
        """Start the step. Raises OSError if no process can be made. `fds`: its standard output and error, and the vault if there are secrets; this closes them.

        In a step with a terminal both outputs are the socket over which the terminal is sent. `way` is the socket of a gate
        to the network, if the step has one; the caller closes it.
        """
        self._way = way
        status = -1
        try:
            self.status_fd, status = os.pipe2(os.O_CLOEXEC)
            parent = os.getpid()
            self.pid = os.fork()
            if self.pid == 0:
                self.keep(spec, fds, status, seccomp, parent)
        except OSError:
            if status >= 0:
                os.close(self.status_fd)
            raise
        finally:
            for fd in (*fds, status):
                if fd >= 0:
                    os.close(fd)

    def keep(self, spec: SandboxSpec, fds: tuple[int, ...], status: int, seccomp: bytes, parent: int) -> NoReturn:
        """What the keeper does, in a child of the worker."""
        _keeper(spec, fds, status, seccomp, parent, self._way)

    def stop(self) -> None:
        """Kill the step and wait for its keeper."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        os.close(self.status_fd)

    def result(self) -> dict[str, object]:
        """The step's report. Call this after waiting for the keeper."""
        data = b""
        while chunk := os.read(self.status_fd, 1 << 16):
            data += chunk
        os.close(self.status_fd)
        # Several processes can report; the first report is the cause.
        first = data.partition(b"\n")[0]
        result: dict[str, object] = json.loads(first) if first else {"error": "the step was killed", "hint": None}
        return result


def tie_to(parent: int, number: int = signal.SIGKILL) -> None:
    """Make this process get this signal when its parent dies, or die at once if the parent is gone already."""
    linux.set_pdeathsig(number)
    if os.getppid() != parent:
        os._exit(1)


def _keeper(
    spec: SandboxSpec, fds: tuple[int, ...], status: int, seccomp: bytes, parent: int, way: socket.socket | None
) -> NoReturn:
    init: list[int] = []

    def kill_init(*_: object) -> None:
        for pid in init:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    doing = "prepare to wait for the step"
    relay, agents_fd = -1, -1
    try:
        # Until the keeper knows the pid of init, SIGTERM waits: it must not be lost, and must not leave init alive.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        signal.signal(signal.SIGTERM, kill_init)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # also for init; the command gets all defaults back
        tie_to(parent)
        # The others belong to the worker and to other steps. The gate ends when this process has closed its socket.
        close_all_but(*fds, status, *([way.fileno()] if way is not None else []))
        os.setsid()
        doing = "enter the step's cgroups"
        for directory in spec.cgroups:
            _enter_cgroup(directory)
        if any(isinstance(mount, AgentSocket) for mount in spec.mounts):
            doing = "start the relay to the ssh agent"
            relay, agents_fd = agents.start(signal.SIGKILL)
        doing = MAKE_NAMESPACES
        keeper = os.pidfd_open(os.getpid())
        linux.unshare(_NAMESPACES | (linux.CLONE_NEWNET if spec.new_network else 0))
        try:
            linux.unshare(linux.CLONE_NEWCGROUP)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):  # a kernel without cgroups
                raise
        doing = "start process 1 of the step"
        pid = os.fork()
        if pid == 0:
            _init(spec, fds, status, seccomp, agents_fd, keeper, way)
        init.append(pid)
        doing = "wait for the step"
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        os.waitpid(pid, 0)
        init.clear()
        if way is not None and not spec.terminal and (lost := gate.failure(way)):
            _say(fds[1], f"pybuild: the step has lost its network: {lost}")
    except BaseException as error:
        report(status, {"error": f"cannot {doing}: {reason(error)}", "hint": hint_for(doing, error)})
    finally:  # whatever happens: what a fork returns to is the loop of the worker
        kill_init()
        if relay > 0:
            os.kill(relay, signal.SIGKILL)
            os.waitpid(relay, 0)
        os._exit(0)


def _say(output: int, text: str) -> None:
    """Add a line to the output of a step that has ended, unless the pipe is full: perhaps nobody reads it any more."""
    with suppress(OSError):
        os.set_blocking(output, False)
        os.write(output, f"{text[:_LINE]}\n".encode("utf-8", "replace"))


def _enter_cgroup(directory: str) -> None:
    """Move this process, and so its children, into a cgroup. cgroups(7): 0 is the writing process."""
    fd = os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)


def _init(
    spec: SandboxSpec,
    fds: tuple[int, ...],
    status: int,
    seccomp: bytes,
    agents_fd: int,
    keeper: int,
    way: socket.socket | None,
) -> NoReturn:
    """Process 1 of the step: builds the root filesystem, starts the command, reaps processes, reports the end.

    `keeper` is a pidfd: in the new pid namespace the pid of the parent is 0, so it cannot show that the parent has died.
    """
    doing = "prepare the sandbox"
    try:
        linux.set_pdeathsig(signal.SIGKILL)
        if _has_ended(keeper):
            os._exit(1)
        os.close(keeper)
        linux.set_dumpable(False)
        os.umask(0o022)
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        linux.mount(None, b"/", None, linux.MS_REC | linux.MS_PRIVATE)
        if spec.hostname:
            doing = f"{HOST_NAME} {spec.hostname}"
            socket.sethostname(spec.hostname)
        if spec.new_network:
            doing = "set up the loopback device"
            loopback_up()
        if way is not None and spec.own_ids is None:  # else the command makes its network
            doing = "ask for a way to the network"
            network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            gate.connect(way, network)
            os.close(network)
        stdout, stderr, *vaults = fds
        vault = vaults[0] if vaults else -1
        doing = "prepare the step's own ids"
        own_ids = OwnIds(spec.own_ids, way) if spec.own_ids else None
        root = Root(vault, agents_fd)
        for operation in operations_for(spec):
            doing = f"mount {operation.describe()}"
            operation.execute(root)
        doing = f"enter the working directory {spec.cwd}"
        enter_directory(spec.cwd)
        streams = (stdin, stdout, stderr)
        if spec.terminal:
            doing = "open a terminal"
            # init keeps the terminal open: else reading its master would fail whenever no process has it open.
            streams = (terminal.open_terminal(spec.uid, stdout),) * 3
        else:
            doing = "give the output pipes to the step's user"
            for pipe in (stdout, stderr):
                os.fchown(pipe, spec.uid, -1)  # only its owner can open a pipe by a name such as /dev/stdout
        if way is not None and own_ids is None:
            doing = CONNECT
            gate.wait(way)
        doing = "start the command"
        command = os.fork()
        if command == 0:
            run_command(spec, streams, status, seccomp, vault, own_ids)
        if own_ids is not None:
            doing = "write the step's own ids"
            own_ids.write_maps()
        doing = "give up what only the start of the command needs"
        for fd in (stdin, *fds):
            os.close(fd)
        if way is not None:
            way.close()
        linux.capset(0, 0, 0)
        doing = "wait for the command"
        report_end(command, status)
    except OperationRefused as error:
        report(status, {"error": str(error), "hint": error.hint})
    except BaseException as error:
        report(status, {"error": f"cannot {doing}: {reason(error)}", "hint": hint_for(doing, error)})
    finally:
        os._exit(0)


def report_end(command: int, status: int) -> None:
    """Wait until a command has ended, and report how. Whatever ends before it is waited for too."""
    pid, code = 0, 0
    while pid != command:
        pid, code = os.waitpid(-1, 0)
    if os.WIFSIGNALED(code):
        report(status, {"signal": os.WTERMSIG(code)})
    else:
        report(status, {"exit": os.WEXITSTATUS(code)})


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def enter_directory(cwd: str) -> None:
    """Change to the working directory, and create it if needed. Magic links, such as /proc/self/fd/3, are refused."""
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path = ""
    for part in cwd.split("/"):
        if part:
            path += f"/{part}"
            try:
                fd = syscalls.openat2(root, os.fsencode(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve)
            except FileNotFoundError:
                parent = syscalls.openat2(
                    root, os.fsencode(os.path.dirname(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve
                )
                os.mkdir(part, 0o755, dir_fd=parent)
                os.close(parent)
            else:
                os.close(fd)
    fd = syscalls.openat2(root, os.fsencode(cwd), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve)
    os.fchdir(fd)
    os.close(fd)
    os.close(root)
    # The kernel marks a directory outside the root with "(unreachable)", see getcwd(2).
    if not os.getcwd().startswith("/"):
        raise OperationRefused(f"the working directory {cwd} is outside the image")
