"""Commands that run on a terminal of the test's own, whose screen it can look at."""

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
        """Change the size of the screen; the kernel tells the process by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def modes(self) -> list[object]:
        """As tcgetattr(3) has them."""
        return termios.tcgetattr(self._master)

    def lines(self) -> list[str]:
        """What is on the screen, times as N; lines without anything below the last one are left out."""
        text = "\n".join(line.rstrip() for line in self.screen.display).rstrip()
        return re.sub(r"(^| ) *\d+\.\d s\b", r"\1N s", text, flags=re.MULTILINE).split("\n")

    def wait_until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """Read until the screen is as wanted. A frame hides the cursor while it is drawn, and may come in pieces."""
        deadline = time.monotonic() + PATIENCE
        while self.screen.cursor.hidden or not seen(self.lines()):
            assert self._read(deadline), "the process has ended: " + "\n".join(self.lines())
        return self.lines()

    def end(self) -> list[str]:
        """Read to the end of the process, return the screen."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        self.process.wait()
        return self.lines()

    def is_sane(self) -> bool:
        """The cursor is shown and stands at the beginning of a line, and long lines wrap."""
        cursor = self.screen.cursor
        return not cursor.hidden and cursor.x == 0 and pyte.modes.DECAWM in self.screen.mode

    def _read(self, deadline: float) -> bool:
        left = max(deadline - time.monotonic(), 0.0)
        assert select.select([self._master], [], [], left)[0], "nothing comes any more: " + "\n".join(self.lines())
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False  # EIO: nobody has the other end any more
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        os.close(self._master)


@contextmanager
def on_terminal(
    pybuild: Pybuild, *arguments: object, columns: int = 80, rows: int = 24, **environment: str
) -> Iterator[Terminal]:
    """Start a command as the foreground job of a new terminal, and see to it that it ends."""
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
