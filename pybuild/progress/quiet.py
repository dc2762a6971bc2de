"""Shows nothing, except the whole output of a step that fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pybuild import report
from pybuild.builder.events import ShellOpened, StepBroke, StepFinished, StepOutput
from pybuild.progress.lines import BufferedOutput

if TYPE_CHECKING:
    from pybuild.builder.events import Event
    from pybuild.store.formats.digest import Digest


class QuietProgress:
    """Buffers the output of running steps. If one fails, the output of the others is not shown."""

    def __init__(self) -> None:
        self._buffered = BufferedOutput()
        self._broken: int | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case StepOutput():
                self._buffered.add(event)
            case StepFinished(step=step):
                self._buffered.drop(step.node)
            case StepBroke(step=step):
                self._broken = step.node
            case ShellOpened(step=step):
                _show(self._buffered, step.node)
            case _:
                pass

    def finished(self, _manifest: Digest) -> None:
        pass

    def failed(self, error: Exception) -> None:
        if self._broken is not None:
            _show(self._buffered, self._broken)
        report.show(error)

    def close(self) -> None:
        pass


def _show(output: BufferedOutput, node: int) -> None:
    """Write the output of a step to standard error: unchanged, or made harmless if that is a terminal."""
    terminal = sys.stderr.isatty()
    for piece in output.take(node):
        if terminal:
            from pybuild.progress.terminal_text import harmless_lines

            piece = harmless_lines(piece)
        sys.stderr.buffer.write(piece)
    sys.stderr.buffer.flush()
