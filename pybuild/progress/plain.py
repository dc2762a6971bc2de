"""Plain lines: one for each event and each line of output, with the name of the step in front, and for output the seconds
since the step began.
"""

from __future__ import annotations

from collections import deque
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
    CYAN,
    GREEN,
    RED,
    LayerLines,
    Rate,
    Totals,
    cache_line,
    exported_line,
    one_line,
    pushed_line,
    rule_line,
    step_name,
    styled,
    transfer_text,
    warning_line,
)
from pybuild.progress.lines import OutputLines
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pybuild.builder.events import StepRef
    from pybuild.store.formats.digest import Digest

_TRANSFER_SECONDS = 5.0  # between two lines about the same transfer
_REPEATED_LINES = 10  # of the output of a failed step


@frozen
class _RunningStep:
    step: StepRef
    since: float
    last: deque[bytes]  # its last lines, as they were written


class PlainProgress:
    """Writes lines to `out`. The output of steps is made harmless if `out` is a terminal; else it is unchanged, but of a progress
    bar only the last state is written.
    """

    def __init__(self, out: BinaryIO, clock: Callable[[], float], *, terminal: bool, colour: bool = False) -> None:
        self._out = out
        self._clock = clock
        self._terminal = terminal
        self._colour = colour
        self._lines = OutputLines()
        self._totals = Totals(clock)
        self._layers = LayerLines(clock)
        self._running: dict[int, _RunningStep] = {}
        self._recent: deque[int | None] = deque(
            maxlen=_REPEATED_LINES
        )  # the nodes of the last lines written; None for pybuild's own lines
        self._transfers: dict[str, tuple[float, int]] = {}  # name -> time and bytes of its last line
        self._rates: dict[str, Rate] = {}
        self._broken: int | None = None  # the node of the step that failed

    def __call__(self, event: Event) -> None:
        self._totals.take(event)
        match event:
            case StepStarted(step=step):
                self._running[step.node] = _RunningStep(step, self._clock(), deque(maxlen=_REPEATED_LINES))
                self.line(f"{self._name(step)} {one_line(step.instruction)}")
            case StepOutput(step=step):
                self.output(step, self._lines.feed(event))
            case LayerProgress():
                if (line := self._layers.line(event)) is not None:
                    self.line(line)
            case StepFinished(step=step, cached=True):
                self.line(f"{self._name(step)} {styled('CACHED', GREEN, self._colour)} {one_line(step.instruction)}")
            case StepFinished(step=step, seconds=seconds):
                self.output(step, self._lines.end(step.node))
                self._running.pop(step.node, None)
                self.line(f"{self._name(step)} done in {seconds:.1f} s")
            case StepBroke(step=step):
                self._broken = step.node
            case ShellOpened():
                self._repeat_output()
            case Transfer():
                self._transfer(event)
            case Note(text=text):
                self.line(f"note: {one_line(text)}")
            case CheckWarning():
                self.line(warning_line(event))
            case Built() | Tick():
                pass
            case RuleBroken():
                self.line(rule_line(event))
            case Exported():
                self.line(exported_line(event))
            case Pushed() | Copied():
                self.line(pushed_line(event))
            case CacheExported():
                self.line(cache_line(event))
            case _:
                assert_never(event)

    def finished(self, _manifest: Digest) -> None:
        for line in self._totals.summary():
            self.line(line)

    def failed(self, error: Exception) -> None:
        self._repeat_output()
        report.show(error)

    def _repeat_output(self) -> None:
        """Repeat the last output of the failed step, once."""
        self.close()
        if self._broken in self._running:
            broken = self._running[self._broken]
            # If no other step wrote in between, these lines are right above.
            if broken.last and set(list(self._recent)[-len(broken.last) :]) != {self._broken}:
                self.line(f"{self._name(broken.step)} {styled('failed', RED, self._colour)}; its last output:")
                self._write(b"".join(broken.last))
            self._broken = None

    def close(self) -> None:
        for running in self._running.values():
            self.output(running.step, self._lines.end(running.step.node))

    def line(self, text: str) -> None:
        """Write a line of pybuild itself."""
        self._recent.append(None)
        self._write(text.encode("utf-8", "backslashreplace") + b"\n")

    def output(self, step: StepRef, lines: list[bytes]) -> None:
        """Write lines of output of a step."""
        if not lines:
            return
        if self._terminal:
            from pybuild.progress.terminal_text import harmless

            lines = [harmless(line, colour=self._colour).encode() for line in lines]
        elif any(b"\r" in line for line in lines):
            from pybuild.progress.terminal_text import last_state

            lines = [last_state(line) for line in lines]
        running = self._running.get(step.node)
        seconds = f" {self._clock() - running.since:.1f} s" if running is not None else ""
        prefix = f"{self._name(step)}{seconds} | ".encode("utf-8", "backslashreplace")
        lines = [prefix + line + b"\n" for line in lines]
        if running is not None:
            running.last.extend(lines)
        self._recent.extend([step.node] * min(len(lines), _REPEATED_LINES))
        self._write(b"".join(lines))

    def _name(self, step: StepRef) -> str:
        return styled(step_name(step), CYAN, self._colour)

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._out.flush()

    def _transfer(self, event: Transfer) -> None:
        """Write a line at the start, at the end, and every few seconds in between."""
        now = self._clock()
        rate = self._rates.setdefault(event.name, Rate(now, event.done))
        last_time, last_done = self._transfers.get(event.name, (now - _TRANSFER_SECONDS, -1))
        if (event.done == last_done and event.total is not None) or (
            not event.ended and now < last_time + _TRANSFER_SECONDS
        ):
            return
        self._transfers[event.name] = (now, event.done)
        self.line(
            f"[{one_line(event.name)}] {transfer_text(event)}{'' if event.ended else rate.text(now, event.done, event.total)}"
        )
