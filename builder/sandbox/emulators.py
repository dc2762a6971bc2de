"""Emulators of the steps' user namespace: which programs of other processors the kernel starts here.

Since Linux 6.7 a user namespace can have a binfmt_misc of its own, which only its processes and those of the namespaces
below it see. The first mount of it makes one, without any handler, and hides those of the machine. Handlers last as long
as that mount: here a detached one, so that it has no path, and no step sees it.

Source: Documentation/admin-guide/binfmt-misc.rst; fs/binfmt_misc.c of Linux 6.18.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from contextlib import suppress
from dataclasses import dataclass

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.root import new_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MACHINE, OWN = (
    "machine",
    "own",
)  # who starts the programs of a processor: a handler of the machine, or one of the namespace
_TRIAL_SECONDS = 30  # an emulator that hangs; a slow machine starts one in less than a second
_NO_DEVICES = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV


@dataclass(frozen=True, slots=True)
class Wanted:
    """A processor that steps need. `trial` is a program of it in hexadecimal, "" if there is none; `rule` registers an
    emulator, "" without one; `always`: the emulator is used even if the kernel starts such programs already; `check`: a new
    emulator has to start the trial; `native`: programs that the kernel starts need no handler.
    """

    architecture: str
    trial: str
    rule: str
    always: bool
    check: bool = False
    native: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """`by` is MACHINE, OWN, or "" if nothing starts the programs; then `error` is the kernel's, 0 without an attempt."""

    by: str
    errno: int = 0
    text: str = ""


class Emulators:
    """The handlers that the worker has registered."""

    def __init__(self) -> None:
        self._mount = -1
        self._found: dict[str, Found] = {}

    def add(self, wanted: list[Wanted]) -> dict[str, Found]:
        """Have the kernel start programs of these processors; what is known already is not tried again."""
        new = [one for one in wanted if one.architecture not in self._found]
        found = {one.architecture: Found(MACHINE) for one in new if not one.always and starts(one.trial)}
        missing = [one for one in new if one.architecture not in found]
        if self._mount < 0 and any(one.rule for one in missing):
            # The first handler of the namespace's own hides those of the machine, so these are registered again.
            hidden = [one for one in new if one.architecture in found and not one.native]
            lost = [one.architecture for one in hidden if not one.rule]
            if lost:
                text = f"it would hide the machine's own for {lost[0]}"
                found |= {one.architecture: Found("", errno.EBUSY if one.rule else 0, text) for one in missing}
            missing = [] if lost else missing + hidden
        for one in missing:
            found[one.architecture] = self._register(one)
        self._found |= found
        return {one.architecture: self._found[one.architecture] for one in wanted}

    def _register(self, one: Wanted) -> Found:
        if not one.rule:
            return Found("")
        try:
            if self._mount < 0:
                self._mount = new_mount("binfmt_misc", (), _NO_DEVICES | linux.MOUNT_ATTR_NOEXEC)
            fd = os.open("register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._mount)
            try:
                os.write(fd, os.fsencode(one.rule))
            finally:
                os.close(fd)
        except OSError as error:
            return Found("", error.errno or 0, "mount" if self._mount < 0 else os.strerror(error.errno or 0))
        if one.check and not starts(one.trial):
            return Found("", errno.ENOEXEC, "it does not start a program")
        return Found(OWN)


def starts(trial: str) -> bool:
    """Whether the kernel starts this program, and it exits with 0, in a root directory that holds nothing else.

    So a handler of the machine counts only if it holds its emulator open (flag F): only such a one works in a step.
    """
    if not trial:
        return False
    pid = os.fork()
    if pid == 0:
        _try(bytes.fromhex(trial))
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_TRIAL_SECONDS * 1000):
        os.kill(pid, signal.SIGKILL)
    os.close(pidfd)
    succeeded = os.waitpid(pid, 0)[1] == 0
    with suppress(FileNotFoundError):
        os.unlink(_without_mounts(pid))
    return succeeded


def _without_mounts(pid: int) -> str:
    """The trial of this process where it may not mount: in pybuild's own root, which has no emulator either."""
    return f"/tmp/pybuild-trial-{pid}"


def _try(program: bytes) -> NoReturn:
    try:
        linux.set_pdeathsig(signal.SIGKILL)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):
            os.dup2(null, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            root = new_mount("tmpfs", (("mode", "700"), ("size", "64k")), _NO_DEVICES)
        except OSError:
            path = _without_mounts(os.getpid())
        else:
            os.fchdir(root)
            os.chroot(".")
            path = "/trial"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
        os.write(fd, program)
        os.close(fd)
        os.execvpe(path, [path], {})
    finally:
        os._exit(1)
