"""The screen after a signal or the end of the terminal in the middle of a frame."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyte
import pytest

from pybuild.builder.events import StepStarted
from pybuild.progress.terminal import TerminalProgress
from tests.support.events import Clock, step, wrote

if TYPE_CHECKING:
    from collections.abc import Iterator

A = step(1, "first", 1, 2, "RUN make a")


class Ended(BaseException):
    pass


@contextmanager
def ended_by(number: signal.Signals) -> Iterator[None]:
    """Make the signal raise Ended, once."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Ended

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The descriptor that the display writes to, and the one that the test reads."""
    mine, its = socket.socketpair()
    with mine, its:
        yield its, mine


def screen_of(data: bytes) -> list[str]:
    screen = pyte.Screen(80, 24)
    pyte.ByteStream(screen).feed(data)
    return [line.rstrip() for line in screen.display if line.strip()]


def test_a_signal_right_after_a_frame_was_written(ends: tuple[socket.socket, socket.socket]) -> None:
    """The kernel sends SIGIO during the write, so the exception hides that the write succeeded."""
    its, mine = ends
    display = TerminalProgress(its.fileno(), colour=False, clock=Clock())
    display(StepStarted(A))
    fcntl.fcntl(mine, fcntl.F_SETOWN, os.getpid())
    with ended_by(signal.SIGIO):
        fcntl.fcntl(mine, fcntl.F_SETFL, os.O_ASYNC)
        with pytest.raises(Ended):
            display(StepStarted(step(2, "other", 2, 3, "RUN make b")))
    fcntl.fcntl(mine, fcntl.F_SETFL, 0)
    display.close()
    written = mine.recv(1 << 16)
    assert written.count(b"RUN make b") == 2, "the frame, and that it was stopped"
    assert screen_of(written) == ["[first 1/2]  stopped  RUN make a", "[other 2/3]  stopped  RUN make b"]


def test_a_signal_in_the_middle_of_a_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    its, mine = ends
    its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel rounds this up to a few kB
    clock = Clock()
    display = TerminalProgress(its.fileno(), colour=False, clock=clock)
    display(StepStarted(A))
    with ended_by(signal.SIGALRM):
        with pytest.raises(Ended):
            while True:  # until nothing more fits; a frame needs more space than any
                clock.now += 1
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                display(wrote(A, "some words\n"))
        signal.setitimer(signal.ITIMER_REAL, 0)
    reader = os.fork()
    if not reader:
        os._exit(os.EX_OK if _reads_the_end(its, mine) else 1)
    display.close()
    its.shutdown(socket.SHUT_WR)
    assert os.waitpid(reader, 0)[1] == 0


def _reads_the_end(its: socket.socket, mine: socket.socket) -> bool:
    its.close()
    written = bytearray()
    while data := mine.recv(1 << 16):
        written += data
    return screen_of(bytes(written)) == ["[first 1/2]  stopped  RUN make a"]


def test_a_terminal_that_has_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    its, mine = ends
    display = TerminalProgress(its.fileno(), colour=False, clock=Clock())
    mine.close()
    display(StepStarted(A))
    display(StepStarted(step(2, "other", 2, 3, "RUN make b")))
    display.close()
