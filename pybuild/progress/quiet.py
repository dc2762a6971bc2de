"""Nothing, unless a step fails: then all that it wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pybuild import report
from pybuild.builder.events import ShellOpened, StepBroke, StepFinished, StepOutput
from pybuild.progress.lines import HeldOutput

if TYPE_CHECKING:
    from pybuild.builder.events import Event
    from pybuild.store.formats.digest import Digest


class QuietProgress:
    """Holds what running steps write. Of those that run beside the one that fails nothing is shown."""

    def __init__(self) -> None:
        self._held = HeldOutput()
        self._broken: int | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case StepOutput():
                self._held.add(event)
            case StepFinished(step=step):
                self._held.drop(step.node)
            case StepBroke(step=step):
                self._broken = step.node
            case ShellOpened(step=step):
                _show(self._held, step.node)
            case _:
                pass

    def finished(self, _manifest: Digest) -> None:
        pass

    def failed(self, error: Exception) -> None:
        if self._broken is not None:
            _show(self._held, self._broken)
        report.show(error)

    def close(self) -> None:
        pass


def _show(held: HeldOutput, node: int) -> None:
    """What a step wrote, on standard error: as it came, but for a terminal made harmless."""
    terminal = sys.stderr.isatty()
    for piece in held.take(node):
        if terminal:
            from pybuild.progress.text import harmless_lines

            piece = harmless_lines(piece)
        sys.stderr.buffer.write(piece)
    sys.stderr.buffer.flush()
