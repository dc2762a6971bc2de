"""The main process's side of the sandbox worker, which runs the commands of RUN steps."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError, SandboxError
from pybuild.builder.host.obstacles import SEE_DOCTOR, user_namespace_obstacle
from pybuild.builder.sandbox.emulators import Found
from pybuild.builder.sandbox.terminal import receive_terminal
from pybuild.builder.workers.process import WorkerProcess, packages_directory
from pybuild.builder.workers.tasks import wait_readable
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.host.id_map import IdMap
    from pybuild.builder.sandbox.emulators import Wanted
    from pybuild.builder.sandbox.frames import Message
    from pybuild.builder.sandbox.spec import SandboxSpec
    from pybuild.builder.sandbox.uplink import Uplink

_PIPE = 1 << 16
_UNCONFINED = (
    "start the container with --security-opt apparmor=unconfined or, with SELinux, label=disable; in Kubernetes with the"
    " appArmorProfile Unconfined"
)
_OPEN_FILES_HINT = "this process or the machine has its limit of open files"


@frozen
class Status:
    """How a command ended: `code` as a shell reports it, and the number of the signal that ended it, or None."""

    code: int
    signal: int | None


class SandboxWorker:
    """A worker in a fresh user and mount namespace with the given id map.

    `refused` are the pieces of a step's isolation that the kernel refuses here, each with what it says, if the worker was
    to try them (sandbox/trial.py).
    """

    def __init__(self, id_map: IdMap | None, *, attempt: bool = False, lock: int = -1) -> None:
        """Start it. Without an id map it makes no namespaces, and its steps run in the root of the container, of which it
        then has the `lock` as long as it lives.

        Raises PrivilegeError if this machine does not allow a user namespace, or not this map.
        """
        self.refused: dict[str, str] = {}
        self._attempt = attempt
        module = "worker" if id_map is not None else "in_place"
        self._process = WorkerProcess(
            f"pybuild.builder.sandbox.{module}", paths=[packages_directory()], pass_fds=(lock,) if lock >= 0 else ()
        )
        try:
            if id_map is not None:
                self._enter(id_map)
        except BaseException:
            self._process.close()
            raise

    @property
    def pid(self) -> int:
        """The process whose namespaces other workers enter."""
        return self._process.pid

    def try_uplink(self, uplink: Uplink) -> str:
        """Whether steps can reach the network through it: "" or why not. Call it before the first step that needs it."""
        try:
            self._process.channel.send({"uplink": asdict(uplink)})
            return str(self._process.channel.receive()[0]["uplink"])
        except EOFError:
            raise _worker_ended() from None

    async def run(self, spec: SandboxSpec, on_output: Callable[[int, bytes], None], vault: int = -1) -> Status:
        """Run one command to its end; `on_output` gets (1 or 2, bytes) as they arrive. Raises SandboxError.

        `vault` is the descriptor of the secrets that the spec refers to, or -1.
        """
        readers: dict[int, int] = {}  # descriptor -> stream; the worker reports the end of the step on stream 0
        writers: list[int] = []
        try:
            for stream in (1, 2, 0):
                reader, writer = _pipe()
                os.set_blocking(reader, False)
                readers[reader] = stream
                writers.append(writer)
            self._start(spec, writers, vault)
            for writer in writers:
                os.close(writer)
            writers.clear()
            report = await _watch(readers, on_output)
        finally:
            for fd in (*readers, *writers):
                os.close(fd)
        return self._status(report)

    def run_on_terminal(self, spec: SandboxSpec, relay: Callable[[int, int], None], vault: int = -1) -> None:
        """Run a command on a terminal while nothing else runs. Its exit status is ignored.

        `relay` gets the terminal's master and a descriptor that becomes readable when the command has ended; it can
        return earlier. Raises SandboxError if the command cannot be started.
        """
        ended, end = _pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with ours:
                try:
                    with theirs:
                        self._start(spec, (theirs.fileno(), theirs.fileno(), end), vault)
                finally:
                    os.close(end)
                terminal = receive_terminal(ours)
            if terminal is None:
                select.select([ended], [], [])
            else:
                try:
                    relay(terminal, ended)
                finally:
                    os.close(terminal)
            os.set_blocking(ended, False)
            try:
                report = os.read(ended, _PIPE)
            except BlockingIOError:
                return
        finally:
            os.close(ended)
        self._status(report)

    def emulate(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """Have the kernel start programs of other processors in steps; return what came of it by processor.

        Called while no step is being started. Raises SandboxError.
        """
        try:
            self._process.channel.send({"emulate": [asdict(one) for one in wanted]})
            message, _ = self._process.channel.receive()
        except EOFError:
            raise _worker_ended() from None
        found = message["emulated"]
        assert isinstance(found, dict)
        return {name: Found(**one) for name, one in found.items()}

    def close(self) -> None:
        """Kill all running commands and end the worker. Idempotent."""
        self._process.close()

    def _start(self, spec: SandboxSpec, fds: Sequence[int], vault: int) -> None:
        try:
            self._process.channel.send({"spec": spec.to_json()}, [*fds, *([vault] if vault >= 0 else [])])
        except EOFError:
            raise _worker_ended() from None

    def _status(self, report: bytes) -> Status:
        """Read the worker's report on the end of a step. Raises SandboxError if the step could not run."""
        if not report:
            if self._process.has_ended():
                raise _worker_ended()
            raise SandboxError("the sandbox worker could not open what the step needs", hint=_OPEN_FILES_HINT)
        result: dict[str, object] = json.loads(report)
        if "exit" in result:
            return Status(int(str(result["exit"])), None)
        if "signal" in result:
            return Status(128 + int(str(result["signal"])), int(str(result["signal"])))
        hint = result.get("hint")
        raise SandboxError(str(result["error"]), hint=str(hint) if hint else None)

    def _enter(self, id_map: IdMap) -> None:
        try:
            self._expect("unshared")
        except (EOFError, OSError) as error:
            obstacle = user_namespace_obstacle(error.errno if isinstance(error, OSError) else None)
            raise PrivilegeError(
                f"RUN needs a user namespace, and this machine refuses one: {obstacle.problem}",
                hint=f"{obstacle.fix}; {SEE_DOCTOR}",
            ) from error
        try:
            id_map.write(self._process.pid)
            self._process.channel.send({"mapped": True, "try": self._attempt})
        except (EOFError, OSError) as error:
            raise PrivilegeError(
                f"RUN needs a user namespace, and the kernel refuses its id map {id_map.name}: {error}", hint=SEE_DOCTOR
            ) from error
        try:
            pieces = self._expect("entered")["pieces"]
        except (EOFError, OSError) as error:
            # Seccomp filters and namespaces answer EPERM; AppArmor and SELinux answer EACCES.
            module = isinstance(error, OSError) and error.errno == errno.EACCES
            raise PrivilegeError(
                f"RUN needs a mount namespace, and {'a security module' if module else 'the kernel'} refuses to change its"
                f" mounts: {error}",
                hint=_UNCONFINED if module else SEE_DOCTOR,
            ) from error
        assert isinstance(pieces, dict)
        self.refused = pieces

    def _expect(self, word: str) -> Message:
        """Wait until the worker sends `word`. Raises OSError if it sends an error of the kernel instead."""
        message, _ = self._process.channel.receive()
        if word not in message:
            number = message.get("errno")
            raise OSError(number if isinstance(number, int) else errno.EIO, str(message.get("refused")))
        return message


async def _watch(readers: dict[int, int], on_output: Callable[[int, bytes], None]) -> bytes:
    """Pass on output until the worker reports the step's end, then what is left in the pipes. Returns the report.

    It does not wait for the end of the pipes: no process can write to them after the step has ended.
    """
    (ending,) = (fd for fd, stream in readers.items() if not stream)
    watched = dict(readers)
    report = b""
    while ending in watched:
        ready = await wait_readable(*watched)
        for fd in [fd for fd in watched if fd in ready]:
            if fd == ending:
                data = os.read(fd, _PIPE)
                report += data
                if not data:
                    del watched[fd]
            elif not _pass_on(fd, watched[fd], on_output):
                del watched[fd]
    for fd, stream in readers.items():
        while fd != ending and _pass_on(fd, stream, on_output):
            pass
    return report


def _pipe() -> tuple[int, int]:
    """A pipe. Raises SandboxError if this process or the machine can open no more files."""
    try:
        return os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError(f"cannot make a pipe for a step: {error.strerror}", hint=_OPEN_FILES_HINT) from error


def _pass_on(fd: int, stream: int, on_output: Callable[[int, bytes], None]) -> bool:
    """Read once. Returns False at the end of the pipe, and if the pipe is empty for now."""
    try:
        data = os.read(fd, _PIPE)
    except BlockingIOError:
        return False
    if data:
        on_output(stream, data)
    return bool(data)


def _worker_ended() -> SandboxError:
    return SandboxError("the sandbox worker ended unexpectedly", hint="it was killed, or the machine is out of memory")
