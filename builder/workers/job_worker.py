"""The job worker: a process that does one job after the other, inside the namespace of the steps or outside.

messages.py describes what it receives and sends. It ends when the main process closes the connection.
"""

from __future__ import annotations

import gc
import os
import resource
import socket

from pybuild.builder.jobs.progress import reporting
from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.workers.messages import failure_message, progress_message, read_request, result_message
from pybuild.values import limits


def main(fd: int, namespace: int = -1) -> None:
    """Serve the main process over the socket `fd`. `namespace` is a pidfd of a process whose namespaces to enter."""
    if namespace >= 0:
        linux.setns(namespace, linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        os.close(namespace)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    os.umask(0o022)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    channel = Channel(socket.socket(fileno=fd))
    with limits.applied(limits.from_environment(os.environ)):
        _serve(channel)


def _serve(channel: Channel) -> None:
    while True:
        try:
            message, _ = channel.receive()
        except EOFError:
            return
        # A job makes many values and few reference cycles: the collector would take a tenth of the time of a COPY.
        gc.disable()
        job = None
        try:
            job = read_request(message)
            with reporting(lambda done, total: channel.send(progress_message(done, total))):
                answer = result_message(job.run())
        except Exception as error:
            answer = failure_message(error, job)
        gc.enable()
        try:
            channel.send(answer)
        except EOFError:
            return
