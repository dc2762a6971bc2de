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
from pybuild.builder.workers.messages import failure_message, read_request, result_message


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
        # A job makes many values and hardly a cycle: looking for some takes a tenth of the time that a COPY needs.
        gc.disable()
        try:
            answer = result_message(read_request(message).run())
        except Exception as error:
            answer = failure_message(error)
        gc.enable()
        try:
            channel.send(answer)
        except EOFError:
            return
