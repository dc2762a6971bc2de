"""The job worker: runs one job after the other, in the namespace of the steps or in that of the main process.

    main -> worker   {"job": name, "args": {...}}
    worker -> main   {"result": {...}} or {"error": class name, "message": text, "hint": text}

It ends when the connection does.
"""

from __future__ import annotations

import gc
import os
import resource
import socket

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.workers.codec import decode, encode
from pybuild.builder.workers.job_table import job_class
from pybuild.store.system.files import no_space


def main(fd: int, namespace: int = -1) -> None:
    """Serve one main process over the socket `fd`; `namespace` is a pidfd of a process whose namespaces to enter."""
    if namespace >= 0:
        linux.setns(namespace, linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        os.close(namespace)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    os.umask(0o022)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    channel = Channel(socket.socket(fileno=fd))
    while True:
        try:
            message, _ = channel.receive()
        except EOFError:
            return
        args = message["args"]
        assert isinstance(args, dict)
        # A job makes many values and hardly a cycle: looking for some takes a tenth of the time that a COPY needs.
        gc.disable()
        try:
            result = decode(job_class(str(message["job"])), args).run()
            answer: dict[str, object] = {"result": encode(result)}
        except Exception as error:
            answer = _describe(error)
        gc.enable()
        try:
            channel.send(answer)
        except EOFError:
            return


def _describe(error: Exception) -> dict[str, object]:
    if isinstance(error, OSError):
        error = no_space(error, str(error.filename or "the store"))
    return {"error": type(error).__name__, "message": str(error), "hint": getattr(error, "hint", None)}
