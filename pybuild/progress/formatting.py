"""Text that all displays share: names of steps, sizes, the summary of a build."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pybuild.builder.events import (
    Built,
    CacheExported,
    CheckWarning,
    Copied,
    Event,
    Exported,
    Pushed,
    RuleBroken,
    StepFinished,
)
from pybuild.report import printable
from pybuild.store.exporting.publish import STDOUT
from pybuild.values import frozen
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import LayerProgress, StepRef, Transfer

_LAYER_SECONDS = 5.0  # between two lines about the layer of a step
_SHORT = 60  # characters
_RATE_SECONDS = 2.0  # after which the rate of a transfer tells how long it takes
BOLD, DIM, RED, GREEN, CYAN = "1", "2", "31", "32", "36"  # parameters of SGR, ECMA-48 8.3.117


@frozen
class BuildInfo:
    """Identifies a build and what it builds."""

    id: str
    context: str
    recipe: str | None
    target: str | None
    name: str | None = None  # given by the user

    @staticmethod
    def begin(context: str, recipe: str | None, target: str | None, name: str | None = None) -> BuildInfo:
        """A build that starts now. Its id sorts by time; a password in the URL of the context is removed."""
        from pybuild.values.redact import redact

        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        id_ = f"{stamp}.{int(now * 1000) % 1000:03d}Z-{os.urandom(2).hex()}"
        return BuildInfo(id_, redact(context), recipe, target, name)


def styled(text: str, style: str, colour: bool) -> str:
    """The text in a style, if there are colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and text and colour else text


@frozen
class Rate:
    """How fast a transfer is, from when it was first heard of."""

    since: float
    begun_with: int  # bytes that were there then

    def text(self, now: float, done: int, total: int | None) -> str:
        """`, 5.0 MB/s, 12 s left`; "" as long as nothing can be said, and no time for an unknown size."""
        seconds = now - self.since
        if seconds <= 0:
            return ""
        rate = int((done - self.begun_with) / seconds)
        text = f", {human_size(rate)}/s"
        if rate and total is not None and seconds >= _RATE_SECONDS:
            text += f", {_seconds_left((total - done) / rate)} left"
        return text


def _seconds_left(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def step_name(step: StepRef) -> str:
    """The prefix of a line: [stage number/total]. Named contexts are not numbered."""
    stage = step.shown_stage
    return one_line(f"[{stage} {step.number}/{step.total}]" if step.number else f"[{stage}]")


def one_line(text: str) -> str:
    """The text on one line: every character that is not printable becomes a space."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str) -> str:
    """The beginning of a text, on one line."""
    text = one_line(text)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def transfer_text(event: Transfer) -> str:
    """How far a transfer is."""
    if event.total is None:
        return f"{human_size(event.done)} {event.verb} so far"
    return f"{human_size(event.done)} of {human_size(event.total)} {event.verb}"


def layer_text(event: LayerProgress) -> str:
    """How far the layer of a step is."""
    return f"writing the layer: {human_size(event.done)} of {human_size(event.total)}"


class LayerLines:
    """Chooses the events about layers that become lines: the first of each step, and then one every few seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[int, float] = {}  # node -> when it last got a line

    def line(self, event: LayerProgress) -> str | None:
        """The line for an event; None: it is too soon for one."""
        node, now = event.step.node, self._clock()
        if node in self._last and now < self._last[node] + _LAYER_SECONDS:
            return None
        self._last[node] = now
        return f"{step_name(event.step)} {layer_text(event)}"


def exported_line(event: Exported) -> str:
    """The line that reports a written output."""
    where = "standard output" if event.destination == STDOUT else one_line(event.destination)
    return f"wrote {where} ({human_size(event.size)})"


def pushed_line(event: Pushed | Copied) -> str:
    """The line that reports an image in a registry, or one that was copied."""
    spared = f", {human_size(event.spared)} spared" if event.spared else ""
    if isinstance(event, Copied) and not event.sent + event.spared:
        spared = ", it was there"
    done = f"pushed {event.name}" if isinstance(event, Pushed) else f"copied {event.source} to {event.destination}"
    return one_line(f"{done} ({human_size(event.sent)} sent{spared})")


def cache_line(event: CacheExported) -> str:
    """The line that reports a written cache."""
    records = "1 record" if event.records == 1 else f"{event.records} records"
    layers = "1 layer" if event.layers == 1 else f"{event.layers} layers"
    if event.mounts:
        layers += ", 1 cache mount" if event.mounts == 1 else f", {event.mounts} cache mounts"
    spared = f", {human_size(event.spared)} spared" if event.spared else ""
    return one_line(f"cached to {event.place}: {records}, {layers} ({human_size(event.sent)} sent{spared})")


def warning_line(warning: CheckWarning) -> str:
    """Location, rule and text of a warning."""
    place = f"{warning.source.filename}:{warning.span.line}:{warning.span.column}"
    return one_line(f"{place}: warning: {warning.rule}: {warning.text}")


def rule_text(event: RuleBroken) -> str:
    """What breaks a rule, and where."""
    text = event.text if event.path is None else f"{event.path}: {event.text}"
    if event.instruction:
        text += f" (by `{short(event.instruction)}`)"
    elif event.layer:
        text += f" (layer {event.layer.partition(':')[2][:12]})"
    return printable(text)


def rule_line(event: RuleBroken) -> str:
    """The line that reports a broken rule."""
    return f"{event.rule}: {rule_text(event)}"


class Totals:
    """Counts the steps of a build, its time and the layers of its image."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._built = Built("", ())
        self.run = 0  # steps that were not cached
        self.cached = 0

    @property
    def seconds(self) -> float:
        """Seconds since the build started."""
        return self._clock() - self._begun

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case StepFinished(cached=True):
                self.cached += 1
            case StepFinished():
                self.run += 1
            case Built():
                self._built = event
            case _:
                pass

    def summary(self) -> list[str]:
        """The last lines of a build: duration, number of steps, sizes of layers and image, names, the largest files."""
        layers = self._built.layers
        base = [layer for layer in layers if not layer.instruction]
        lines = [f"built in {self.seconds:.1f} s: {self.run} run, {self.cached} cached"]
        if base:
            count = "1 layer" if len(base) == 1 else f"{len(base)} layers"
            lines.append(_size_line(sum(layer.size for layer in base), f"base image, {count}"))
        for layer in layers:
            if layer.instruction:
                platforms = f"[{' '.join(layer.platforms)}] " if layer.platforms else ""
                lines.append(_size_line(layer.size, one_line(platforms + layer.instruction)))
        names = f", named {', '.join(self._built.names)}" if self._built.names else ""
        lines.append(_size_line(sum(layer.size for layer in layers), f"the image{names}"))
        if self._built.largest:
            lines.append("largest of what this build added, before compression:")
        for added in self._built.largest:
            lines.append(_size_line(added.size, f"{printable(added.path)}  by {short(added.instruction)}"))
        return lines


def _size_line(size: int, text: str) -> str:
    return f"{human_size(size):>9}  {text}"
