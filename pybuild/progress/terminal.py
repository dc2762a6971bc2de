"""The live view on a real terminal.

Nothing has to be undone on the terminal: the cursor rests at the beginning of the line below the frame, is shown, and
each frame is one write that turns on again what it turned off. So any end, also kill -9, leaves it as it was.

A signal may end the build in the middle of a write, or right after it, and what is drawn next depends on what has
reached the screen. So all goes through a buffered file: it knows what it has written when an exception comes out of it,
and to flush it again writes the rest.
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

_LONGEST_TEXT = 1 << 18  # characters of lines that are over, in one frame
_BUFFER = 1 << 21  # bytes, for those and the lines of a frame
_FRAME_SECONDS = 0.1  # between two frames in which nothing has begun or ended
_HIDE, _SHOW, _CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[J"
# In the frame a character that is wider than the tables say must not begin another line.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class TerminalProgress:
    """Draws on the terminal `fd`."""

    def __init__(self, fd: int, *, colour: bool, clock: Callable[[], float]) -> None:
        self._terminal = io.BufferedWriter(io.FileIO(fd, "wb", closefd=False), _BUFFER)
        self._clock = clock
        self._view = LiveView(clock, colour=colour)
        self._held = QuietProgress()  # what the view has no room for, to be shown after a failure
        self._height = 0  # lines of the frame that is on the screen, above the cursor, once all is flushed
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
        self._draw(last=True)

    def _draw(self, *, last: bool = False) -> None:
        self._flush()
        if self._gone:
            return
        self._drawn = self._clock()
        columns, rows = self._size()
        lines = self._view.told(columns)
        frame = [] if last else self._view.frame(columns, rows - 1)
        up = f"\x1b[{self._height}A" if self._height else ""
        above, below = ("".join(f"{line}\r\n" for line in part) for part in (lines, frame))
        if above or below or up:
            text = f"{_HIDE}\r{up}{_CLEAR_BELOW}{above[:_LONGEST_TEXT]}{_NO_WRAP}{below}{_WRAP}{_SHOW}"
            # It fits into the buffer, so nothing is written before the flush, and then the height is known.
            self._terminal.write(text.encode("utf-8", "replace"))
            self._height = len(frame)
            self._flush()

    def _size(self) -> tuple[int, int]:
        """Columns and rows, now: a terminal may have changed since the last frame."""
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
                # Somebody who shares the terminal has made it so.
                select.select([], [self._terminal], [])
            except OSError:
                # Nobody looks at it any more, and the build goes on. Without its file the buffer forgets what it holds.
                self._gone = True
                self._terminal.raw.close()
