"""What the main process and a job worker say to each other. Each message is one JSON object in one frame.

    main -> worker   JobRequest    {"job": name of the class, "args": {...}}
    worker -> main   JobProgress   {"done": bytes, "total": bytes or null}, any number of times
                     JobNote       {"note": text}, any number of times
                     JobResult     {"result": {...}}
                     JobFailure    {"error": name of the class, "message": text, "hint": text or null,
                                   "traceback": text, "" except for a bug}

An error of pybuild arrives as its own class if that can be made from a message and a hint, else as its nearest base
class that can. An OSError arrives as a BuildError that begins with the name of its class. Any other error is a bug of
pybuild: it arrives as a WorkerBug, with the traceback of the worker.
"""

from __future__ import annotations

import os
import typing
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

from pybuild.builder import errors as builder_errors
from pybuild.builder.errors import BuildError
from pybuild.builder.workers.codec import decode, encode
from pybuild.builder.workers.job_table import job_class
from pybuild.remote import errors as remote_errors
from pybuild.store import errors as store_errors
from pybuild.store.objects.parts import INGEST
from pybuild.store.system.disk_full import no_space
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.jobs.job import Job
    from pybuild.builder.sandbox.frames import Message

R = TypeVar("R")


@frozen
class JobRequest:
    """Do a job: its class, by the name that the job table knows, and its fields."""

    job: str
    args: dict[str, object]


@frozen
class JobProgress:
    """A job writes a layer or downloads: the bytes that are done, and all of them (None: not known)."""

    done: int
    total: int | None


@frozen
class JobNote:
    """A job says why it takes long."""

    note: str


@frozen
class JobResult:
    """A job is done: the fields of the value that `run` returned. The job's class determines the value's class."""

    result: dict[str, object]


@frozen
class JobFailure:
    """A job raised an error. `error` names one of the classes in `_error_classes`."""

    error: str
    message: str
    hint: str | None
    traceback: str  # "", except for a bug of pybuild
    layer: str = ""  # of a LayerUnavailable: the digest of the blob


class WorkerBug(Exception):
    """A job raised an error that no code expects. It is not a PybuildError: like a bug of the main process, it is shown
    with a traceback, that of the worker.
    """


def request_message(job: Job[Any]) -> Message:
    """The message that asks a worker to do a job."""
    return encode(JobRequest(type(job).__name__, encode(job)))


def read_request(message: Message) -> Job[object]:
    """The job that a message asks for. Raises BuildError if the message does not fit the job's class."""
    request = decode(JobRequest, message)
    return decode(job_class(request.job), request.args)


def result_message(value: object) -> Message:
    """The message with the value that a job returned."""
    return encode(JobResult(encode(value)))


def note_message(text: str) -> Message:
    """The message that says why a job takes long."""
    return encode(JobNote(text))


def progress_message(done: int, total: int | None) -> Message:
    """The message that says how far a job is."""
    return encode(JobProgress(done, total))


def read_progress(message: Message) -> JobProgress | JobNote | None:
    """What a message says about a job that goes on. None: the message is the answer."""
    if "note" in message:
        return decode(JobNote, message)
    return decode(JobProgress, message) if "done" in message else None


def failure_message(error: Exception, job: Job[Any] | None = None) -> Message:
    """The message with the error that a job raised. None: it was raised before the job was known."""
    if isinstance(error, OSError):
        error = _translated(error, job)
    for kind in type(error).__mro__:
        if _error_classes().get(kind.__name__) is kind:
            layer = getattr(error, "digest", "")  # of a LayerUnavailable
            return encode(JobFailure(kind.__name__, str(error), getattr(error, "hint", None), "", layer))
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError | PybuildError):
        return encode(JobFailure(BuildError.__name__, message, getattr(error, "hint", None), ""))
    import traceback  # takes milliseconds, and a worker seldom needs it

    return encode(JobFailure(WorkerBug.__name__, message, None, "".join(traceback.format_exception(error))))


def _translated(error: OSError, job: Job[Any] | None) -> Exception:
    """NoSpace, with the store that the job writes to, if its disk is full; any other error unchanged.

    The error itself often names no path, or one relative to a directory's descriptor.
    """
    for value in () if job is None else _strings(encode(job)):
        root, found, _ = value.rpartition(f"/{INGEST.directory}/")
        if found:
            return no_space(error, f"the store {root}", path=root)
    return no_space(error, os.fsdecode(error.filename or "the store"))


def _strings(value: object) -> Iterator[str]:
    """All strings in a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from _strings(each)
        case list():
            for each in value:
                yield from _strings(each)
        case _:
            pass


def read_answer(message: Message, job: Job[R]) -> R:
    """The value that a job returned. Raises the error that it raised, or BuildError if the message does not fit."""
    if "error" in message:
        failure = decode(JobFailure, message)
        if failure.traceback:
            bug = WorkerBug(f"{type(job).__name__}: {failure.message}")
            bug.add_note(
                f"In the worker:\n{failure.traceback}This is a bug of pybuild: please report it with this text."
            )
            raise bug
        if failure.layer:
            raise builder_errors.LayerUnavailable(failure.message, failure.layer, hint=failure.hint)
        raise _error_classes().get(failure.error, BuildError)(failure.message, hint=failure.hint)
    kind: type[R] = _result_class(type(job))
    return decode(kind, decode(JobResult, message).result)


@cache
def _error_classes() -> dict[str, type[PybuildError]]:
    """The errors that a message can carry, by name: those that can be made from a message and a hint."""
    return {
        kind.__name__: kind
        for module in (builder_errors, store_errors, remote_errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, PybuildError) and _is_carried(kind)
    }


def _is_carried(kind: type[PybuildError]) -> bool:
    try:
        signature(kind).bind("message", hint=None)
    except TypeError:
        return False
    return True


@cache
def _result_class(job: type) -> type:
    """The class that the `run` of a job is annotated to return."""
    found: type = typing.get_type_hints(job.run)["return"]  # type: ignore[attr-defined]
    return found
