"""Jobs, results and errors travel between the main process and its workers as they are."""

from __future__ import annotations

import errno
import json
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import pybuild
from pybuild.builder.errors import BuildError, LayerUnavailable, NotCached, StepFailed
from pybuild.builder.files.layer_contents import BlobPlace, LayerPlace
from pybuild.builder.gate.judge import RulesBroken
from pybuild.builder.jobs.copy import CopyFiles
from pybuild.builder.jobs.job import Done, Output, Written
from pybuild.builder.jobs.layer import MakeTree
from pybuild.builder.jobs.registry import FetchImage, RegistryAccess
from pybuild.builder.jobs.step import CommitStep, Committed
from pybuild.builder.workers import codec
from pybuild.builder.workers.codec import IF_UPDATED
from pybuild.builder.workers.job_table import MODULES, job_class
from pybuild.builder.workers.messages import (
    JobNote,
    JobProgress,
    WorkerBug,
    _result_class,
    failure_message,
    note_message,
    progress_message,
    read_answer,
    read_progress,
    read_request,
    request_message,
    result_message,
)
from pybuild.parser.errors import ParseError
from pybuild.parser.transform import UnreadableLine
from pybuild.remote.errors import RemoteError, Unreachable
from pybuild.remote.http.transport import ConnectionRefused, Interrupted, NoTls, NotTrusted, RequestRefused
from pybuild.store.errors import InvalidImage, NoSpace
from pybuild.store.formats.tar import SparseMember
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.sandbox.frames import Message

BLOB = BlobPlace("/blobs/1", "sha256:1", 7, "gzip")
MAKE_TREE = MakeTree("/toc", BLOB, "/directory")
COMMIT = CommitStep(
    "/upper",
    (LayerPlace("1", "/tocs/1", "/trees/1", None), LayerPlace("2", "/tocs/2", None, BLOB)),
    "/scaffold",
    Output("/toc", "/blob", "zstd", 17),
    list_if_large=True,
)


def sent(message: Message) -> Message:
    """The message as the other side gets it."""
    received: Message = json.loads(json.dumps(message))
    return received


@pytest.mark.parametrize(
    "job",
    [
        MAKE_TREE,
        COMMIT,
        FetchImage(RegistryAccess((("A", "b\udcff"),), False), "a.test/b", "linux/arm/v7", "", "/path", "/path"),
    ],
    ids=["values in values", "tuples of values", "a variable that is not UTF-8"],
)
def test_a_job_arrives_as_it_was_sent(job: MakeTree | CommitStep | FetchImage) -> None:
    assert read_request(sent(request_message(job))) == job


@pytest.mark.parametrize("result", [Committed(None), Committed(Written("sha256:1", "sha256:2", 5))])
def test_a_result_arrives_as_it_was_sent(result: Committed) -> None:
    assert read_answer(sent(result_message(result)), COMMIT) == result


def test_messages_can_hold_every_job_and_every_result() -> None:
    for name in [name for names in MODULES.values() for name in names]:
        assert codec._readers(job_class(name))
        codec._readers(_result_class(job_class(name)))


def changed(job: MakeTree | CommitStep | CopyFiles, *path: str | int, to: object) -> Message:
    """The request for a job with another value at a path of fields."""
    message = sent(request_message(job))
    found = message["args"]
    for part in path[:-1]:
        found = found[part]  # type: ignore[index]
    found[path[-1]] = to  # type: ignore[index]
    return message


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (changed(MAKE_TREE, "toc", to=None), "MakeTree.toc: expected str, got NoneType"),
        (changed(MAKE_TREE, "blob", "size", to="7"), "MakeTree.blob.size: expected int, got str"),
        (changed(MAKE_TREE, "blob", to=[]), "MakeTree.blob: expected an object, got list"),
        (changed(MAKE_TREE, "blob", to={}), "MakeTree.blob: no field compression"),
        (changed(MAKE_TREE, "later", to=1), "MakeTree: unknown field later"),
        (changed(COMMIT, "below", 1, "tree", to=3), "CommitStep.below.tree: expected str, got int"),
        (changed(COMMIT, "below", to="x"), "CommitStep.below: expected a list, got str"),
        ({"args": {}}, "JobRequest: no field job"),
        ({"job": "MakeTree", "args": []}, "JobRequest.args: expected dict, got list"),
    ],
)
def test_a_request_that_does_not_fit_names_the_field(message: Message, problem: str) -> None:
    with pytest.raises(BuildError) as caught:
        read_request(message)
    assert str(caught.value) == f"cannot read a message between pybuild's processes: {problem}"
    assert caught.value.hint == IF_UPDATED


def test_a_job_that_is_not_in_the_table_is_named() -> None:
    with pytest.raises(BuildError, match="workers have no job named Nothing"):
        read_request({"job": "Nothing", "args": {}})


def test_an_answer_that_does_not_fit_names_the_field() -> None:
    with pytest.raises(BuildError, match=r"Done: unknown field digest"):
        read_answer({"result": {"digest": ""}}, MAKE_TREE)
    with pytest.raises(BuildError, match=r"JobFailure: no field hint"):
        read_answer({"error": "NotFound", "message": "x"}, MAKE_TREE)
    assert read_answer({"result": {}}, MAKE_TREE) == Done()


def error_classes(kind: type[PybuildError] = PybuildError) -> Iterator[type[PybuildError]]:
    """A class of errors and all classes that are derived from it, in all modules of pybuild."""
    yield kind
    for derived in kind.__subclasses__():
        yield from error_classes(derived)


for module in pkgutil.walk_packages(pybuild.__path__, "pybuild."):
    if "__main__" not in module.name:
        import_module(module.name)

# Workers do not raise the first five, which have fields that only the main process sets. The code of remote/ that retries
# requests catches those below, and who reads an archive catches the last one.
ARRIVE_AS_ANOTHER: dict[type[PybuildError], type[PybuildError]] = {
    ParseError: PybuildError,
    UnreadableLine: PybuildError,
    StepFailed: BuildError,
    NotCached: BuildError,
    RulesBroken: BuildError,
    Interrupted: RemoteError,
    NoTls: Unreachable,
    NotTrusted: Unreachable,
    ConnectionRefused: Unreachable,
    RequestRefused: RemoteError,
    SparseMember: InvalidImage,
}


@pytest.mark.parametrize("kind", list(error_classes()))
def test_every_error_arrives_as_its_own_class(kind: type[PybuildError]) -> None:
    error = kind.__new__(kind)
    PybuildError.__init__(error, "what happened", hint="what to do")
    with pytest.raises(PybuildError) as caught:
        read_answer(sent(failure_message(error)), MAKE_TREE)
    assert type(caught.value) is ARRIVE_AS_ANOTHER.get(kind, kind)
    assert caught.value.hint == "what to do"
    assert str(caught.value) == "what happened"


def test_a_layer_that_cannot_be_had_arrives_with_its_digest() -> None:
    message = json.loads(json.dumps(failure_message(LayerUnavailable("gone", "sha256:1", hint="h"))))
    with pytest.raises(LayerUnavailable, match="gone") as raised:
        read_answer(message, MAKE_TREE)
    assert (raised.value.digest, raised.value.hint) == ("sha256:1", "h")


def test_a_full_disk_arrives_as_no_space() -> None:
    with pytest.raises(NoSpace, match="/blobs/1: No space left on device"):
        read_answer(failure_message(OSError(errno.ENOSPC, "", "/blobs/1")), MAKE_TREE)


def test_an_error_of_the_kernel_arrives_as_a_build_error_with_its_name() -> None:
    with pytest.raises(BuildError, match=r"PermissionError: .*/trees") as caught:
        read_answer(sent(failure_message(PermissionError(errno.EACCES, "denied", "/trees"))), MAKE_TREE)
    assert caught.value.hint is None


def test_a_bug_arrives_with_the_traceback_of_the_worker() -> None:
    def bug() -> None:
        raise ZeroDivisionError("by zero")

    try:
        bug()
    except ZeroDivisionError as error:
        message = sent(failure_message(error))
    with pytest.raises(WorkerBug, match="MakeTree: ZeroDivisionError: by zero") as caught:
        read_answer(message, MAKE_TREE)
    (note,) = caught.value.__notes__
    assert 'raise ZeroDivisionError("by zero")' in note and "please report it" in note
    assert not isinstance(caught.value, PybuildError)


def test_progress_is_told_apart_from_answers() -> None:
    for total in (20 << 30, None):
        assert read_progress(sent(progress_message(3, total))) == JobProgress(3, total)
    assert read_progress(sent(note_message("waits"))) == JobNote("waits")
    for answer in (result_message(Done()), failure_message(BuildError("x")), result_message(Committed(None))):
        assert read_progress(sent(answer)) is None
