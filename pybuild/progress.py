"""What a build shows while it runs: plain lines, JSON objects, or nothing until something fails."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Protocol, assert_never

from builder.events import CheckWarning, Event, Exported, Note, StepFinished, StepOutput, StepStarted, Tick, Transfer
from store.publish import STDOUT

if TYPE_CHECKING:
    from builder.events import StepRef

_VERSION = 1
_TRANSFER_SECONDS = 5.0  # between two lines about one


class Progress(Protocol):
    """Takes the events of one build."""

    def __call__(self, event: Event) -> None: ...

    def failed(self) -> None:
        """The build has failed: show what was held back and helps to understand it."""
        ...


def progress_for(kind: str) -> Progress:
    """The display of that name."""
    match kind:
        case "json":
            return JsonProgress()
        case "quiet":
            return QuietProgress()
        case _:
            return PlainProgress()


class PlainProgress:
    """A line for each thing that happens, with the step in front; output of steps is never cut."""

    def __init__(self) -> None:
        self._partial: dict[tuple[int, int], bytes] = {}
        self._transfers: dict[str, float] = {}  # name -> when it was last told of

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(step=step):
                self._line(f"{_name(step)} {_one_line(step.instruction)}")
            case StepOutput(step=step, stream=stream, data=data):
                self._output(step, stream, data)
            case StepFinished(step=step, cached=True):
                self._line(f"{_name(step)} CACHED {_one_line(step.instruction)}")
            case StepFinished(step=step, seconds=seconds):
                self._flush(step)
                self._line(f"{_name(step)} done in {seconds:.1f} s")
            case Transfer():
                self._transfer(event)
            case Note(text=text):
                self._line(f"note: {text}")
            case CheckWarning():
                self._line(warning_line(event))
            case Exported(destination=destination, size=size):
                where = "standard output" if destination == STDOUT else destination
                self._line(f"wrote {where} ({human_size(size)})")
            case Tick():
                pass
            case _:
                assert_never(event)

    def failed(self) -> None:
        for key in list(self._partial):
            sys.stderr.buffer.write(self._partial.pop(key) + b"\n")
        sys.stderr.buffer.flush()

    def _transfer(self, event: Transfer) -> None:
        """The beginning, the end, and in between a line now and then."""
        now = time.monotonic()
        if event.done < event.total and now < self._transfers.get(event.name, -_TRANSFER_SECONDS) + _TRANSFER_SECONDS:
            return
        self._transfers[event.name] = now
        self._line(f"[{event.name}] {human_size(event.done)} of {human_size(event.total)} fetched")

    def _output(self, step: StepRef, stream: int, data: bytes) -> None:
        prefix = f"{_name(step)} | ".encode()
        *whole, rest = (self._partial.pop((step.node, stream), prefix) + data).split(b"\n")
        out = b""
        for index, line in enumerate(whole):
            out += (b"" if index == 0 else prefix) + line + b"\n"
        if whole:
            rest = prefix + rest if rest else b""
        if rest:
            self._partial[(step.node, stream)] = rest
        sys.stderr.flush()
        sys.stderr.buffer.write(out)
        sys.stderr.buffer.flush()

    def _flush(self, step: StepRef) -> None:
        for stream in (1, 2):
            rest = self._partial.pop((step.node, stream), b"")
            if rest:
                sys.stderr.buffer.write(rest + b"\n")
        sys.stderr.buffer.flush()

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class JsonProgress:
    """One object a line on standard error; the fields of each kind of event only ever grow."""

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(step=step):
                self._emit("step_started", step)
            case StepOutput(step=step, stream=stream, data=data):
                self._emit("step_output", step, stream=stream, data=data.decode("utf-8", "backslashreplace"))
            case StepFinished(step=step, cached=cached, seconds=seconds):
                self._emit("step_finished", step, cached=cached, seconds=round(seconds, 3))
            case Transfer(name=name, done=done, total=total):
                self._emit("transfer", None, image=name, done=done, total=total)
            case Note(text=text):
                self._emit("note", None, text=text)
            case CheckWarning(rule=rule, text=text, source=source, span=span):
                self._emit(
                    "warning", None, rule=rule, text=text, file=source.filename, line=span.line, column=span.column
                )
            case Exported(destination=destination, manifest=manifest, size=size):
                self._emit("exported", None, destination=destination, manifest=manifest, size=size)
            case Tick():
                pass
            case _:
                assert_never(event)

    def failed(self) -> None:
        pass

    @staticmethod
    def _emit(name: str, step: StepRef | None, **fields: object) -> None:
        data: dict[str, object] = {"event": name, "version": _VERSION, "time": round(time.time(), 3)}
        if step is not None:
            data |= {
                "node": step.node,
                "stage": step.stage,
                "number": step.number,
                "total": step.total,
                "instruction": step.instruction,
            }
        print(json.dumps({**data, **fields}), file=sys.stderr, flush=True)


class QuietProgress:
    """Nothing, unless a step fails: then the whole output of those that were running."""

    def __init__(self) -> None:
        self._logs: dict[int, IO[bytes]] = {}  # of running steps, by node

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(step=step):
                self._logs[step.node] = tempfile.TemporaryFile()
            case StepOutput(step=step, data=data):
                self._logs[step.node].write(data)
            case StepFinished(step=step):
                if step.node in self._logs:
                    self._logs.pop(step.node).close()
            case Transfer() | Note() | CheckWarning() | Exported() | Tick():
                pass
            case _:
                assert_never(event)

    def failed(self) -> None:
        sys.stderr.flush()
        for log in self._logs.values():
            log.seek(0)
            while data := log.read(1 << 20):
                sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def _name(step: StepRef) -> str:
    return f"[{step.stage} {step.number}/{step.total}]"


def _one_line(text: str) -> str:
    """An instruction for one line of a terminal; it comes from the recipe and may hold anything."""
    return "".join(character if character.isprintable() else " " for character in text)


def warning_line(warning: CheckWarning) -> str:
    """Where, which rule, and what it says."""
    place = f"{warning.source.filename}:{warning.span.line}:{warning.span.column}"
    return _one_line(f"{place}: warning: {warning.rule}: {warning.text}")


def human_size(size: int) -> str:
    """A number of bytes for people, in powers of 1000 as docker shows them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
