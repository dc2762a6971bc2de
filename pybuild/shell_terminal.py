"""Connects the user's terminal to the terminal of a shell in a failed step.

The shell's terminal handles echo, line editing and the signals of keys. So the user's terminal is raw: typed bytes go
to the shell unchanged, and changes of its size are passed on. Its settings are restored however this ends, also after a
signal.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.errors import BuildError

_PIECE = 1 << 16


def find_terminal() -> tuple[int, int]:
    """The descriptors of the user's terminal, one to read and one to write. Raises ValueError if there is none."""
    if not os.isatty(0):
        raise ValueError("standard input is not a terminal")
    if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
        return 0, 0
    if os.isatty(2):
        return 0, 2
    raise ValueError("standard input is read-only, and standard error is not a terminal")


class ShellTerminal:
    """The user's terminal as a builder.on_failure.TerminalHost."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in = incoming
        self._out = outgoing

    def begin(self, error: BuildError) -> None:
        print(
            f"{printable(str(error))}: opening a shell there; the build ends with it",
            file=sys.stderr,
            flush=True,
        )

    def relay(self, terminal: int, ended: int) -> None:
        os.set_blocking(terminal, False)
        with self._raw(terminal):
            self._pump(terminal, ended)

    @contextmanager
    def _raw(self, terminal: int) -> Iterator[None]:
        """Make the user's terminal raw, and give the shell's terminal its size whenever it changes."""
        saved = termios.tcgetattr(self._in)

        def resized(*_: object) -> None:
            self._copy_size(terminal)

        def continued(*_: object) -> None:
            # While this process was stopped (kill -STOP), the outer shell restored its own terminal settings.
            tty.setraw(self._in, termios.TCSANOW)
            self._copy_size(terminal)

        before = {number: signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGCONT)}
        try:
            signal.signal(signal.SIGWINCH, resized)
            signal.signal(signal.SIGCONT, continued)
            tty.setraw(self._in, termios.TCSANOW)
            self._copy_size(terminal)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            termios.tcsetattr(self._in, termios.TCSANOW, saved)

    def _copy_size(self, terminal: int) -> None:
        size = fcntl.ioctl(self._in, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

    def _pump(self, terminal: int, ended: int) -> None:
        typed = b""  # not yet written to the shell
        hung_up = False
        while True:
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            if not hung_up:
                poll.register(terminal, select.POLLIN | (select.POLLOUT if typed else 0))
            if not typed:
                poll.register(self._in, select.POLLIN)
            ready = dict(poll.poll())
            if ended in ready:
                while data := _read(terminal):
                    self._show(data)
                return
            if ready.get(terminal, 0) & ~select.POLLOUT:
                found = _read(terminal)
                hung_up = found is None  # `ended` becomes readable next
                self._show(found or b"")
            if self._in in ready:
                typed = _read(self._in) or b""
                if not typed:
                    return  # the user's terminal is gone
            if typed:
                typed = typed[_write(terminal, typed) :]

    def _show(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                # Another process that shares the terminal has made it non-blocking.
                select.select([], [self._out], [])


def _read(fd: int) -> bytes | None:
    """The bytes that are there; b"" if there are none yet, None at the end."""
    try:
        return os.read(fd, _PIECE) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None  # EIO: the other end is closed


def _write(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except OSError:
        return 0  # EAGAIN: try again later; EIO: the next read reports it
