"""The live view as text, computed from events, the time and the size of the terminal.

Steps run in parallel, so all state is kept by node. Each thing that has ended becomes a line that is printed once; the
things that are running make up a frame that is drawn again and again.
"""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

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
    BOLD,
    CYAN,
    DIM,
    GREEN,
    RED,
    Rate,
    Totals,
    cache_line,
    exported_line,
    layer_text,
    pushed_line,
    rule_line,
    step_name,
    styled,
    warning_line,
)
from pybuild.progress.terminal_text import clip, harmless
from pybuild.values import frozen
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import StepRef

_TAIL = 4  # lines of output shown for a running step, if there is room
_PARTIAL = 4096  # bytes kept of an unfinished line; more than the width of a terminal


@dataclass(slots=True)
class _Running:
    step: StepRef
    since: float
    layer: str = ""  # how far its layer is; "": it is not being written, or small
    tail: deque[bytes] = field(default_factory=lambda: deque(maxlen=_TAIL))
    partial: dict[int, bytes] = field(default_factory=dict)  # stream -> an unfinished line

    def output(self, stream: int, data: bytes) -> None:
        *whole, rest = (self.partial.get(stream, b"") + data).split(b"\n")
        self.tail.extend(line for line in whole[-_TAIL:] if line.strip())
        # Progress bars use \r; only their last state counts.
        *_, rest = [b"", *(part for part in rest.split(b"\r") if part)]
        self.partial[stream] = rest[:_PARTIAL]

    def last(self, count: int) -> list[bytes]:
        lines = [*self.tail, *(whole for line in self.partial.values() if (whole := _whole_characters(line)).strip())]
        return lines[-count:] if count else []


def _whole_characters(data: bytes) -> bytes:
    """An unfinished line without the bytes of a character whose rest has not arrived yet."""
    return data[: codecs.utf_8_decode(data, "replace", False)[1]]


@dataclass(slots=True)
class _Transfer:
    rate: Rate
    done: int
    total: int | None
    verb: str


@frozen
class _Line:
    """A line about something that has ended, or about a running step."""

    text: str
    name: str = ""
    state: str = ""
    style: str = ""  # of `state`; of the whole line if it has no name
    whole: bool = True  # can take several rows; lines of steps are cut to one row


class LiveView:
    """Takes events; returns lines to print once (`new_lines`) and the frame below them (`frame`)."""

    def __init__(self, clock: Callable[[], float], *, colour: bool) -> None:
        self._clock = clock
        self._colour = colour
        self._totals = Totals(clock)
        self._running: dict[int, _Running] = {}
        self._transfers: dict[str, _Transfer] = {}
        self._fetched: set[str] = set()
        self._steps = 0  # that the build has in all; 0: not known
        self._new_lines: list[_Line] = []

    def take(self, event: Event) -> None:
        """Update the view with an event."""
        self._totals.take(event)
        match event:
            case StepStarted(step=step):
                self._steps = max(self._steps, step.of)
                self._running[step.node] = _Running(step, self._clock())
            case StepOutput(step=step, stream=stream, data=data):
                if step.node in self._running:
                    self._running[step.node].output(stream, data)
            case LayerProgress(step=step):
                if step.node in self._running:
                    self._running[step.node].layer = layer_text(event)
            case StepFinished(step=step, cached=cached, seconds=seconds):
                self._steps = max(self._steps, step.of)
                self._running.pop(step.node, None)
                state, style = ("CACHED", GREEN) if cached else (_seconds(seconds), "")
                self._new_lines.append(_Line(step.instruction, step_name(step), state, style, whole=False))
            case StepBroke(step=step):
                self._running.pop(step.node, None)
                self._new_lines.append(_Line(step.instruction, step_name(step), "FAILED", RED, whole=False))
            case Transfer():
                self._transfer(event)
            case Note(text=text):
                self._new_lines.append(_Line(f"note: {text}"))
            case CheckWarning():
                self._new_lines.append(_Line(warning_line(event)))
            case Built() | Tick() | ShellOpened():
                pass
            case RuleBroken():
                self._new_lines.append(_Line(rule_line(event)))
            case Exported():
                self._new_lines.append(_Line(exported_line(event)))
            case Pushed() | Copied():
                self._new_lines.append(_Line(pushed_line(event)))
            case CacheExported():
                self._new_lines.append(_Line(cache_line(event)))
            case _:
                assert_never(event)

    def stop(self, *, finished: bool) -> None:
        """The build has ended: show running steps as stopped, and the summary if it succeeded."""
        for running in self._running.values():
            step = running.step
            self._new_lines.append(_Line(step.instruction, step_name(step), "stopped", RED, whole=False))
        self._running.clear()
        self._transfers.clear()
        if finished:
            first, *layers = self._totals.summary()
            self._new_lines.append(_Line(first, style=BOLD))
            self._new_lines += [_Line(line, whole=False) for line in layers]

    def new_lines(self, columns: int) -> list[str]:
        """The lines added since the last call, for a terminal of this width."""
        lines, self._new_lines = self._new_lines, []
        return [self._format(line, None if line.whole else columns) for line in lines]

    def frame(self, columns: int, rows: int) -> list[str]:
        """The running steps and transfers, in at most `rows` lines of at most `columns` cells."""
        if rows < 1:
            return []
        lines = [self._transfer_line(name, columns) for name in self._transfers][: rows - 1]
        room = rows - 1 - len(lines)
        running = list(self._running.values())
        shown = running if len(running) <= room else running[: max(room - 1, 0)]
        tail = min(_TAIL, (room - len(shown)) // len(shown)) if len(shown) == len(running) and shown else 0
        for each in shown:
            seconds = _seconds(self._clock() - each.since)
            text = f"{each.layer}  {each.step.instruction}" if each.layer else each.step.instruction
            lines.append(self._format(_Line(text, step_name(each.step), seconds, BOLD), columns))
            lines += [self._output_line(line, columns) for line in each.last(tail)]
        if len(shown) < len(running) and room:
            lines.append(clip(f"and {len(running) - len(shown)} more running", columns))
        return [*lines, self._status(columns)]

    def _status(self, columns: int) -> str:
        totals = self._totals
        text = f"{totals.seconds:.1f} s"
        if self._steps and (totals.run or totals.cached or self._running):
            text += f": {totals.run + totals.cached} of {self._steps} steps, {totals.cached} cached, {len(self._running)} running"
        return self._styled(clip(text, columns), CYAN)

    def _format(self, line: _Line, columns: int | None) -> str:
        """Name and state come first, so that they are visible on a narrow terminal too."""
        start = f"{line.name} {line.state:>8}  " if line.name else ""
        text = clip(start + line.text, columns)
        if not line.name:
            return self._styled(text, line.style)
        end = min(len(start) - 2, len(text))
        begin = min(end - len(line.state), len(text))
        return text[:begin] + self._styled(text[begin:end], line.style) + text[end:]

    def _output_line(self, line: bytes, columns: int) -> str:
        if columns < 8:
            return ""
        return self._styled("    | ", DIM) + harmless(line[: _PARTIAL * 4], columns - 6, colour=self._colour)

    def _styled(self, text: str, style: str) -> str:
        return styled(text, style, self._colour)

    def _transfer(self, event: Transfer) -> None:
        name = event.name
        if not event.ended:
            self._fetched.discard(name)
            known = self._transfers.setdefault(
                name, _Transfer(Rate(self._clock(), event.done), event.done, event.total, event.verb)
            )
            known.done, known.total = event.done, event.total
        elif name not in self._fetched:
            # A transfer can report its end more than once.
            self._fetched.add(name)
            self._transfers.pop(name, None)
            self._new_lines.append(_Line(f"[{name}] {human_size(event.done)} {event.verb}"))

    def _transfer_line(self, name: str, columns: int) -> str:
        transfer = self._transfers[name]
        text = f"[{name}] {human_size(transfer.done)}"
        if transfer.total is not None:
            text += f" of {human_size(transfer.total)}"
        if transfer.verb != "fetched":
            text += f" {transfer.verb}"
        return clip(text + transfer.rate.text(self._clock(), transfer.done, transfer.total), columns)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds // 60:.0f} min"
