"""Events as JSON, one object per line. docs/user/events.md specifies them; fields can be added but not removed."""

from __future__ import annotations

import codecs
import json
import sys
import time
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
from pybuild.progress.formatting import Totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.events import StepRef
    from pybuild.progress.formatting import BuildInfo
    from pybuild.store.formats.digest import Digest

VERSION = 1


class Encoder:
    """Makes the objects of one build. Each has the id of the build and a sequence number."""

    def __init__(self, build: BuildInfo) -> None:
        self._build = build
        self._seq = 0
        self._totals = Totals(time.monotonic)
        self._decoders: dict[
            tuple[int, int], codecs.IncrementalDecoder
        ] = {}  # the bytes of a character can arrive in two pieces
        self._broken: int | None = None

    def started(self) -> dict[str, object]:
        """The first object."""
        build = self._build
        return self._object(
            "build_started", context=build.context, recipe=build.recipe, target=build.target, name=build.name
        )

    def event(self, event: Event) -> Iterator[dict[str, object]]:
        """The objects of one event: usually one, none for Tick."""
        self._totals.take(event)
        match event:
            case StepStarted(step=step):
                yield self._object("step_started", step)
            case StepOutput(step=step, stream=stream, data=data):
                if text := self._text(step, stream, data):
                    yield self._object("step_output", step, stream=stream, data=text)
            case LayerProgress(step=step, done=done, total=total):
                yield self._object("layer_progress", step, written=done, size=total)
            case StepFinished(step=step, cached=cached, seconds=seconds):
                yield from self._incomplete(step)
                yield self._object("step_finished", step, cached=cached, seconds=round(seconds, 3))
            case StepBroke(step=step, seconds=seconds, message=message, status=status):
                self._broken = step.node
                yield from self._incomplete(step)
                yield self._object("step_failed", step, seconds=round(seconds, 3), message=message, status=status)
            case ShellOpened(step=step):
                yield self._object("shell_opened", step)
            case Transfer(name=name, done=done, total=total, verb=verb):
                yield self._object("transfer", image=name, done=done, total=total, kind=verb)
            case Note(text=text):
                yield self._object("note", text=text)
            case CheckWarning(rule=rule, text=text, source=source, span=span):
                yield self._object(
                    "warning", rule=rule, text=text, file=source.filename, line=span.line, column=span.column
                )
            case Built(manifest=manifest, layers=layers, names=names, largest=largest):
                yield self._object(
                    "built",
                    manifest=manifest,
                    layers=[
                        {
                            "digest": layer.digest,
                            "size": layer.size,
                            "instruction": layer.instruction or None,
                            **({"platforms": list(layer.platforms)} if layer.platforms else {}),
                        }
                        for layer in layers
                    ],
                    names=list(names),
                    largest=[
                        {"path": added.path, "size": added.size, "instruction": added.instruction} for added in largest
                    ],
                )
            case RuleBroken(rule=rule, text=text, path=path, layer=layer_, instruction=made_by, size=size):
                yield self._object(
                    "rule_broken", rule=rule, text=text, path=path, layer=layer_, instruction=made_by, size=size
                )
            case Exported(destination=destination, manifest=manifest, size=size):
                yield self._object("exported", destination=destination, manifest=manifest, size=size)
            case Pushed(name=name, manifest=manifest, sent=sent, spared=spared):
                yield self._object("pushed", image=name, manifest=manifest, sent=sent, spared=spared)
            case Copied(source=source_, destination=destination, manifest=manifest, sent=sent, spared=spared):
                yield self._object(
                    "copied", source=source_, destination=destination, manifest=manifest, sent=sent, spared=spared
                )
            case CacheExported(
                place=place, manifest=manifest, records=records, layers=count, mounts=mounts, sent=sent, spared=spared
            ):
                yield self._object(
                    "cache_exported",
                    place=place,
                    manifest=manifest,
                    records=records,
                    layers=count,
                    mounts=mounts,
                    sent=sent,
                    spared=spared,
                )
            case Tick():
                pass
            case _:
                assert_never(event)

    def finished(self, manifest: Digest) -> dict[str, object]:
        """The last object of a build that succeeded."""
        return {**self._object("build_finished", manifest=str(manifest)), **self._counts()}

    def failed(self, error: Exception) -> dict[str, object]:
        """The last object of a build that failed."""
        data = self._object("build_failed", failed_node=self._broken)
        return {**data, **report.json_fields(error), **self._counts()}

    def _object(self, event: str, step: StepRef | None = None, **fields: object) -> dict[str, object]:
        """An object with the fields that all objects have."""
        self._seq += 1
        data: dict[str, object] = {
            "event": event,
            "version": VERSION,
            "build": self._build.id,
            "seq": self._seq,
            "time": round(time.time(), 3),
        }
        if step is not None:
            data |= {
                "node": step.node,
                "stage": step.stage,
                "number": step.number,
                "total": step.total,
                "instruction": step.instruction,
                **({"platform": step.platform} if step.platform else {}),
            }
        return {**data, **fields}

    def _counts(self) -> dict[str, object]:
        totals = self._totals
        return {"seconds": round(totals.seconds, 3), "run": totals.run, "cached": totals.cached}

    def _text(self, step: StepRef, stream: int, data: bytes, *, final: bool = False) -> str:
        key = (step.node, stream)
        if key not in self._decoders:
            self._decoders[key] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        return self._decoders[key].decode(data, final)

    def _incomplete(self, step: StepRef) -> Iterator[dict[str, object]]:
        """Output that ended in the middle of a character."""
        for stream in (1, 2):
            if (step.node, stream) in self._decoders:
                if text := self._text(step, stream, b"", final=True):
                    yield self._object("step_output", step, stream=stream, data=text)
                del self._decoders[(step.node, stream)]


class JsonProgress:
    """Writes the objects to standard error. An error follows as text too, which never starts with a brace."""

    def __init__(self, build: BuildInfo) -> None:
        self._encoder = Encoder(build)
        _emit(self._encoder.started())

    def __call__(self, event: Event) -> None:
        for data in self._encoder.event(event):
            _emit(data)

    def finished(self, manifest: Digest) -> None:
        _emit(self._encoder.finished(manifest))

    def failed(self, error: Exception) -> None:
        _emit(self._encoder.failed(error))
        report.show(error)

    def close(self) -> None:
        pass


def _emit(data: dict[str, object]) -> None:
    print(json.dumps(data), file=sys.stderr, flush=True)
