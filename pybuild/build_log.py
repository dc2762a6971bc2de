"""A build whose events go to the display and to the store's logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.builder.events import Note, StepBroke, StepFinished, StepOutput
from pybuild.progress.jsonlines import Encoder
from pybuild.store.objects.build_logs import BuildLog

if TYPE_CHECKING:
    from pybuild.builder.events import Event
    from pybuild.progress import Progress
    from pybuild.progress.words import BuildInfo
    from pybuild.store.formats.digest import Digest


class Logged:
    """Passes on to a display what it writes to a log. A log that cannot be written costs a note and nothing else."""

    def __init__(self, display: Progress, build: BuildInfo, logs: str) -> None:
        self._display = display
        self._encoder = Encoder(build)
        self._log: BuildLog | None = None
        self._told = False
        try:
            self._log = BuildLog(logs, build.id)
        except OSError as error:
            self._note(error.strerror or str(error))
        self._write(self._encoder.started())

    def __call__(self, event: Event) -> None:
        self._display(event)
        if self._log is None:
            return
        if isinstance(event, StepOutput):
            # As it came, and not as JSON: it is read with `less` and `grep`.
            self._log.output(event.step.node, event.data)
        else:
            for data in self._encoder.event(event):
                self._write(data)
        if isinstance(event, StepFinished | StepBroke):
            self._log.end(event.step.node)
        if self._log.failure:
            self._note(self._log.failure)

    def finished(self, manifest: Digest) -> None:
        self._write(self._encoder.finished(manifest))
        self._display.finished(manifest)

    def failed(self, error: Exception) -> None:
        self._write(self._encoder.failed(error))
        self._display.failed(error)

    def close(self) -> None:
        self._display.close()
        if self._log is not None:
            self._log.close()

    def _write(self, data: dict[str, object]) -> None:
        if self._log is not None:
            self._log.event(json.dumps(data).encode())

    def _note(self, trouble: str) -> None:
        if not self._told:
            self._told = True
            self._display(Note(f"the log of this build is not whole: {trouble}"))
