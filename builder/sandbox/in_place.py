"""Running the command of a step in the root of the container, without any namespace: the worker of --isolation=in-place.

It speaks as worker.py does, and its steps have the same processes but one:

    worker --fork--> keeper --fork--> the command
                     secrets, sockets,  root of the container, own session, at most Docker's capabilities, its user
                     the end of all

Jobs have made the root the file system that the step stands on, and copied there what it mounts (jobs/in_place.py). The keeper
adds what must not be written to a disk, as links to files in /dev/shm, and removes it when the command has ended. It is a
subreaper, and ends everything that the command has started; if the step kills the keeper, the worker does it.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

from pybuild.builder.sandbox import agents, linux
from pybuild.builder.sandbox.command import close_all_but, run_command
from pybuild.builder.sandbox.descendants import end_descendants
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.sandbox.mounts import AgentSocket, Program, SecretFile
from pybuild.builder.sandbox.process import Step, enter_directory, report_end, tie_to
from pybuild.builder.sandbox.report import reason, report
from pybuild.builder.sandbox.root import OperationRefused
from pybuild.builder.sandbox.worker import Worker, raise_open_files
from pybuild.store.system import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pybuild.builder.sandbox.spec import SandboxSpec

MEMORY = "/dev/shm"  # a tmpfs in every container; programs cannot be started there
PROGRAMS = "/pybuild/run"
_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def main(fd: int, _lock: int) -> None:
    """Serve the main process at the other end of the socket `fd` until it is gone.

    The lock of the container's root stays open until then: no other build may use it while a step of this one is ended.
    """
    raise_open_files()
    linux.set_child_subreaper(True)
    InPlaceWorker(Channel(socket.socket(fileno=fd))).serve()


class InPlaceWorker(Worker):
    """A worker whose steps run in the root of the container. The main process starts one after the other."""

    def start(self, spec: SandboxSpec, fds: tuple[int, ...]) -> Step:
        return InPlaceStep(spec, fds, self.seccomp)

    def kill_all(self) -> None:
        for pid in self.keepers():
            os.kill(pid, signal.SIGTERM)
        for pid in self.keepers():
            os.waitpid(pid, 0)
        with suppress(TimeoutError):  # the result of the step has said so
            end_descendants()

    def reap_orphans(self) -> None:
        """The keeper has ended, and with it its step, unless the step has killed it."""
        end_descendants()


class InPlaceStep(Step):
    """A RUN in progress."""

    def keep(self, spec: SandboxSpec, fds: tuple[int, ...], status: int, seccomp: bytes, parent: int) -> NoReturn:
        _keeper(spec, fds, status, seccomp, parent)


def _keeper(spec: SandboxSpec, fds: tuple[int, ...], status: int, seccomp: bytes, parent: int) -> NoReturn:
    doing = "prepare to wait for the step"
    name = f"pybuild-{os.getpid()}-{os.urandom(4).hex()}"
    placed: dict[str, str] = {}  # the target of a link -> where it leads
    try:
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tie_to(parent, signal.SIGTERM)
        close_all_but(*fds, status)
        os.setsid()
        os.umask(0o022)
        linux.set_child_subreaper(True)
        stdout, stderr, *vaults = fds
        vault = vaults[0] if vaults else -1
        os.mkdir(f"{MEMORY}/{name}", 0o711)
        agents_fd = -1
        if any(isinstance(mount, AgentSocket) for mount in spec.mounts):
            doing = "start the relay to the ssh agent"
            _, agents_fd = agents.start(signal.SIGKILL)  # it stays open as long as the step: the relay ends with it
        for number, mount in enumerate(spec.mounts):
            if isinstance(mount, SecretFile | AgentSocket | Program):
                doing = f"make {mount.describe()}"
                place = f"{PROGRAMS}/{name}-{number}" if isinstance(mount, Program) else f"{MEMORY}/{name}/{number}"
                placed[mount.target] = place
                _place(mount, place, vault, agents_fd)
        doing = "start the command"
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        for pipe in (stdout, stderr):
            os.fchown(pipe, spec.uid, -1)
        command = os.fork()
        if command == 0:
            _command(spec, (stdin, stdout, stderr), status, seccomp, vault)
        for fd in (stdin, *fds):
            os.close(fd)
        doing = "wait for the command"
        report_end(command, status)
    except _Leaving:
        pass
    except BaseException as error:
        text = str(error) if isinstance(error, OperationRefused) else f"cannot {doing}: {reason(error)}"
        report(status, {"error": text, "hint": None})
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            with suppress(TimeoutError):  # the worker, whose children they become, tries it too, and says so
                end_descendants()  # the relay too
            _forget(f"{MEMORY}/{name}", spec, placed)
        finally:
            os._exit(0)


class _Leaving(BaseException):
    """The build ends."""


def _leave(*_: object) -> None:
    raise _Leaving


def _command(spec: SandboxSpec, streams: tuple[int, int, int], status: int, seccomp: bytes, vault: int) -> NoReturn:
    """The child that becomes the command."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        root = os.open("/", _DIRECTORY)
        os.fchdir(root)
        os.chroot(".")
        os.close(root)
        enter_directory(spec.cwd)
    except BaseException as error:
        text = str(error) if isinstance(error, OperationRefused) else reason(error)
        report(status, {"error": f"cannot enter the working directory {spec.cwd}: {text}", "hint": None})
        os._exit(127)
    run_command(spec, streams, status, seccomp, vault, None)


def _place(mount: SecretFile | AgentSocket | Program, memory: str, vault: int, agents_fd: int) -> None:
    """Make a file or socket in memory and a link to it at its target."""
    match mount:
        case SecretFile():
            _write(memory, os.pread(vault, mount.size, mount.offset) if mount.size else b"", 0o600)
            os.chown(memory, mount.uid, mount.gid)
            os.chmod(memory, mount.mode)
        case AgentSocket():
            with socket.socket(socket.AF_UNIX) as listener, socket.socket(fileno=os.dup(agents_fd)) as server:
                listener.bind(memory)
                listener.listen()
                socket.send_fds(server, [os.fsencode(mount.path)], [listener.fileno()])
            os.chown(memory, mount.uid, mount.gid)
            os.chmod(memory, mount.mode)
        case _:
            os.mkdir(memory, 0o755)
            _write(f"{memory}/{mount.name}", mount.content.encode("utf-8", "surrogateescape"), 0o755)
    parent, name = _parent(mount.target)
    try:
        _remove(parent, name)
        os.symlink(memory, name, dir_fd=parent)
    finally:
        os.close(parent)


def _write(path: str, data: bytes, mode: int) -> None:
    with open(os.open(path, _NEW_FILE, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)


def _parent(target: str) -> tuple[int, str]:
    """The directory of a target, made if another mount lacks it, and the name in it. No link is followed."""
    *parts, name = target.strip("/").split("/")
    root = os.open("/", _DIRECTORY)
    try:
        fd = os.dup(root)
        for number, part in enumerate(parts):
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=fd)
            os.close(fd)
            fd = syscalls.openat2(root, os.fsencode("/".join(parts[: number + 1])), _DIRECTORY, _RESOLVE)
        return fd, name
    finally:
        os.close(root)


def _existing_parent(target: str) -> tuple[int, str]:
    """The same after the step, which can have removed it: nothing is made. Raises OSError if it is gone or is a link now."""
    parent, _, name = target.strip("/").rpartition("/")
    root = os.open("/", _DIRECTORY)
    try:
        return syscalls.openat2(root, os.fsencode(parent or "."), _DIRECTORY, _RESOLVE), name
    finally:
        os.close(root)


def _remove(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        os.rmdir(name, dir_fd=parent)


def _forget(memory: str, spec: SandboxSpec, placed: dict[str, str]) -> None:
    """Remove what was made for the step, and the links to it, whatever the step has done to either.

    Files of the step in the same directories stay until the next step of this container (jobs/in_place.py).
    """
    programs = {mount.target: mount.name for mount in spec.mounts if isinstance(mount, Program)}
    for target, place in placed.items():
        with suppress(OSError):
            if target in programs:
                os.unlink(f"{place}/{programs[target]}")
                os.rmdir(place)
            else:
                os.unlink(place)
    _unlink_targets(placed)
    with suppress(OSError):
        os.rmdir(memory)


def _unlink_targets(placed: dict[str, str]) -> None:
    for target, place in placed.items():
        with suppress(OSError):
            parent, name = _existing_parent(target)
            try:
                if os.readlink(name, dir_fd=parent) == place:
                    os.unlink(name, dir_fd=parent)
            finally:
                os.close(parent)
