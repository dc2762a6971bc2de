"""The sandbox worker: a small process in a user and mount namespace that starts steps and waits for them.

It runs as `python -SI` and imports the standard library and this package at its start, later nothing more. So a step
costs a fork instead of an interpreter. It owns nothing: when the connection to the main process ends, for any reason,
it kills every step and exits.

    worker -> main   {"unshared": pid} | {"refused": text, "errno": n}                    a namespace was made, or not
    main -> worker   {"mapped": true, "try": bool}                                        its id map is written
    worker -> main   {"entered": pid} | {"refused": text, "errno": n}                     other processes can enter it now;
                     with "pieces": {name: text} if it had to try what steps are refused here (trial.py)
    main -> worker   {"spec": {...}} with descriptors for stdout, stderr and the end,     start a step
                     and a fourth one, the vault, if there are secrets
    main -> worker   {"uplink": {...}}                                                    try a way to the network;
    worker -> main   {"uplink": text}                                                     "" if it works, else why not
    main -> worker   {"emulate": [{...}, ...]}                                            what steps need (emulators.py)
    worker -> main   {"emulated": {processor: {...}}}
    end of the step  {"exit": n} | {"signal": n} | {"error": text, "hint": text}          on its own descriptor, then EOF
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import socket
from contextlib import contextmanager, suppress
from dataclasses import asdict

from pybuild.builder.sandbox import gate, linux, seccomp
from pybuild.builder.sandbox.emulators import Emulators, Wanted
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.sandbox.process import Step
from pybuild.builder.sandbox.report import reason
from pybuild.builder.sandbox.spec import SandboxSpec
from pybuild.builder.sandbox.trial import refused_pieces
from pybuild.builder.sandbox.uplink import Uplink

_STILL_RUNNING = "they run on in this container, and can change what later steps see: start it anew"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def main(fd: int) -> None:
    """Serve the main process at the other end of the socket `fd` until it is gone."""
    raise_open_files()
    channel = Channel(socket.socket(fileno=fd))
    try:
        enter_namespaces(channel)
    except EOFError:
        return
    except OSError as error:
        channel.send({"refused": str(error), "errno": error.errno})
        return
    Worker(channel).serve()


def raise_open_files() -> None:
    """Allow as many open files as possible: three for each step. Commands get limits of their own."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def enter_namespaces(channel: Channel) -> None:
    """Make a user and a mount namespace. The main process writes the id maps, because that can take newuidmap."""
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    channel.send({"unshared": os.getpid()})
    message, _ = channel.receive()  # "mapped"
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # A change of ids clears this, and job workers could not enter the namespaces. Steps never see this process: they have
    # a namespace of processes or, where they have the machine's /proc, of users.
    linux.set_dumpable(True)
    linux.mount(None, b"/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.set_child_subreaper(True)
    channel.send({"entered": os.getpid(), "pieces": refused_pieces() if message["try"] else {}})


class Worker:
    """The event loop: one thread, any number of steps at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._steps: dict[int, tuple[Step, int]] = {}  # pidfd -> step, the descriptor for its result
        self._gate: gate.Gate | None = None  # one that no step uses yet
        self.seccomp = seccomp.load_filter()
        self._emulators = Emulators()
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Serve until the main process is gone."""
        try:
            while True:
                for fd, _ in self._poll.poll():
                    if fd == self._channel.fileno():
                        self._receive()
                        while self._channel.has_message():
                            self._receive()
                    else:
                        self._finish(fd)
        except EOFError:
            pass
        finally:
            self.kill_all()

    def start(self, spec: SandboxSpec, fds: tuple[int, ...]) -> Step:
        """Start a step. Raises OSError."""
        with self._way(spec) as way:
            return Step(spec, fds, self.seccomp, way)

    def _receive(self) -> None:
        try:
            message, fds = self._channel.receive()
        except OSError:  # the descriptors of this step got lost on the way; the main process sees their ends closed
            return
        if "uplink" in message:
            assert isinstance(message["uplink"], dict)
            self._gate, problem = gate.prove(Uplink.from_json(message["uplink"]))
            self._channel.send({"uplink": problem})
            return
        if "emulate" in message:
            wanted = message["emulate"]
            assert isinstance(wanted, list)
            found = self._emulators.add([Wanted(**one) for one in wanted])
            self._channel.send({"emulated": {name: asdict(one) for name, one in found.items()}})
            return
        assert isinstance(message["spec"], dict)
        spec = SandboxSpec.from_json(message["spec"])
        stdout, stderr, end, *vault = fds
        step = None
        try:
            step = self.start(spec, (stdout, stderr, *vault))
            pidfd = os.pidfd_open(step.pid)
        except OSError as error:  # one step that cannot start does not end the others
            if step is not None:
                step.stop()
            limit = "open files" if error.errno in (errno.EMFILE, errno.ENFILE) else "processes"
            _send_result(
                end,
                {
                    "error": f"cannot start a process for the step: {error.strerror}",
                    "hint": f"the machine or a cgroup has its limit of {limit}",
                },
            )
            return
        self._steps[pidfd] = step, end
        self._poll.register(pidfd, select.POLLIN)
        if spec.uplink is not None and spec.gate_ahead and self._gate is None:
            with suppress(OSError):  # then the next step starts its gate, and says what is wrong
                self._gate = gate.Gate(spec.uplink)

    @contextmanager
    def _way(self, spec: SandboxSpec) -> Iterator[socket.socket | None]:
        """A gate to the network, if the step is to have one: that of the trial, if no step has it yet."""
        if spec.uplink is None:
            yield None
            return
        found, self._gate = self._gate or gate.Gate(spec.uplink), None
        try:
            yield found.socket
        finally:
            found.close()  # the step holds it now

    def _finish(self, pidfd: int) -> None:
        step, end = self._steps.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        os.waitpid(step.pid, 0)
        result = step.result()
        try:
            self.reap_orphans()
        except OSError as error:
            result = {"error": f"cannot end what the step has started: {reason(error)}", "hint": _STILL_RUNNING}
        _send_result(end, result)

    def reap_orphans(self) -> None:
        """Wait for processes of steps whose keeper was killed: the kernel makes them children of the worker.

        Raises OSError if some of them cannot be ended.
        """
        keepers = self.keepers()
        with suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in keepers:
                    return  # its own event comes next
                os.waitpid(found.si_pid, 0)

    def keepers(self) -> set[int]:
        """The processes that wait for the steps."""
        return {step.pid for step, _ in self._steps.values()}

    def kill_all(self) -> None:
        """End all steps and wait until they have ended."""
        if self._gate is not None:
            self._gate.close()
        for pid in self.keepers():
            os.kill(pid, signal.SIGTERM)
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass  # every process of every step has ended, and every gate


def _send_result(end: int, result: dict[str, object]) -> None:
    """Tell the main process how a step ended, and close the descriptor."""
    try:
        os.write(end, json.dumps(result).encode("ascii"))
    except OSError:  # the build no longer waits for this step
        pass
    finally:
        os.close(end)
