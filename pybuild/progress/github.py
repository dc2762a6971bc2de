"""The display for GitHub Actions: the output of each step in a foldable group, errors as annotations.

Groups do not nest and steps run in parallel, so one step at a time, the *shown* one, has an open group and writes its
output at once. That of the others is kept until they end, or until the shown step ends. Output and recipe could contain workflow commands; the runner is told to ignore commands until it reads a random token. Source: GitHub's
"Workflow commands for GitHub Actions"; actions/runner, ActionCommand (a command starts a line, and \\r ends a line too;
the old form ##[…] works anywhere in a line).
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, assert_never

from pybuild import report
from pybuild.builder.events import (
    Built,
    CacheExported,
    CheckWarning,
    Copied,
    Event,
    Exported,
    LayerProgress,
    Note,
    Pushed,
    RuleBroken,
    ShellOpened,
    StepBroke,
    StepFinished,
    StepOutput,
    StepStarted,
    Tick,
    Transfer,
)
from pybuild.progress.formatting import (
    LayerLines,
    Totals,
    cache_line,
    exported_line,
    one_line,
    pushed_line,
    rule_text,
    step_name,
)
from pybuild.progress.lines import BufferedOutput, OutputLines
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pybuild.builder.events import StepRef
    from pybuild.parser import Source, Span
    from pybuild.store.formats.digest import Digest


class GithubProgress:
    """Writes to `out`. `workspace` is the checkout: annotations name files relative to it; "" if it is not known."""

    def __init__(
        self,
        out: BinaryIO,
        workspace: str,
        clock: Callable[[], float],
        token: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._out = out
        self._workspace = workspace
        self._token = token
        self._totals = Totals(clock)
        self._layers = LayerLines(clock)
        self._buffered = BufferedOutput()
        self._running: dict[int, StepRef] = {}
        self._shown: int | None = None  # the node of the step whose group is open
        self._lines = OutputLines()  # of that step
        self._begun: set[int] = set()  # nodes of running steps that have had a group
        self._stopped = b""  # the token that the runner waits for before it obeys commands again
        self._fetched: set[str] = set()

    def __call__(self, event: Event) -> None:
        self._totals.take(event)
        match event:
            case StepStarted(step=step):
                self._running[step.node] = step
                self._line(f"{step_name(step)} {one_line(step.instruction)}")
            case StepOutput():
                self._output(event)
            case LayerProgress():
                if (line := self._layers.line(event)) is not None:
                    self._line(line)
            case StepFinished(step=step, cached=True):
                self._line(f"{step_name(step)} CACHED {one_line(step.instruction)}")
            case StepFinished(step=step, seconds=seconds):
                self._end_step(step, f"done in {seconds:.1f} s")
            case StepBroke(step=step, seconds=seconds):
                self._end_step(step, f"FAILED after {seconds:.1f} s")
            case ShellOpened():
                self.close()
            case Transfer(name=name, done=done, verb=verb):
                if event.ended and name not in self._fetched:
                    self._fetched.add(name)
                    self._line(f"[{one_line(name)}] {human_size(done)} {verb}")
            case Note(text=text):
                self._line(f"note: {one_line(text)}")
            case CheckWarning(rule=rule, text=text, source=source, span=span):
                self._command("warning", text, title=rule, **self._annotation_location(source, span))
            case Built() | Tick():
                pass
            case RuleBroken(rule=rule):
                self._command("error", rule_text(event), title=rule)
            case Exported():
                self._line(exported_line(event))
            case Pushed() | Copied():
                self._line(pushed_line(event))
            case CacheExported():
                self._line(cache_line(event))
            case _:
                assert_never(event)

    def finished(self, _manifest: Digest) -> None:
        for line in self._totals.summary():
            self._line(line)

    def failed(self, error: Exception) -> None:
        self.close()
        found = report.location(error)
        self._command("error", report.message_of(error), **(self._annotation_location(*found) if found else {}))
        self._line(report.full_text(error))

    def close(self) -> None:
        for step in list(self._running.values()):
            self._end_step(step, "stopped")

    def _output(self, event: StepOutput) -> None:
        node = event.step.node
        if self._shown is None:
            self._open_group(event.step)
        if self._shown == node:
            self._write_lines(self._lines.feed(event))
        else:
            self._buffered.add(event)

    def _open_group(self, step: StepRef) -> None:
        """Make a step the shown one: write what is kept of its output, and from now on whatever comes."""
        again = " (continued)" if step.node in self._begun else ""
        self._begun.add(step.node)
        self._command("group", f"{step_name(step)}{again} {one_line(step.instruction)}")
        self._stop_commands()
        self._shown = step.node
        for piece in self._buffered.take(step.node):
            self._write(piece)

    def _close_group(self) -> None:
        if self._shown is None:
            return
        self._write_lines(self._lines.end(self._shown))
        self._shown = None
        self._obey_commands()
        self._command("endgroup", "")

    def _end_step(self, step: StepRef, how: str) -> None:
        """Write the rest of the output of a step that has ended, and how it ended; then show another step."""
        self._running.pop(step.node, None)
        if self._shown != step.node and step.node in self._buffered.nodes():
            self._close_group()
            self._open_group(step)
        if self._shown == step.node:
            self._close_group()
        self._begun.discard(step.node)
        self._line(f"{step_name(step)} {how}")
        if self._shown is None:
            waiting = self._buffered.nodes()
            if (following := next((one for one in self._running.values() if one.node in waiting), None)) is not None:
                self._open_group(following)

    def _annotation_location(self, source: Source, span: Span) -> dict[str, str]:
        return annotation_place(source, span, self._workspace)

    def _line(self, text: str) -> None:
        """Write one line; it can contain text of the recipe."""
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        if self._stopped or not (b"::" in data or b"##[" in data):
            self._write(data)
            return
        self._stop_commands()
        self._write(data)
        self._obey_commands()

    def _write_lines(self, lines: list[bytes]) -> None:
        if lines:
            self._write(b"".join(line + b"\n" for line in lines))

    def _stop_commands(self) -> None:
        """From now on the runner finds no commands in what is written."""
        self._stopped = self._token().encode()
        self._write(b"::stop-commands::" + self._stopped + b"\n")

    def _obey_commands(self) -> None:
        token, self._stopped = self._stopped, b""
        self._write(b"::" + token + b"::\n")

    def _command(self, name: str, message: str, **properties: str) -> None:
        stopped = bool(self._stopped)
        if stopped:
            self._obey_commands()
        self._write(f"{workflow_command(name, message, **properties)}\n".encode("utf-8", "backslashreplace"))
        if stopped:
            self._stop_commands()

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._out.flush()


def annotation_place(source: Source, span: Span, workspace: str) -> dict[str, str]:
    """The properties of an annotation, with the path of the file in the checkout `workspace`, if that is known."""
    path = source.filename
    if workspace:
        inside = os.path.relpath(path, workspace)
        path = path if inside.startswith("../") else inside
    return {"file": path, "line": str(span.line), "col": str(span.column)}


def workflow_command(name: str, message: str, **properties: str) -> str:
    """A command to the runner, on one line."""
    listed = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{name}{' ' if listed else ''}{listed}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
