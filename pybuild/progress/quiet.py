"""Shows nothing, except the whole output of a step that fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pybuild import report
from pybuild.builder.events import ShellOpened, StepBroke, StepFinished, StepOutput
from pybuild.progress.lines import BufferedOutput, write_output

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
                write_output(sys.stderr, self._buffered.take(step.node))
            case _:
                pass

    def finished(self, _manifest: Digest) -> None:
        pass

    def failed(self, error: Exception) -> None:
        if self._broken is not None:
            write_output(sys.stderr, self._buffered.take(self._broken))
        report.show(error)

    def close(self) -> None:
        pass
