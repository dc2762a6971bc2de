"""Running git without the user's or the repository's configuration, and within limits of time, bytes and memory.

pybuild turns off everything by which a repository or a server could make git do more than pybuild asked for: hooks,
configuration and attributes of others, credential helpers and questions on the terminal, every protocol except that of
the URL, redirects, submodules, replacement objects, background maintenance. See git(1), git-config(1), and "security" in
git-clone(1).

Each git is a process group of its own, in the session of the worker. The worker kills the whole group when git has ended,
when it exceeds a limit, when the worker gets SIGTERM, and when the process that started the worker is gone.
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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from pybuild.remote.errors import GitFailed, RemoteError
from pybuild.remote.http.urls import printable
from pybuild.remote.listener import listener
from pybuild.values.limits import DOWNLOAD_BYTES, GIT_MEMORY
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
_POLL_SECONDS = 0.1  # between two checks of the allowance
_CHUNK = 1 << 18
_STDERR_BYTES = 64 << 10  # the end of stderr, for errors
_SHOWN = 300  # characters of stderr in an error


class Allowance:
    """How many seconds and bytes all the git processes for one repository may use together."""

    def __init__(
        self, seconds: float, rate: int, size: int, hint: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `seconds`, and one more for each `rate` bytes received; at most `size` bytes. `hint` names the settings."""
        self._seconds = seconds
        self._rate = rate
        self._size = size
        self._hint = hint
        self._clock = clock
        self._started_at = clock()
        self._finished = 0

    def check(self, name: str, received: int) -> None:
        """Raise RemoteError if the allowance is used up. `received` is the bytes of the fetch that is running."""
        received += self._finished
        listener().received(received, None)
        if received > self._size:
            raise RemoteError(f"{name}: more than the limit of {self._size} bytes", hint=DOWNLOAD_BYTES.hint())
        allowed = self._seconds + received / self._rate
        if self._clock() - self._started_at > allowed:
            raise RemoteError(f"{name}: not done after {allowed:.0f} s and {received} bytes", hint=self._hint)

    def add_finished(self, received: int) -> None:
        """Count the bytes of a fetch that is finished."""
        self._finished += received


@dataclass(frozen=True)
class Git:
    """How to run git for one repository: its `name` in messages, and the `directory` of its objects (GIT_DIR)."""

    name: str
    directory: str
    allowance: Allowance
    path: str  # directories to search for programs, as in $PATH
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def start(self, *arguments: str) -> GitProcess:
        """Start git; leaving the context manager kills it. Raises RemoteError if git is not installed."""
        search_path = os.pathsep.join(path for path in self.path.split(os.pathsep) if os.path.isabs(path))
        program = shutil.which("git", path=search_path or os.defpath)
        if program is None:
            raise RemoteError(f"{self.name}: git is not installed", hint="apt-get install git, or the like")
        command = [program, "--no-pager", "--literal-pathspecs"]
        for setting in (*_SETTINGS, *self.settings):
            command += ["-c", setting]
        environment = {**_ENVIRONMENT, "PATH": search_path or os.defpath, "GIT_DIR": self.directory, **self.environment}
        return GitProcess(self, [*command, *arguments], environment)

    def run(self, *arguments: str, limit: int = 1 << 20) -> bytes:
        """Run git to its end and return its output, at most `limit` bytes. Raises GitFailed, RemoteError."""
        with self.start(*arguments) as running:
            data = b"".join(iter(lambda: running.read(limit + 1), b""))
            if len(data) > limit:
                raise RemoteError(f"{self.name}: git printed more than the limit of {limit} bytes")
            running.finish()
        return data

    def size(self) -> int:
        """Bytes received so far: the packs, complete or not."""
        total = 0
        for name in ("objects/pack", "objects"):
            with contextlib.suppress(FileNotFoundError), os.scandir(f"{self.directory}/{name}") as found:
                for entry in found:
                    with contextlib.suppress(FileNotFoundError):
                        total += (
                            entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
                        )
        return total


class GitProcess:
    """A running git. A context manager; `read` gives its output."""

    def __init__(self, git: Git, command: list[str], environment: Mapping[str, str]) -> None:
        self._git = git
        self._parent = os.getppid()
        self._stderr = b""
        self._checked_at = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._terminated = False
        self._old_handler = signal.signal(signal.SIGTERM, self._on_sigterm)
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
            signal.signal(signal.SIGTERM, self._old_handler)
            raise
        if self._terminated:
            self._kill_and_exit()
        with contextlib.suppress(ProcessLookupError):
            hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)[1]
            limit = GIT_MEMORY.value if hard == resource.RLIM_INFINITY else min(GIT_MEMORY.value, hard)
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, hard))
        assert process.stdout is not None and process.stderr is not None
        self._out, self._err = process.stdout.fileno(), process.stderr.fileno()
        self._pidfd = os.pidfd_open(process.pid)
        self._selector = selectors.PollSelector()
        for fd in (self._out, self._err, self._pidfd):
            self._selector.register(fd, selectors.EVENT_READ)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of git's output; empty at the end. Raises RemoteError when the allowance is used up."""
        while self._out in self._selector.get_map():
            if self._out in self._poll():
                data = os.read(self._out, min(size, _CHUNK))
                if data:
                    return data
                self._selector.unregister(self._out)
        return b""

    def finish(self) -> None:
        """Wait for git's end. Raises GitFailed unless its exit status is 0, RemoteError if the allowance is used up."""
        assert self._process is not None
        while self.read(_CHUNK):
            pass
        while self._selector.get_map():
            self._poll()
        if self._process.wait():
            raise self._failure(self._process.returncode)
        self._git.allowance.check(self._git.name, self._git.size())  # git can end between two checks

    def close(self) -> None:
        """Kill git and everything that it started. Idempotent."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            self._kill()
            process.wait()
        self._process = None
        self._selector.close()
        os.close(self._pidfd)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        signal.signal(signal.SIGTERM, self._old_handler)

    def __enter__(self) -> GitProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _poll(self) -> set[int]:
        """Wait 0.1 s at most for output, stderr or git's end; handle the last two. Return the descriptors that are ready."""
        ready = {key.fd for key, _ in self._selector.select(_POLL_SECONDS)}
        now = time.monotonic()
        if now - self._checked_at >= _POLL_SECONDS:
            self._checked_at = now
            if os.getppid() != self._parent:
                self._kill_and_exit()
            self._git.allowance.check(self._git.name, self._git.size())
        if self._err in ready:
            data = os.read(self._err, _CHUNK)
            if not data:
                self._selector.unregister(self._err)
            self._stderr = (self._stderr + data)[-_STDERR_BYTES:]
        if self._pidfd in ready:
            # Kill before wait: until then no other process group can get the same number.
            self._kill()
            self._selector.unregister(self._pidfd)
        return ready

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _kill_and_exit(self) -> NoReturn:
        self._kill()
        os._exit(1)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._process is not None:
            self._kill_and_exit()
        self._terminated = True

    def _failure(self, status: int) -> GitFailed:
        stderr = self._stderr.decode("utf-8", "replace")
        lines = [line.strip() for line in stderr.replace("\r", "\n").splitlines() if line.strip()]
        shown = [line for line in lines if line.startswith(("fatal:", "error:", "ERR "))] or lines[-1:]
        if shown and shown[0].startswith("fatal: Could not read from remote") and lines[0] != shown[0]:
            shown = lines[max(0, lines.index(shown[0]) - 2) : lines.index(shown[0])]  # the lines of ssh say why
        text = "; ".join(line.partition(": ")[2] or line for line in shown[:2]) or f"git ended with status {status}"
        return GitFailed(f"{self._git.name}: {printable(redact(text), _SHOWN)}", stderr)
