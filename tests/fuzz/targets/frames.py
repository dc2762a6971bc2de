"""What arrives on a socket between pybuild's processes: frames, and the requests and answers of workers in them.

The other end is pybuild too, so a fault here is a killed process or a bug. An input that begins with `{` is the text of one
frame, whose header is made for it.
"""

from __future__ import annotations

import errno
import json
import socket
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.files.layer_contents import BlobPlace, LayerPlace
from pybuild.builder.jobs.job import Output
from pybuild.builder.jobs.layer import MakeTree
from pybuild.builder.jobs.probe import Probe, Probed
from pybuild.builder.jobs.step import CommitStep
from pybuild.builder.sandbox.frames import Channel
from pybuild.builder.workers.messages import (
    WorkerBug,
    failure_message,
    read_answer,
    read_request,
    request_message,
    result_message,
)
from pybuild.store.errors import NotFound
from pybuild.values.errors import PybuildError
from tests.fuzz.target import FuzzTarget, check_refusal

if TYPE_CHECKING:
    from pybuild.builder.sandbox.frames import Message

PROBE = Probe("/scratch")


def read(data: bytes) -> bool:
    """A message is read as the value that writes it, or refused; a damaged stream is the end of the other process."""
    if data.startswith(b"{"):
        data = len(data).to_bytes(4, "big") + b"\0" + data
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(ours)
        count = 0
        while True:
            try:
                message, fds = channel.receive()
            except EOFError:
                return bool(count)
            except OSError as error:
                assert error.errno == errno.EMFILE, "the error for descriptors that are lost"
                continue
            assert isinstance(message, dict) and not fds
            count += _is_understood(message)


def _is_understood(message: Message) -> bool:
    try:
        job = read_request(message)
    except BuildError as error:
        check_refusal(error)
    else:
        assert json.loads(json.dumps(request_message(job))) == message
        return True
    try:
        answer = read_answer(message, PROBE)
    except WorkerBug:
        return True
    except PybuildError:
        return "error" in message
    assert json.loads(json.dumps(result_message(answer))) == message
    return True


def _frame(*messages: Message) -> bytes:
    texts = [json.dumps(message, separators=(",", ":")).encode() for message in messages]
    return texts[0] if len(texts) == 1 else b"".join(len(text).to_bytes(4, "big") + b"\0" + text for text in texts)


BLOB = BlobPlace("/blobs/1", "sha256:1", 7, "gzip")
LAYERS = (LayerPlace("1", "/tocs/1", "/trees/1", None), LayerPlace("2", "/tocs/2", None, BLOB))
COMMIT = CommitStep("/upper", LAYERS, "/scaffold", Output("/toc", "/blob", "zstd", 17), list_if_large=True)
TARGET = FuzzTarget(
    read,
    seeds=(
        _frame(request_message(COMMIT)),
        _frame(request_message(MakeTree("/toc", BLOB, "/directory"))),
        _frame(request_message(PROBE), result_message(Probed("", "EPERM", ""))),
        _frame(result_message(Probed("", "EPERM", ""))),
        _frame(failure_message(NotFound("no \udcff", hint="h"))),
        _frame(failure_message(ValueError("x"))),
    ),
    words=(
        b'"job":', b'"args":', b'"result":', b'"error":', b'"message":', b'"hint":', b'"traceback":', b"null", b"[]", b"{}", b"\\ud800",
        b"1e400", b"NaN", b"[[[[[[[[[[[[[[[[", b'{"a":', b"PybuildError", b"ParseError", b"WorkerBug", b"\xff", b"\0\0\0\x02\0",
    ),
)  # fmt: skip
