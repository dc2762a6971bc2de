"""The words that all displays share: names of steps, sizes, rates, the summary."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pybuild.builder.events import Built, CheckWarning, Event, Exported, StepFinished
from pybuild.store.exporting.publish import STDOUT
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import BuiltLayer, StepRef


@frozen
class BuildInfo:
    """What a build is called and what it was asked for."""

    id: str
    context: str
    recipe: str | None
    target: str | None
    name: str | None = None  # that somebody gave it

    @staticmethod
    def begin(context: str, recipe: str | None, target: str | None, name: str | None = None) -> BuildInfo:
        """A build that begins now. Its id sorts by time; a password in the URL of a context is left out."""
        from pybuild.values.redact import redact

        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        id_ = f"{stamp}.{int(now * 1000) % 1000:03d}Z-{os.urandom(2).hex()}"
        return BuildInfo(id_, redact(context), recipe, target, name)


def step_name(step: StepRef) -> str:
    """A step in front of a line: its stage, and which of its steps it is. Contexts that are used are none of them."""
    return one_line(f"[{step.stage} {step.number}/{step.total}]" if step.number else f"[{step.stage}]")


def one_line(text: str) -> str:
    """A text for one line of a terminal; it comes from the recipe and may hold anything."""
    return "".join(character if character.isprintable() else " " for character in text)


def human_size(size: int) -> str:
    """A number of bytes for people, in powers of 1000 as docker shows them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def exported_line(event: Exported) -> str:
    """That an output was written."""
    where = "standard output" if event.destination == STDOUT else one_line(event.destination)
    return f"wrote {where} ({human_size(event.size)})"


def warning_line(warning: CheckWarning) -> str:
    """Where, which rule, and what it says."""
    place = f"{warning.source.filename}:{warning.span.line}:{warning.span.column}"
    return one_line(f"{place}: warning: {warning.rule}: {warning.text}")


class Totals:
    """What a build has come to so far."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._layers: tuple[BuiltLayer, ...] = ()
        self.run = 0  # steps
        self.cached = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._begun

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case StepFinished(cached=True):
                self.cached += 1
            case StepFinished():
                self.run += 1
            case Built(layers=layers):
                self._layers = layers
            case _:
                pass

    def summary(self) -> list[str]:
        """Lines for the end of a build: how long, how many steps, and the size of each layer."""
        base = [layer for layer in self._layers if not layer.instruction]
        lines = [f"built in {self.seconds:.1f} s: {self.run} run, {self.cached} cached"]
        if base:
            count = "1 layer" if len(base) == 1 else f"{len(base)} layers"
            lines.append(_layer_line(sum(layer.size for layer in base), f"base image, {count}"))
        made = [layer for layer in self._layers if layer.instruction]
        return lines + [_layer_line(layer.size, one_line(layer.instruction)) for layer in made]


def _layer_line(size: int, text: str) -> str:
    return f"{human_size(size):>9}  {text}"
