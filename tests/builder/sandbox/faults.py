"""System calls that fail once, in a chosen process of a step.

`Faults.install` replaces the functions of the sandbox that make system calls. The replacements count the calls of each
process of a step by name, write them down, and let one of them fail. Plan and record are in memory that all the processes
share, because a step closes its descriptors and changes its root.
"""

from __future__ import annotations

import builtins
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from pybuild.builder.sandbox import agents, linux, process
from pybuild.builder.sandbox.worker import Worker
from pybuild.store.system import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pybuild.builder.sandbox.frames import Channel

ROLES = ("worker", "keeper", "relay", "init", "command")
_REGION = 1 << 16  # bytes of the record of one process, after as many for the plan
_PATCHED: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (os, (
        "chdir", "chmod", "chown", "close", "dup", "dup2", "execvpe", "fchdir", "fchmod", "fchown", "fork", "fstat", "fstatvfs", "getcwd",
        "mkdir", "open", "openpty", "pidfd_open", "pipe2", "pread", "readlink", "set_blocking", "set_inheritable", "setgroups", "setresgid", "setresuid",
        "setsid", "symlink", "umask", "waitpid", "write",
    )),
    (socket, ("sethostname", "send_fds", "recv_fds", "socketpair")),
    (fcntl, ("ioctl",)),
    (resource, ("getrlimit", "setrlimit")),
    (signal, ("pthread_sigmask", "signal")),
    (select, ("poll",)),
    (builtins, ("open",)),
    (syscalls, ("openat2",)),
)  # fmt: skip
# Calls that cannot fail, that make no system call, or whose failure has no effect that the sandbox could handle.
UNPATCHED = frozenset(
    ("os._exit", "os.fsdecode", "os.fsencode", "os.getpid", "os.getppid", "os.kill", "os.makedev", "os.read", "os.strerror",
     "os.waitid", "socket.socket", "syscalls.machine")
)  # fmt: skip


def patched_names() -> frozenset[str]:
    """The functions that `Faults` replaces, as `module.name`; those of `linux` all go through one function."""
    return frozenset(f"{module.__name__.rpartition('.')[2]}.{name}" for module, names in _PATCHED for name in names)


class Faults:
    """The shared plan and record."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _REGION * (1 + len(ROLES)))
        self._generation = 0

    def plan(self, role: str = "", call: str = "", count: int = 0, errno: int = 0) -> None:
        """Let the call of this name that is number `count` in this process fail in the next step; by default none."""
        self._generation += 1
        data = json.dumps([self._generation, role, call, count, errno]).encode()
        self._memory[: len(data) + 1] = data + b"\n"
        for number in range(1, len(ROLES) + 1):
            self._memory[number * _REGION] = ord("\n")

    def calls(self, role: str) -> list[tuple[str, int]]:
        """The calls that this process of the last step has made, with their numbers; of each place in the code the first."""
        start = _REGION * (1 + ROLES.index(role))
        record = self._memory[start : self._memory.find(b"\n", start)].decode()
        counts: dict[str, int] = {}
        found: dict[str, tuple[str, int]] = {}
        for word in record.split():
            name = word.partition("@")[0]
            counts[name] = counts.get(name, 0) + 1
            found.setdefault(word, (name, counts[name]))
        return list(found.values())

    def install(self) -> None:
        """Replace the functions, in this process and in those that it forks."""
        state = _Process(self._memory)
        real_call = syscalls.call

        def call(name: str, *args: Any, about: Any = None) -> int:
            state.enter(name, lambda errno: syscalls.raise_error(errno, name, about))
            return real_call(name, *args, about=about)

        linux.call = call  # type: ignore[assignment,attr-defined]
        for module, names in _PATCHED:
            for name in names:
                setattr(module, name, state.failing(name, getattr(module, name)))
        for role, module, name in (
            ("keeper", process, "_keeper"), ("init", process, "_init"), ("command", process, "run_command"),
            ("relay", agents, "_serve"),
        ):  # fmt: skip
            setattr(module, name, state.taking(role, getattr(module, name)))


def _place() -> str:
    """The lines in the sandbox that the call comes from: those of the function that makes it, and of its caller."""
    frame = sys._getframe(1)
    places: list[str] = []
    while frame.f_back is not None and len(places) < 2:
        frame = frame.f_back
        name = os.path.basename(frame.f_code.co_filename)
        if name not in ("faults.py", "linux.py", "syscalls.py"):
            places.append(f"{name}:{frame.f_lineno}")
    return "<".join(places)


class _Process:
    """The counters of one process."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._role = "worker"
        self._generation = 0
        self._counts: dict[str, int] = {}

    def enter(self, name: str, fail: Callable[[int], None]) -> None:
        """Note a call; fail if it is the one of the plan."""
        generation, role, planned, count, errno = json.loads(self._memory[:_REGION].partition(b"\n")[0])
        if generation != self._generation:
            self._generation = generation
            self._counts.clear()
        self._counts[name] = self._counts.get(name, 0) + 1
        start = _REGION * (1 + ROLES.index(self._role))
        end = self._memory.find(b"\n", start)
        text = f"{name}@{_place()} \n".encode()
        assert end + len(text) < start + _REGION, "the record is full"
        self._memory[end : end + len(text)] = text
        if (role, planned, count) == (self._role, name, self._counts[name]):
            fail(errno)

    def failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def fail(errno: int) -> None:
            raise OSError(errno, os.strerror(errno))

        def call(*args: Any, **named: Any) -> Any:
            self.enter(name, fail)
            return real(*args, **named)

        return call

    def taking(self, role: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._role = role
            self._counts.clear()
            return real(*args)

        return call


def serve(channel: Channel, faults: Faults) -> None:
    """Be a sandbox worker whose calls fail as planned, until the other end is closed."""
    linux.set_child_subreaper(True)
    worker = Worker(channel)
    faults.install()
    worker.serve()
