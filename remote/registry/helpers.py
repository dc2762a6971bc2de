"""Running docker-credential-* programs, which store credentials for docker and podman.

Source: docker-credential-helpers, "get": the server on standard input; JSON, or a message after a failure, on standard
output. A helper's output is secret, so no message quotes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.values.limits import HELPER_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 30.0
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# A helper prints this if it has nothing for a server; the exit status is the same as for every failure.
_NOT_FOUND = b"credentials not found"


def ask_helper(
    name: str, server: str, environ: Mapping[str, str], *, search_path: str | None = None, seconds: float = SECONDS
) -> tuple[str, str] | None:
    """User name and secret for a server; None if the helper has none. `search_path` is by default that of `environ`.

    Raises NotFound if the helper is not installed, ConfigError if it fails.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"invalid name {name[:80]!r} of a credential helper", hint="letters, digits, - and _")
    program = f"docker-credential-{name}"
    search_path = helper_path(environ) if search_path is None else search_path
    path = shutil.which(program, path=search_path)
    if path is None:
        raise NotFound(f"{program} is not in {search_path}")
    status, output = _run([path, "get"], server, {**environ, "PATH": search_path}, program, seconds)
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
