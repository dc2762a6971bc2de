"""What a page tells of a build: from its log, and from what the store remembers of it and of the build before."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pybuild.builder.solve.explain_files import why
from pybuild.pages.columns import Columns
from pybuild.pages.texts import shown_json, shown_name
from pybuild.pages.timeline import timeline
from pybuild.progress.recorded import read_events
from pybuild.progress.terminal_text import harmless
from pybuild.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.builder.misses import ExplainedMiss
    from pybuild.pages.timeline import TimedStep, Timeline
    from pybuild.store.objects.build_logs import StoredLog
    from pybuild.store.objects.builds import BuiltStep, StoredBuild
    from pybuild.store.store import Store

_OUTPUT_HEAD, _OUTPUT_TAIL = 64 << 10, 448 << 10  # bytes of the output of a step that the page has
_OUTPUTS = 16 << 20  # bytes of all outputs
_FILES = 50  # of a step, that explain why it ran


def build_data(store: Store, log: StoredLog, earlier_log: StoredLog | None, builds: Sequence[StoredBuild]) -> str:
    """The data of the page of the build with this log.

    `earlier_log` is that of the build to compare it with; `builds` are all that the store remembers, the oldest first.
    Raises OSError, StoreError.
    """
    events = list(read_events(log.events()))
    build = next((one for one in builds if one.id == log.build), None)
    steps = {} if build is None else {step.node: step for step in build.steps}
    found = timeline(events, {node: _needs(step) for node, step in steps.items()})
    misses = {} if build is None else {one.miss.step.node: one for one in why(store, build, builds)}
    outputs = _Outputs(log)
    head = {
        "kind": "build",
        **_summary(log.build, events, found, running=log.running),
        "path": "" if build is None else build.recipe,
        "steps": [_step(store, step, steps.get(step.node), misses.get(step.node), outputs) for step in found.steps],
        "not_run": [
            {"stage": step.stage, "number": step.number, "line": step.line, "instruction": step.instruction}
            for step in steps.values()
            if step.number
            and step.node not in {timed.node for timed in found.steps}
            and step.outcome.value == "not run"
        ],
        "transfers": [[each.name, each.verb, each.start, each.end, each.size] for each in found.transfers],
        "earlier": None if earlier_log is None else _earlier(earlier_log),
    }
    shown = shown_json(head)
    assert isinstance(shown, dict)
    return Columns().packed(shown)


def earlier_build(builds: Sequence[StoredBuild], build: str) -> str | None:
    """The id of the last build before this one, of the same recipe and target; None if there is none, or it is unknown."""
    known = next((one for one in builds if one.id == build), None)
    if known is None:
        return None
    same = [
        one.id
        for one in builds
        if not one.cache and one.id < build and (one.recipe, one.target) == (known.recipe, known.target)
    ]
    return same[-1] if same else None


def _needs(step: BuiltStep) -> list[int]:
    return [*([] if step.parent is None else [step.parent]), *step.sources]


def _summary(build: str, events: Sequence[Mapping[str, Any]], found: Timeline, *, running: bool) -> dict[str, object]:
    """What the page says of the build as a whole; the same of the build before it, to compare the two."""
    data: dict[str, object] = {
        "build": build, "state": "running" if running else "stopped", "end": found.end, "warnings": [], "notes": [],
        "outputs": [], "built": None, "error": None, "recipe": "", "target": "", "name": "", "time": None,
    }  # fmt: skip
    warnings: list[object] = []
    notes: list[object] = []
    outputs: list[object] = []
    for event in events:
        match event["event"]:
            case "build_started":
                data |= {"recipe": event["recipe"] or event["context"], "context": event["context"]}
                data |= {name: event.get(name) or "" for name in ("target", "name")} | {"time": event.get("time")}
            case "warning":
                warnings.append({name: event.get(name) for name in ("file", "line", "column", "rule", "text")})
            case "note":
                notes.append(event.get("text"))
            case "built":
                names = ("manifest", "layers", "names", "largest")
                data["built"] = {name: event.get(name) for name in names}
            case "exported" | "pushed" | "cache_exported":
                outputs.append(
                    {name: value for name, value in event.items() if name not in ("version", "build", "seq")}
                )
            case "build_finished":
                data["state"] = "done"
            case "build_failed":
                told = ("message", "hint", "file", "line", "column", "status", "failed_node")
                data |= {"state": "failed", "error": {name: event.get(name) for name in told}}
            case _:
                pass
    return {**data, "warnings": warnings, "notes": notes, "outputs": outputs}


def _earlier(log: StoredLog) -> dict[str, object]:
    events = list(read_events(log.events()))
    found = timeline(events, {})
    summary = _summary(log.build, events, found, running=log.running)
    steps = [
        {
            "stage": s.stage, "number": s.number, "platform": s.platform, "instruction": s.instruction,
            "outcome": s.outcome, "seconds": s.seconds,
        }
        for s in found.steps
    ]  # fmt: skip
    return {**{name: summary[name] for name in ("build", "state", "end", "time", "built")}, "steps": steps}


def _step(
    store: Store, step: TimedStep, built: BuiltStep | None, miss: ExplainedMiss | None, outputs: _Outputs
) -> dict[str, object]:
    output, size = outputs.of(step.node)
    data: dict[str, object] = {
        "node": step.node, "stage": step.stage, "number": step.number, "total": step.total, "platform": step.platform,
        "instruction": step.instruction, "outcome": step.outcome, "start": round(step.start, 3),
        "end": round(step.end, 3), "wait": round(step.wait, 3), "critical": step.critical, "output": output,
        "output_size": size, "line": 0 if built is None else built.line,
        "content": None if built is None else _content(store, built),
    }  # fmt: skip
    if miss is not None:
        earlier, files = miss.miss.earlier, miss.files
        data["causes"] = list(miss.miss.causes)
        data["files"] = None if files is None else [[f"/{shown_name(path)}", how] for path, how in files[:_FILES]]
        data["more_files"] = max(0, len(files or ()) - _FILES)
        data["compared_with"] = "" if earlier is None else earlier.build.cache or earlier.build.id
    return data


def _content(store: Store, step: BuiltStep) -> int | None:
    """The bytes of the files that a step wrote; None if the store does not have its result any more."""
    if step.snapshot is None or not step.number:
        return None
    with suppress(StoreError, OSError, IndexError):
        return sum(size for _, size in store.changesets.toc(store.snapshots.changesets(step.snapshot)[0]).contents())
    return None


class _Outputs:
    """Reads the output of steps, of long ones the beginning and the end."""

    def __init__(self, log: StoredLog) -> None:
        self._log = log
        self._left = _OUTPUTS

    def of(self, node: int) -> tuple[str, int]:
        """The output of a step as text that moves no cursor, and how many bytes it wrote."""
        size = self._log.size(node)
        if not size:
            return "", 0
        head, tail = min(_OUTPUT_HEAD, self._left), min(_OUTPUT_TAIL, self._left)
        with self._log.open(node) as file:
            if size <= head + tail:
                data = file.read()
            else:
                data = file.read(head)
                file.seek(-tail, os.SEEK_END)
                data += b"\n[%d bytes are left out here: pybuild logs has them]\n" % (size - head - tail) + file.read()
        self._left = max(0, self._left - len(data))
        return "\n".join(harmless(line, colour=False) for line in data.split(b"\n")), size
