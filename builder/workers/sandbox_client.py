"""The main process's side of the sandbox worker."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError, SandboxError
from pybuild.builder.host.obstacles import SEE_DOCTOR, user_namespace_obstacle
from pybuild.builder.sandbox.terminal import receive_terminal
from pybuild.builder.workers.process import WorkerProcess, packages_directory
from pybuild.builder.workers.tasks import wait_readable
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.host.id_map import IdMap
    from pybuild.builder.sandbox.spec import SandboxSpec

_PIPE = 1 << 16


@frozen
class Status:
    """How a command ended: `code` as a shell gives it; `signal` where one ended it."""

    code: int
    signal: int | None


class SandboxWorker:
    """A worker in a fresh user and mount namespace with the given id map."""

    def __init__(self, id_map: IdMap) -> None:
        """Raises PrivilegeError where this machine allows no user namespace, or not this map."""
        self._process = WorkerProcess("pybuild.builder.sandbox.worker", paths=[packages_directory()])
        try:
            self._enter(id_map)
        except BaseException:
            self._process.close()
            raise

    @property
    def pid(self) -> int:
        """The process whose namespaces others may enter."""
        return self._process.pid

    async def run(self, spec: SandboxSpec, on_output: Callable[[int, bytes], None], vault: int = -1) -> Status:
        """Run one command to its end; `on_output` gets (1 or 2, bytes) as they come. Raises SandboxError.

        `vault` is the descriptor of the secrets that the spec speaks of.
        """
        readers: dict[int, int] = {}  # descriptor -> stream; 0 is the one that tells how the step ended
        writers = []
        for stream in (1, 2, 0):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            readers[reader] = stream
            writers.append(writer)
        try:
            self._start(spec, writers, vault)
            for writer in writers:
                os.close(writer)
            writers.clear()
            told = await _watch(readers, on_output)
        finally:
            for fd in (*readers, *writers):
                os.close(fd)
        return _status(told)

    def run_on_terminal(self, spec: SandboxSpec, relay: Callable[[int, int], None], vault: int = -1) -> None:
        """Run a command on a terminal while nothing else goes on; how it ends is nobody's concern.

        `relay` gets the terminal's master and a descriptor that can be read when the command has ended; it may return
        before. Raises SandboxError where the command cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ended, end = os.pipe2(os.O_CLOEXEC)
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
                told = os.read(ended, _PIPE)
            except BlockingIOError:
                return
        finally:
            os.close(ended)
        _status(told)

    def close(self) -> None:
        """Kill what runs and end the worker. Idempotent."""
        self._process.close()

    def _start(self, spec: SandboxSpec, fds: Sequence[int], vault: int) -> None:
        try:
            self._process.channel.send({"spec": spec.to_json()}, [*fds, *([vault] if vault >= 0 else [])])
        except EOFError:
            raise _gone() from None

    def _enter(self, id_map: IdMap) -> None:
        try:
            self._expect("unshared")
        except (EOFError, OSError) as error:
            obstacle = user_namespace_obstacle(error.errno if isinstance(error, OSError) else None)
            raise PrivilegeError(
                f"RUN needs a user namespace, and this machine refuses one: {obstacle.what}",
                hint=f"{obstacle.fix}; {SEE_DOCTOR}",
            ) from error
        try:
            id_map.write(self._process.pid)
            self._process.channel.send({"mapped": True})
            self._expect("entered")
        except (EOFError, OSError) as error:
            raise PrivilegeError(
                f"RUN needs a user namespace, and its id map ({id_map.name}) is refused: {error}", hint=SEE_DOCTOR
            ) from error

    def _expect(self, word: str) -> None:
        """Wait for the worker to say `word`. Raises OSError where it says instead what the kernel refused."""
        message, _ = self._process.channel.receive()
        if word not in message:
            number = message.get("errno")
            raise OSError(number if isinstance(number, int) else errno.EIO, str(message.get("refused")))


async def _watch(readers: dict[int, int], on_output: Callable[[int, bytes], None]) -> bytes:
    """Pass on output until the step's end is told, then what is left in the pipes.

    The end of the pipes is not waited for: when the step has ended nobody can write to them any more.
    """
    (ending,) = (fd for fd, stream in readers.items() if not stream)
    watched = dict(readers)
    told = b""
    while ending in watched:
        ready = await wait_readable(*watched)
        for fd in [fd for fd in watched if fd in ready]:
            if fd == ending:
                data = os.read(fd, _PIPE)
                told += data
                if not data:
                    del watched[fd]
            elif not _pass_on(fd, watched[fd], on_output):
                del watched[fd]
    for fd, stream in readers.items():
        while fd != ending and _pass_on(fd, stream, on_output):
            pass
    return told


def _status(told: bytes) -> Status:
    """What the worker told of the end of a step. Raises SandboxError."""
    if not told:
        raise _gone()
    result: dict[str, object] = json.loads(told)
    if "exit" in result:
        return Status(int(str(result["exit"])), None)
    if "signal" in result:
        return Status(128 + int(str(result["signal"])), int(str(result["signal"])))
    hint = result.get("hint")
    raise SandboxError(str(result["error"]), hint=str(hint) if hint else None)


def _pass_on(fd: int, stream: int, on_output: Callable[[int, bytes], None]) -> bool:
    """Read once; answer whether there may be more."""
    try:
        data = os.read(fd, _PIPE)
    except BlockingIOError:
        return False
    if data:
        on_output(stream, data)
    return bool(data)


def _gone() -> SandboxError:
    return SandboxError("the sandbox worker has ended", hint="it was killed, or the machine is out of memory")
