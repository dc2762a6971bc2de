"""Runs commands on a pseudoterminal whose screen the test can read."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyte
import pyte.modes

from tests.support.processes import DEFAULT_SIGNALS, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cli import Pybuild


class Terminal:
    """A screen, and the process that draws on it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._master, self.slave = os.openpty()
        self.resize(columns, rows)
        self.process: subprocess.Popen[bytes]

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the screen; the kernel sends SIGWINCH to the process."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def modes(self) -> list[object]:
        """The terminal settings as tcgetattr(3) returns them."""
        return termios.tcgetattr(self._master)

    def lines(self) -> list[str]:
        """The lines on the screen, with times replaced by N and without empty lines at the end."""
        text = "\n".join(line.rstrip() for line in self.screen.display).rstrip()
        return re.sub(r"(^| ) *\d+\.\d s\b", r"\1N s", text, flags=re.MULTILINE).split("\n")

    def wait_until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """Read until `seen` accepts the screen. A frame hides the cursor until all of its pieces have arrived."""
        deadline = time.monotonic() + PATIENCE
        while self.screen.cursor.hidden or not seen(self.lines()):
            assert self._read(deadline), "the process has ended: " + "\n".join(self.lines())
        return self.lines()

    def end(self) -> list[str]:
        """Read until the process ends; return the screen."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        self.process.wait()
        return self.lines()

    def is_sane(self) -> bool:
        """Whether the cursor is visible at the start of a line, and long lines wrap."""
        cursor = self.screen.cursor
        return not cursor.hidden and cursor.x == 0 and pyte.modes.DECAWM in self.screen.mode

    def _read(self, deadline: float) -> bool:
        left = max(deadline - time.monotonic(), 0.0)
        assert select.select([self._master], [], [], left)[0], "no more output: " + "\n".join(self.lines())
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False  # EIO: the other end is closed
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        os.close(self._master)


@contextmanager
def on_terminal(
    pybuild: Pybuild, *arguments: object, columns: int = 80, rows: int = 24, **environment: str
) -> Iterator[Terminal]:
    """Start a command as the foreground job of a new terminal, and kill it at the end."""
    terminal = Terminal(columns, rows)
    slave = terminal.slave
    terminal.process = subprocess.Popen(
        ["setsid", "--ctty", *DEFAULT_SIGNALS, *pybuild.command, *map(str, arguments)],
        env={**pybuild.env(), "TERM": "xterm", **environment}, stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()
