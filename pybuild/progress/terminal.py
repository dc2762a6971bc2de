"""The live view on a real terminal.

The terminal needs no cleanup: the cursor stays visible at the start of the line below the frame, and each frame is one
write that enables again everything that it disabled. So the terminal is usable however pybuild ends, even by kill -9.

A signal can interrupt a write, and the next frame depends on the bytes that reached the screen. So all output goes
through a buffered file: if an exception interrupts it, it knows how much is written, and the next flush writes the
rest.
"""

from __future__ import annotations

import io
import os
import select
from typing import TYPE_CHECKING

from pybuild.builder.events import ShellOpened, StepOutput, Tick, Transfer
from pybuild.progress.live import LiveView
from pybuild.progress.quiet import QuietProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import Event
    from pybuild.store.formats.digest import Digest

_MAX_TEXT = 1 << 18  # characters of new lines in one frame
_BUFFER = 1 << 21  # bytes: enough for the new lines and the frame
_FRAME_SECONDS = 0.1  # between two frames, unless something starts or ends
_HIDE, _SHOW, _CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[J"
# Without wrapping, a character that is wider than Unicode's tables say cannot add a row to the frame.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class TerminalProgress:
    """Draws on the terminal `fd`."""

    def __init__(self, fd: int, *, colour: bool, clock: Callable[[], float]) -> None:
        self._terminal = io.BufferedWriter(io.FileIO(fd, "wb", closefd=False), _BUFFER)
        self._clock = clock
        self._view = LiveView(clock, colour=colour)
        self._failed_output = QuietProgress()  # keeps the whole output of steps, to show it after a failure
        self._height = 0  # rows of the frame above the cursor, once everything is flushed
        self._closed = False
        self._gone = False  # whether the terminal is gone
        self._drawn = clock()  # when the last frame was drawn

    def __call__(self, event: Event) -> None:
        if isinstance(event, ShellOpened):
            self.close()
        self._view.take(event)
        self._failed_output(event)
        if self._closed:
            return
        if not isinstance(event, StepOutput | Transfer | Tick) or self._clock() >= self._drawn + _FRAME_SECONDS:
            self._draw()

    def finished(self, _manifest: Digest) -> None:
        self._view.stop(finished=True)
        self.close()

    def failed(self, error: Exception) -> None:
        self.close()
        self._failed_output.failed(error)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._view.stop(finished=False)
        self._draw(last=True)

    def _draw(self, *, last: bool = False) -> None:
        self._flush()
        if self._gone:
            return
        self._drawn = self._clock()
        columns, rows = self._size()
        lines = self._view.new_lines(columns)
        frame = [] if last else self._view.frame(columns, rows - 1)
        up = f"\x1b[{self._height}A" if self._height else ""
        above, below = ("".join(f"{line}\r\n" for line in part) for part in (lines, frame))
        if above or below or up:
            text = f"{_HIDE}\r{up}{_CLEAR_BELOW}{above[:_MAX_TEXT]}{_NO_WRAP}{below}{_WRAP}{_SHOW}"
            # The text fits into the buffer, so nothing is written before the flush, when the height is already set.
            self._terminal.write(text.encode("utf-8", "replace"))
            self._height = len(frame)
            self._flush()

    def _size(self) -> tuple[int, int]:
        """The current columns and rows: the user can resize the terminal at any time."""
        try:
            columns, rows = os.get_terminal_size(self._terminal.fileno())
        except OSError:
            columns = rows = 0
        return columns or 80, rows or 24

    def _flush(self) -> None:
        while not self._gone:
            try:
                return self._terminal.flush()
            except BlockingIOError:
                # Another process that shares the terminal has made it non-blocking.
                select.select([], [self._terminal], [])
            except OSError:
                # The terminal is gone; the build continues. Closing the file drops what the buffer holds.
                self._gone = True
                self._terminal.raw.close()
