"""The job worker: a process that does one job after the other, inside the namespace of the steps or outside.

messages.py describes what it receives and sends. It ends when the main process closes the connection, or dies.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import time
from typing import TYPE_CHECKING

from pybuild.builder.jobs.descriptors import given
from pybuild.builder.jobs.open_registries import keeping_registries
from pybuild.builder.jobs.progress import reporting
from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.workers.messages import (
    failure_message,
    note_message,
    progress_message,
    read_request,
    result_message,
)
from pybuild.remote.listener import listening
from pybuild.values import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.sandbox.frames import Message

_SECONDS = 1.0  # between two reports of a download


def main(fd: int, namespace: int = -1) -> None:
    """Serve the main process over the socket `fd`. `namespace` is a pidfd of a process whose namespaces to enter."""
    if namespace >= 0:
        try:
            linux.setns(namespace, linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        except ProcessLookupError:
            return  # the sandbox worker, whose namespaces these are, has been killed: the main process tells it
        os.close(namespace)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # The main process can be killed while a job waits, for the network or for the worker of another job. Changes of ids
    # clear this setting. If the main process has died before it, the connection is at its end.
    linux.set_pdeathsig(signal.SIGTERM)
    os.umask(0o022)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    channel = Channel(socket.socket(fileno=fd))
    with limits.applied(limits.from_environment(os.environ)), keeping_registries():
        _serve(channel)


class Teller:
    """Tells the main process of waits, and of bytes that have arrived once a download takes long."""

    def __init__(self, send: Callable[[Message], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._next = clock() + _SECONDS

    def waits(self, text: str) -> None:
        self._send(note_message(text))

    def received(self, done: int, total: int | None) -> None:
        if (now := self._clock()) >= self._next:
            self._next = now + _SECONDS
            self._send(progress_message(done, total))


def _serve(channel: Channel) -> None:
    while True:
        try:
            message, descriptors = channel.receive()
        except EOFError:
            return
        except OSError as error:  # the descriptors of a job, for which this process or the machine has no room
            answer = failure_message(error)
        else:
            answer = _answer(channel, message, descriptors)
        try:
            channel.send(answer)
        except EOFError:
            return


def _answer(channel: Channel, message: Message, descriptors: Sequence[int]) -> Message:
    """Do the job that a message asks for."""
    # A job makes many values and few reference cycles: the collector would take a tenth of the time of a COPY.
    gc.disable()
    job = None
    try:
        with (
            given(descriptors),
            reporting(lambda done, total: channel.send(progress_message(done, total))),
            listening(Teller(channel.send)),
        ):
            job = read_request(message)
            return result_message(job.run())
    except Exception as error:
        return failure_message(error, job)
    finally:
        gc.enable()
