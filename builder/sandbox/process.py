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
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import warnings  # noqa: F401  # os.execvpe imports it, and after pivot_root Python finds no modules
from contextlib import suppress

from pybuild.builder.sandbox import agents, capabilities, linux, terminal
from pybuild.builder.sandbox.mounts import AgentSocket
from pybuild.builder.sandbox.operations import operations_for
from pybuild.builder.sandbox.root import OperationRefused, Root
from pybuild.store.system import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pybuild.builder.sandbox.spec import SandboxSpec

_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_MAKE_NAMESPACES = "make the step's namespaces"
_SETTING_UP = ("prepare the sandbox", "mount ", "set ")  # what can fail because of the machine, not of the recipe
_REFUSALS = frozenset((errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENODEV, errno.EOPNOTSUPP))
_REPORT_TEXT = 500  # characters of a text in a report
_REPORT_BYTES = 1300  # three reports, of keeper, init and command, fit into the smallest pipe: one page, pipe(7)
_SHOWN_PROGRAM = 200  # characters of a program's name in messages
_OPEN_FILES = 1 << 20
_STACK_BYTES = 8 << 20


class Step:
    """A RUN in progress, as the worker sees it: the keeper's pid and the read end of the status pipe."""

    def __init__(self, spec: SandboxSpec, fds: tuple[int, ...], seccomp: bytes) -> None:
        """Start the step. Raises OSError if no process can be made. `fds`: its standard output and error, and the vault if there are secrets; this closes them.

        In a step with a terminal both outputs are the socket over which the terminal is sent.
        """
        status = -1
        try:
            self.status_fd, status = os.pipe2(os.O_CLOEXEC)
            parent = os.getpid()
            self.pid = os.fork()
            if self.pid == 0:
                _keeper(spec, fds, status, seccomp, parent)
        except OSError:
            if status >= 0:
                os.close(self.status_fd)
            raise
        finally:
            for fd in (*fds, status):
                if fd >= 0:
                    os.close(fd)

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


def _report(status: int, result: dict[str, object]) -> None:
    """Write a report. Of long texts the middle is cut out: nothing reads the pipe before the keeper has ended."""
    line = b""
    limit = _REPORT_TEXT
    while not line or len(line) > _REPORT_BYTES:
        cut = {name: _shortened(value, limit) if isinstance(value, str) else value for name, value in result.items()}
        line = json.dumps(cut).encode("ascii") + b"\n"
        limit //= 2
    os.write(status, line)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[len(text) - limit // 2 :]}"


def _tie_to(parent: int) -> None:
    """Make this process die with its parent, or at once if the parent is gone already."""
    linux.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _keeper(spec: SandboxSpec, fds: tuple[int, ...], status: int, seccomp: bytes, parent: int) -> NoReturn:
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
        _tie_to(parent)
        _close_all_but(*fds, status)  # the others belong to the worker and to other steps
        os.setsid()
        doing = "enter the step's cgroups"
        for directory in spec.cgroups:
            _enter_cgroup(directory)
        if any(isinstance(mount, AgentSocket) for mount in spec.mounts):
            doing = "start the relay to the ssh agent"
            relay, agents_fd = agents.start(signal.SIGKILL)
        doing = _MAKE_NAMESPACES
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
            _init(spec, fds, status, seccomp, agents_fd, keeper)
        init.append(pid)
        doing = "wait for the step"
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        os.waitpid(pid, 0)
        init.clear()
    except BaseException as error:
        _report(status, {"error": f"cannot {doing}: {_reason(error)}", "hint": _hint(doing, error)})
    finally:  # whatever happens: what a fork returns to is the loop of the worker
        kill_init()
        if relay > 0:
            os.kill(relay, signal.SIGKILL)
            os.waitpid(relay, 0)
        os._exit(0)


def _enter_cgroup(directory: str) -> None:
    """Move this process, and so its children, into a cgroup. cgroups(7): 0 is the writing process."""
    fd = os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)


def _init(
    spec: SandboxSpec, fds: tuple[int, ...], status: int, seccomp: bytes, agents_fd: int, keeper: int
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
        doing = f"set the host name {spec.hostname}"
        socket.sethostname(spec.hostname)
        if spec.new_network:
            doing = "set up the loopback device"
            _loopback_up()
        stdout, stderr, *vaults = fds
        vault = vaults[0] if vaults else -1
        root = Root(vault, agents_fd)
        for operation in operations_for(spec):
            doing = f"mount {operation.describe()}"
            operation.execute(root)
        doing = f"enter the working directory {spec.cwd}"
        _enter_directory(spec.cwd)
        streams = (stdin, stdout, stderr)
        if spec.terminal:
            doing = "open a terminal"
            # init keeps the terminal open: else reading its master would fail whenever no process has it open.
            streams = (terminal.open_terminal(spec.uid, stdout),) * 3
        else:
            doing = "give the output pipes to the step's user"
            for pipe in (stdout, stderr):
                os.fchown(pipe, spec.uid, -1)  # only its owner can open a pipe by a name such as /dev/stdout
        doing = "start the command"
        command = os.fork()
        if command == 0:
            _command(spec, streams, status, seccomp, vault)
        doing = "give up what only the start of the command needs"
        for fd in (stdin, *fds):
            os.close(fd)
        linux.capset(0, 0, 0)
        doing = "wait for the command"
        pid, code = 0, 0
        while pid != command:
            pid, code = os.waitpid(-1, 0)
        if os.WIFSIGNALED(code):
            _report(status, {"signal": os.WTERMSIG(code)})
        else:
            _report(status, {"exit": os.WEXITSTATUS(code)})
    except OperationRefused as error:
        _report(status, {"error": str(error), "hint": error.hint})
    except BaseException as error:
        _report(status, {"error": f"cannot {doing}: {_reason(error)}", "hint": _hint(doing, error)})
    finally:
        os._exit(0)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _command(spec: SandboxSpec, streams: tuple[int, int, int], status: int, seccomp: bytes, vault: int) -> NoReturn:
    """The last steps before exec. Each one in this order still allows the next."""
    doing = "read the secrets"
    try:
        # Only this process reads secrets into its memory, which exec replaces.
        env: dict[str, str | bytes] = {**dict(pair.split("=", 1) for pair in spec.env)}
        env |= {name: os.pread(vault, size, offset) if size else b"" for name, offset, size in spec.secrets}
        doing = "connect the output of the command"
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        doing = "reset the signals"
        # Python ignores SIGPIPE and SIGXFSZ, and exec would keep that: `yes | head` would print an error.
        linux.reset_signals()
        doing = "make a session"
        os.setsid()
        if spec.terminal:
            terminal.take_control()
        doing = "set the limits of the command"
        _set_limits()
        for number, soft, hard in spec.rlimits:
            resource.setrlimit(number, (soft, hard))
        doing = "make a session keyring"
        try:
            linux.join_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # no keyrings in the kernel, or forbidden in a container
                raise
        doing = "read the capabilities"
        allowed = capabilities.bounding_set()
        if not spec.insecure:
            doing = "load the seccomp filter"
            # This needs CAP_SYS_ADMIN, because no_new_privs stays off: sudo and other setuid programs must work.
            linux.seccomp_set_mode_filter(seccomp)
            doing = "give up capabilities"
            allowed = capabilities.DEFAULT_MASK
            capabilities.limit_bounding_set(allowed)
        doing = f"become user {spec.uid}"
        if _may_set_groups():
            os.setgroups(spec.groups)
        os.setresgid(spec.gid, spec.gid, spec.gid)
        os.setresuid(spec.uid, spec.uid, spec.uid)
        doing = "give up capabilities"
        mask = allowed if spec.uid == 0 else 0
        linux.capset(mask, mask, 0)
        linux.clear_ambient()
        doing = "close the files of pybuild"
        # All descriptors of the worker are close-on-exec. A mistake there would let the step report its own result.
        os.set_inheritable(status, False)
        _close_all_but(status)
        doing = ""
        os.execvpe(spec.argv[0], spec.argv, env)
    except BaseException as error:
        if not doing:
            text = _exec_error(spec, error)
        elif isinstance(error, OSError) and error.errno == errno.EINVAL and doing.startswith("become"):
            text = f"cannot {doing}: this namespace maps no such id"
        else:
            text = f"cannot {doing}: {_reason(error)}"
        _report(status, {"error": text, "hint": None})
    finally:
        os._exit(127)


def _exec_error(spec: SandboxSpec, error: BaseException) -> str:
    program = spec.argv[0] if len(spec.argv[0]) <= _SHOWN_PROGRAM else f"{spec.argv[0][: _SHOWN_PROGRAM - 1]}…"
    if isinstance(error, FileNotFoundError):
        return f"{program}: not found in the image"
    if isinstance(error, PermissionError):
        return f"{program}: cannot be executed as user {spec.uid}"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return f"cannot start {program}: the command and its environment exceed the kernel's limit"
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return f"cannot start {program}: {reason}"


def _reason(error: BaseException) -> str:
    """What the kernel said, with the call or the path that it said it about."""
    if not isinstance(error, OSError) or not error.errno:
        return str(error) or type(error).__name__
    text = error.strerror or os.strerror(error.errno)
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return text if name is None else f"{text}: {name}"


def _hint(doing: str, error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return "the machine or a cgroup has its limit of processes"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "this process or the machine has its limit of open files"
    if doing == _MAKE_NAMESPACES:
        return "pybuild needs them for RUN only; pybuild doctor says what this machine lacks"
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return None
    if doing.startswith("mount overlay"):
        return (
            "the filesystem of the store might be one that overlayfs cannot use, such as an overlay itself (the root of a"
            " container) or NFS: choose another place with --root, for example a volume; pybuild doctor tries it"
        )
    return "pybuild doctor says what this machine lacks" if doing.startswith(_SETTING_UP) else None


def _close_all_but(*descriptors: int) -> None:
    """Close all descriptors except 0, 1, 2 and these."""
    first = 3
    for descriptor in sorted(descriptors):
        if descriptor > first:
            linux.close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    linux.close_range(first)


def _set_limits() -> None:
    """No core dumps, which would end up in the layer; many open files; the usual stack. Hard limits only go down."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, wanted in ((resource.RLIMIT_NOFILE, _OPEN_FILES), (resource.RLIMIT_STACK, _STACK_BYTES)):
        hard = resource.getrlimit(kind)[1]
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (soft, hard if kind == resource.RLIMIT_STACK else soft))


def _may_set_groups() -> bool:
    with open("/proc/self/setgroups", encoding="ascii") as file:
        return file.read().strip() == "allow"


def _enter_directory(cwd: str) -> None:
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


def _loopback_up() -> None:
    """Set IFF_UP on lo, see netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
