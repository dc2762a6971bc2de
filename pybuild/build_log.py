"""The display of a build, with a copy of its events in the logs of the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.builder.events import Note, StepBroke, StepFinished, StepOutput
from pybuild.progress.jsonlines import Encoder
from pybuild.store.objects.build_logs import BuildLog
from pybuild.values.errors import reason_of

if TYPE_CHECKING:
    from pybuild.builder.events import Event
    from pybuild.progress import Progress
    from pybuild.progress.formatting import BuildInfo
    from pybuild.store.formats.digest import Digest


class LoggedDisplay:
    """Passes events to a display and writes them to a log. If the log cannot be written, the display gets one note."""

    def __init__(self, display: Progress, build: BuildInfo, logs: str | None) -> None:
        """`logs` is the store's directory of logs; None: nothing can be written there, and the build has said so."""
        self._display = display
        self._encoder = Encoder(build)
        self._log: BuildLog | None = None
        self._noted = False
        try:
            self._log = None if logs is None else BuildLog(logs, build.id)
        except OSError as error:
            self._note(reason_of(error))
        self._write(self._encoder.started())

    def __call__(self, event: Event) -> None:
        self._display(event)
        if self._log is None:
            return
        if isinstance(event, StepOutput):
            # The raw bytes rather than JSON: people read them with `less` and `grep`.
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
        if not self._noted:
            self._noted = True
            self._display(Note(f"the log of this build is incomplete: {trouble}"))
