"""Running git: with nothing of the user's configuration, nothing of the repository's, and no longer than it may take.

What a repository or a server could make git do beside its work is off: hooks, configuration and attributes of others,
helpers for credentials and questions on the terminal, protocols but the one that was named, redirects, submodules,
replacements of objects, maintenance in the background. See git(1), git-config(1), and "security" in git-clone(1).

Each git is a process group of its own, in the session of the worker. It is killed as a whole when git has ended, when
it takes too long or too much, when the worker is told to end, and when the process that started the worker is gone.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.urls import printable
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType, TracebackType

_SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null", "core.excludesFile=/dev/null",
    "credential.helper=", "http.followRedirects=false", "protocol.version=2", "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false", "submodule.recurse=false", "transfer.bundleURI=false", "gc.auto=0",
    "maintenance.auto=false", "init.defaultBranch=main", "tar.umask=0022", "advice.detachedHead=false",
)  # fmt: skip
_ENVIRONMENT = {
    "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "never", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_ALLOW_PROTOCOL": "",
    "GIT_OPTIONAL_LOCKS": "0",
}  # fmt: skip
_TICK = 0.1  # seconds between two looks at what it has cost
_CHUNK = 1 << 18
_MESSAGES = 64 << 10  # bytes of what git says that are kept
_SHOWN = 300  # characters of it in an error
_MEMORY = 4 << 30  # bytes that one git may have for itself: a few objects can be told to be very many


class GitFailed(Exception):
    """Git ended with an error; `said` is all that it wrote about it."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


@contextmanager
def failures_told() -> Iterator[None]:
    """What git fails in is what the build fails in."""
    try:
        yield
    except GitFailed as error:
        raise RemoteError(str(error)) from None


class Allowance:
    """What getting one repository may cost, in seconds and bytes, all that is run for it together."""

    def __init__(
        self, seconds: float, rate: int, size: int, hint: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds`, and one more for each `rate` bytes that have come; at most `size` bytes. `hint` tells who sets it."""
        self._seconds = seconds
        self._rate = rate
        self._size = size
        self._hint = hint
        self._clock = clock
        self._begun = clock()
        self._settled = 0

    def check(self, who: str, came: int) -> None:
        """Raise RemoteError where it is used up by now; `came` is how many bytes there are of what comes now."""
        came += self._settled
        if came > self._size:
            raise RemoteError(f"{who}: more than the limit of {self._size} bytes", hint="limits.download-bytes")
        allowed = self._seconds + came / self._rate
        if self._clock() - self._begun > allowed:
            raise RemoteError(f"{who}: not done after {allowed:.0f} s, in which {came} bytes came", hint=self._hint)

    def settle(self, came: int) -> None:
        """So many bytes have come of something that is done."""
        self._settled += came


@dataclass(frozen=True)
class Git:
    """How git is run for one repository: `who` names it in messages, `directory` is where git keeps it."""

    who: str
    directory: str
    allowance: Allowance
    path: str  # where programs are looked for
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def start(self, *arguments: str) -> Running:
        """Begin; leave the context manager to end it. Raises RemoteError where there is no git."""
        places = os.pathsep.join(place for place in self.path.split(os.pathsep) if os.path.isabs(place))
        program = shutil.which("git", path=places or os.defpath)
        if program is None:
            raise RemoteError(f"{self.who}: git is not installed", hint="apt-get install git, or the like")
        command = [program, "--no-pager", "--literal-pathspecs"]
        for setting in (*_SETTINGS, *self.settings):
            command += ["-c", setting]
        environment = {**_ENVIRONMENT, "PATH": places or os.defpath, "GIT_DIR": self.directory, **self.environment}
        return Running(self, [*command, *arguments], environment)

    def run(self, *arguments: str, limit: int = 1 << 20) -> bytes:
        """Run to the end; what it wrote, at most `limit` bytes. Raises GitFailed, RemoteError."""
        with self.start(*arguments) as running:
            data = b"".join(iter(lambda: running.read(limit + 1), b""))
            if len(data) > limit:
                raise RemoteError(f"{self.who}: an answer of more than the limit of {limit} bytes")
            running.finish()
        return data

    def size(self) -> int:
        """How many bytes have come so far: the packs, whole or not."""
        total = 0
        for place in ("objects/pack", "objects"):
            with contextlib.suppress(FileNotFoundError), os.scandir(f"{self.directory}/{place}") as found:
                for entry in found:
                    with contextlib.suppress(FileNotFoundError):
                        total += (
                            entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
                        )
        return total


class Running:
    """A git that runs, whose output can be read."""

    def __init__(self, git: Git, command: list[str], environment: Mapping[str, str]) -> None:
        self._git = git
        self._parent = os.getppid()
        self._said = b""
        self._looked = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._to_end = False
        self._before = signal.signal(signal.SIGTERM, self._told_to_end)
        try:
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                cwd="/",
                env=dict(environment),
                bufsize=0,
            )
        except BaseException:
            signal.signal(signal.SIGTERM, self._before)
            raise
        if self._to_end:
            self._end()
        with contextlib.suppress(ProcessLookupError):
            hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)[1]
            limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, hard))
        assert process.stdout is not None and process.stderr is not None
        self._out, self._err = process.stdout.fileno(), process.stderr.fileno()
        self._ended = os.pidfd_open(process.pid)
        self._selector = selectors.PollSelector()
        for fd in (self._out, self._err, self._ended):
            self._selector.register(fd, selectors.EVENT_READ)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of what it writes; nothing at the end. Raises RemoteError where it costs too much."""
        while self._out in self._selector.get_map():
            if self._out in self._turn():
                data = os.read(self._out, min(size, _CHUNK))
                if data:
                    return data
                self._selector.unregister(self._out)
        return b""

    def finish(self) -> None:
        """Wait for its end. Raises GitFailed where it was none that git means well, RemoteError where that takes too long."""
        assert self._process is not None
        while self.read(_CHUNK):
            pass
        while self._selector.get_map():
            self._turn()
        if self._process.wait():
            raise self._failure(self._process.returncode)
        self._git.allowance.check(self._git.who, self._git.size())  # it may have been done between two looks

    def close(self) -> None:
        """End it, and all that it has started. Idempotent."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            self._kill()
            process.wait()
        self._process = None
        self._selector.close()
        os.close(self._ended)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        signal.signal(signal.SIGTERM, self._before)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _turn(self) -> set[int]:
        """Wait a moment for something to happen; hear what it says. What else can be read."""
        ready = {key.fd for key, _ in self._selector.select(_TICK)}
        now = time.monotonic()
        if now - self._looked >= _TICK:
            self._looked = now
            if os.getppid() != self._parent:
                self._end()  # whoever asked for this is gone
            self._git.allowance.check(self._git.who, self._git.size())
        if self._err in ready:
            data = os.read(self._err, _CHUNK)
            if not data:
                self._selector.unregister(self._err)
            self._said = (self._said + data)[-_MESSAGES:]  # the end of it tells most
        if self._ended in ready:
            # Before it is waited for: until then nobody else can have the number of its group.
            self._kill()
            self._selector.unregister(self._ended)
        return ready

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> NoReturn:
        self._kill()
        os._exit(1)

    def _told_to_end(self, number: int, frame: FrameType | None) -> None:
        if self._process is not None:
            self._end()
        self._to_end = True

    def _failure(self, status: int) -> GitFailed:
        said = self._said.decode("utf-8", "replace")
        lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERR "))] or lines[-1:]
        if telling and telling[0].startswith("fatal: Could not read from remote") and lines[0] != telling[0]:
            telling = lines[max(0, lines.index(telling[0]) - 2) : lines.index(telling[0])]  # ssh has said why
        text = "; ".join(line.partition(": ")[2] or line for line in telling[:2]) or f"git ended with status {status}"
        return GitFailed(f"{self._git.who}: {printable(redact(text), _SHOWN)}", said)
