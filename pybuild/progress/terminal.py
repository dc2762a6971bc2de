"""The live view on a real terminal.

Nothing has to be undone on the terminal: the cursor rests at the beginning of the line below the frame, is shown, and
each frame is one write that turns on again what it turned off. So any end, also kill -9, leaves it as it was.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from builder.events import ShellOpened, StepOutput, Tick, Transfer
from pybuild.progress.live import LiveView
from pybuild.progress.quiet import QuietProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.events import Event
    from store.digest import Digest

_FRAME_SECONDS = 0.1  # between two frames in which nothing has begun or ended
_HIDE, _SHOW, _CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[J"
# In the frame a character that is wider than the tables say must not begin another line.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class TerminalProgress:
    """Draws on the terminal `fd`."""

    def __init__(self, fd: int, *, colour: bool, clock: Callable[[], float]) -> None:
        self._fd = fd
        self._clock = clock
        self._view = LiveView(clock, colour=colour)
        self._held = QuietProgress()  # what the view has no room for, to be shown after a failure
        self._height = 0  # lines of the frame that is on the screen, above the cursor
        self._drawing = False  # also where a signal ended us in the middle of it
        self._closed = False
        self._gone = False  # the terminal
        self._drawn = clock()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ShellOpened):
            self.close()
        self._view.take(event)
        self._held(event)
        if self._closed:
            return
        if not isinstance(event, StepOutput | Transfer | Tick) or self._clock() >= self._drawn + _FRAME_SECONDS:
            self._draw()

    def finished(self, _manifest: Digest) -> None:
        self._view.stop(finished=True)
        self.close()

    def failed(self, error: Exception) -> None:
        self.close()
        self._held.failed(error)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._view.stop(finished=False)
        if self._drawing:
            # Whatever is on the screen stays there.
            self._write(f"{_WRAP}{_SHOW}\x1b[0m\r\n")
            self._height = 0
        self._draw(last=True)

    def _draw(self, *, last: bool = False) -> None:
        self._drawing = True
        self._drawn = self._clock()
        columns, rows = self._size()
        lines = self._view.told(columns)
        frame = [] if last else self._view.frame(columns, rows - 1)
        up = f"\x1b[{self._height}A" if self._height else ""
        above, below = ("".join(f"{line}\r\n" for line in part) for part in (lines, frame))
        if above or below or up:
            self._write(f"{_HIDE}\r{up}{_CLEAR_BELOW}{above}{_NO_WRAP}{below}{_WRAP}{_SHOW}")
        self._height = len(frame)
        self._drawing = False

    def _size(self) -> tuple[int, int]:
        """Columns and rows, now: a terminal may have changed since the last frame."""
        try:
            columns, rows = os.get_terminal_size(self._fd)
        except OSError:
            columns = rows = 0
        return columns or 80, rows or 24

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data and not self._gone:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Somebody who shares the terminal has made it so.
                select.select([], [self._fd], [])
            except OSError:
                self._gone = True  # nobody looks at it any more, and the build goes on
