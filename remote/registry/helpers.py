"""Running docker-credential-* programs, which store credentials for docker and podman.

Source: docker-credential-helpers. "get" and "erase" read the server from standard input, "store" a JSON object; "list"
reads nothing. The answer is JSON, or a message after a failure. A helper's output is secret, so no message quotes it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, dump, load_object
from pybuild.values.limits import HELPER_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 30.0
_PREFIX = "docker-credential-"
_NAME = pattern(r"[A-Za-z0-9_-]+")
# A helper prints this if it has nothing for a server; the exit status is the same as for every failure.
_NOT_FOUND = b"credentials not found"


def ask_helper(
    name: str, server: str, environ: Mapping[str, str], *, search_path: str | None = None, seconds: float = SECONDS
) -> tuple[str, str] | None:
    """User name and secret for a server; None if the helper has none. `search_path` is by default that of `environ`.

    Raises NotFound if the helper is not installed, ConfigError if it fails.
    """
    status, output = _call(name, "get", server, environ, search_path, seconds)
    program = f"{_PREFIX}{name}"
    if status:
        if _NOT_FOUND in output:
            return None
        raise ConfigError(f"{program} failed for {server}, status {status}", hint=f"try: {program} get")
    try:
        answer = Fields(load_object(output, "its answer", limit=HELPER_BYTES), "its answer")
        return answer.text("Username"), answer.text("Secret")
    except InvalidImage as error:
        raise ConfigError(f"{program} for {server}: {error}", hint=error.hint) from None


def helper_path(environ: Mapping[str, str]) -> str:
    """The directories of PATH, then the usual ones. Relative ones are left out: a context could hold such a program."""
    found = (*environ.get("PATH", "").split(os.pathsep), *_USUAL_PATH.split(os.pathsep))
    return os.pathsep.join(dict.fromkeys(directory for directory in found if os.path.isabs(directory)))


def store_in_helper(
    name: str, server: str, login: tuple[str, str], environ: Mapping[str, str], *, search_path: str | None = None
) -> None:
    """Give user name and secret to a helper, on its standard input. Raises NotFound, ConfigError as `ask_helper`."""
    user, secret = login
    text = dump({"ServerURL": server, "Username": user, "Secret": secret}).decode()
    status, _ = _call(name, "store", text, environ, search_path, SECONDS)
    if status:
        raise ConfigError(
            f"{_PREFIX}{name} does not store the login for {server}, status {status}",
            hint="--authfile FILE stores it in a file",
        )


def erase_in_helper(name: str, server: str, environ: Mapping[str, str], *, search_path: str | None = None) -> bool:
    """Let a helper forget a server; return whether it had it. Raises NotFound, ConfigError as `ask_helper`."""
    if ask_helper(name, server, environ, search_path=search_path) is None:
        return False  # some helpers also report success for what they do not have
    status, output = _call(name, "erase", server, environ, search_path, SECONDS)
    if status and _NOT_FOUND not in output:
        raise ConfigError(f"{_PREFIX}{name} does not erase the login for {server}, status {status}")
    return not status


def servers_of_helper(name: str, environ: Mapping[str, str], *, search_path: str | None = None) -> tuple[str, ...]:
    """The servers for which a helper has a login; empty if it cannot list them. Raises NotFound, ConfigError."""
    status, output = _call(name, "list", "", environ, search_path, SECONDS)
    if status:
        return ()
    try:
        return tuple(load_object(output, "its list", limit=HELPER_BYTES))
    except InvalidImage as error:
        raise ConfigError(f"{_PREFIX}{name}: {error}", hint=error.hint) from None


def _call(
    name: str, action: str, text: str, environ: Mapping[str, str], search_path: str | None, seconds: float
) -> tuple[int, bytes]:
    """The exit status and output of an action of a helper. Raises NotFound if it is not installed, ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"invalid name {name[:80]!r} of a credential helper", hint="letters, digits, - and _")
    program = f"{_PREFIX}{name}"
    search_path = helper_path(environ) if search_path is None else search_path
    path = shutil.which(program, path=search_path)
    if path is None:
        raise NotFound(f"{program} is not in {search_path}")
    return _run([path, action], text, {**environ, "PATH": search_path}, program, seconds)


def _run(argv: list[str], text: str, environ: Mapping[str, str], program: str, seconds: float) -> tuple[int, bytes]:
    """The exit status and output of a helper, within limits of time and output."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"{program}: {error.strerror}") from None
    try:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(text.encode())  # fits into the pipe's buffer
        output = _read(process.stdout.fileno(), time.monotonic() + seconds, program, seconds)
        return process.wait(1.0), output
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{program} closed its output but does not exit") from None
    finally:
        if process.poll() is None:
            # Helpers are often scripts: kill the programs that they started, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _read(fd: int, deadline: float, program: str, seconds: float) -> bytes:
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise ConfigError(f"{program} did not answer within the limit of {seconds:g} seconds")
            data = os.read(fd, 1 << 14)
            if not data:
                return bytes(output)
            output += data
            if len(output) > HELPER_BYTES.value:
                raise HELPER_BYTES.exceeded(ConfigError, f"{program} printed more than the limit of {{}}")
