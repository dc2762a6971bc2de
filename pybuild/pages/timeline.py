"""When the steps of a build ran, what each waited for, and which of them the build waited for: from its events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@frozen
class TimedStep:
    """A step that the events tell of. Times are seconds since the build began."""

    node: int
    stage: str
    number: int
    total: int
    instruction: str
    outcome: str  # cached, ran, failed, or stopped: it was running when the build ended
    start: float
    end: float
    wait: float = 0.0  # between the end of what it needs and its start
    critical: bool = False  # the build waited for it
    platform: str = ""  # in a build for several

    @property
    def seconds(self) -> float:
        return self.end - self.start


@frozen
class TimedTransfer:
    """Bytes that came from or went to other machines, as far as events tell."""

    name: str
    verb: str
    start: float
    end: float
    size: int


@frozen
class Timeline:
    """All that took time. `end` is the last event, or the end of the build."""

    steps: tuple[TimedStep, ...]  # in the order in which they began
    transfers: tuple[TimedTransfer, ...]
    end: float


def timeline(events: Iterable[Mapping[str, Any]], needs: Mapping[int, Sequence[int]]) -> Timeline:
    """The timeline of these events. `needs`: node -> the nodes that it reads, also such that no event tells of."""
    steps: dict[int, TimedStep] = {}
    transfers: dict[tuple[str, str], TimedTransfer] = {}
    began: float | None = None
    last = 0.0
    for event in events:
        time = event.get("time")
        if not isinstance(time, int | float):
            continue
        began = time if began is None else began
        now = last = max(0.0, time - began)
        match event:
            case {"event": "step_started", "node": int(node)}:
                steps[node] = _step(event, "stopped", now, now)
            case {"event": "step_finished", "node": int(node)}:
                outcome = "cached" if event.get("cached") else "ran"
                steps[node] = _step(event, outcome, _start(steps, node, event, now), now)
            case {"event": "step_failed", "node": int(node)}:
                steps[node] = _step(event, "failed", _start(steps, node, event, now), now)
            case {"event": "transfer", "image": str(name), "done": int(done)}:
                verb = str(event.get("kind", "fetched"))
                known = transfers.get((name, verb))
                start = now if known is None else known.start
                transfers[name, verb] = TimedTransfer(name, verb, start, now, done)
            case _:
                pass
    steps = {n: replace(s, end=last) if s.outcome == "stopped" else s for n, s in steps.items()}
    found = _marked(steps, {node: _reached(node, needs, steps) for node in steps})
    order = sorted(found, key=lambda step: (step.start, step.end, step.node))
    return Timeline(tuple(order), tuple(sorted(transfers.values(), key=lambda one: one.start)), last)


def _step(event: Mapping[str, Any], outcome: str, start: float, end: float) -> TimedStep:
    number, total = (value if isinstance(value := event.get(name), int) else 0 for name in ("number", "total"))
    stage, instruction = (str(event.get(name, "")) for name in ("stage", "instruction"))
    platform = str(event.get("platform", ""))
    return TimedStep(event["node"], stage, number, total, instruction, outcome, start, end, platform=platform)


def _start(steps: Mapping[int, TimedStep], node: int, event: Mapping[str, Any], now: float) -> float:
    if node in steps:
        return steps[node].start
    seconds = event.get("seconds")
    return max(0.0, now - seconds) if isinstance(seconds, int | float) else now


def _reached(node: int, needs: Mapping[int, Sequence[int]], steps: Mapping[int, TimedStep]) -> list[int]:
    """The steps with times that a node needs, directly or through nodes without."""
    found: list[int] = []
    pending, seen = list(needs.get(node, ())), {node}
    while pending:
        other = pending.pop()
        if other in seen:
            continue
        seen.add(other)
        if other in steps:
            found.append(other)
        else:
            pending += needs.get(other, ())
    return found


def _marked(steps: Mapping[int, TimedStep], needs: Mapping[int, Sequence[int]]) -> list[TimedStep]:
    """The steps with their waits, and with those marked that the build waited for.

    The last step that ended is one of these; so is, of the steps that such a one needs, the last that ended.
    """
    ready = {node: max((steps[other].end for other in needs[node]), default=None) for node in steps}
    critical: set[int] = set()
    worked = [node for node, step in steps.items() if step.outcome != "cached"]
    at = max(worked, key=lambda node: (steps[node].end, node), default=None)
    while at is not None and at not in critical:
        critical.add(at)
        before = [node for node in needs[at] if steps[node].outcome != "cached"]
        at = max(before, key=lambda node: (steps[node].end, node), default=None)
    return [
        replace(
            step,
            critical=node in critical,
            wait=0.0 if (since := ready[node]) is None or step.outcome == "cached" else max(0.0, step.start - since),
        )
        for node, step in steps.items()
    ]
