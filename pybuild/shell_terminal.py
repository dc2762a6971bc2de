"""The user's terminal, lent to a shell in a failed step: it becomes a wire, and is what it was afterwards.

The shell has a terminal of its own, which does all that one does: echo, lines, signals of keys. So ours is raw, and what is
typed goes there as it is; only its size has to be passed on. Whatever ends this, a signal too, restores ours first.
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

from pybuild.report import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.errors import BuildError

_PIECE = 1 << 16


def find_terminal() -> tuple[int, int]:
    """Descriptors of our terminal: to read from, and to write to. Raises ValueError where there is none."""
    if not os.isatty(0):
        raise ValueError("standard input is none")
    if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
        return 0, 0
    if os.isatty(2):
        return 0, 2
    raise ValueError("nothing can be written to it")


class ShellTerminal:
    """The terminal as a builder.on_failure.TerminalHost."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in = incoming
        self._out = outgoing

    def begin(self, error: BuildError) -> None:
        print(f"{visible(str(error))}: a shell in what it left; the build ends with it", file=sys.stderr, flush=True)

    def relay(self, terminal: int, ended: int) -> None:
        os.set_blocking(terminal, False)
        with self._raw(terminal):
            self._pump(terminal, ended)

    @contextmanager
    def _raw(self, terminal: int) -> Iterator[None]:
        """Our terminal as a wire to that of the shell, which gets the size of ours."""
        saved = termios.tcgetattr(self._in)

        def resized(*_: object) -> None:
            self._copy_size(terminal)

        def continued(*_: object) -> None:
            # Who stopped us (kill -STOP) has given the terminal back as the shell outside had it.
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
        typed = b""  # and not yet taken
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
                hung_up = found is None  # and the end will be told at once
                self._show(found or b"")
            if self._in in ready:
                typed = _read(self._in) or b""
                if not typed:
                    return  # there is nobody any more
            if typed:
                typed = typed[_write(terminal, typed) :]

    def _show(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                # Somebody who shares the terminal has made it so.
                select.select([], [self._out], [])


def _read(fd: int) -> bytes | None:
    """What there is; b"" for nothing now, None at the end."""
    try:
        return os.read(fd, _PIECE) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None  # EIO: nobody has the other end any more


def _write(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except OSError:
        return 0  # EAGAIN: it has to wait; EIO: it will be told
