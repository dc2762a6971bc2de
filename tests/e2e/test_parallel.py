"""Independent stages are built in parallel."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Pybuild, write_context
from tests.support.processes import descendants, mounts_below, running, survivors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGES = 4


@pytest.fixture
def gate() -> Iterator[socket.socket]:
    """A server where steps announce themselves and wait for an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def asks(gate: socket.socket, name: object) -> str:
    """A command that ends when the gate answers."""
    return f"echo {name} | nc 127.0.0.1 {gate.getsockname()[1]} > /answer; cat /answer"


def test_stages_wait_only_for_stages_they_copy_from(
    pybuild: Pybuild, tmp_path: Path, gate: socket.socket
) -> None:
    stages = [f"FROM pybuild.test/base AS s{n}\nRUN {asks(gate, n)}\n" for n in range(STAGES)]
    copies = [f"COPY --from=s{n} /answer /answers/{n}\n" for n in range(STAGES)]
    context = write_context(tmp_path / "context", "".join([*stages, "FROM pybuild.test/base\n", *copies]))
    with running(pybuild, "--network=host", context) as build:
        calls = [gate.accept()[0] for _ in range(STAGES)]  # all steps are waiting before the first one can continue
        for number, call in enumerate(calls):
            assert call.recv(10)  # closing a connection with unread data resets it
            call.sendall(f"answer {number}\n".encode())
            call.close()
        done = build.end()
    assert done.status == 0, done.err
    message = [str(event["data"]) for event in done.events if event["event"] == "step_output"]
    assert sorted("".join(message).split("answer")) == ["", *(f" {number}\n" for number in range(STAGES))]
    pybuild.assert_whole()


def test_a_failed_step_ends_the_parallel_ones(pybuild: Pybuild, tmp_path: Path, gate: socket.socket) -> None:
    context = write_context(
        tmp_path / "context",
        f"FROM pybuild.test/base AS patient\nRUN {asks(gate, 'patient')}\n"
        f"FROM pybuild.test/base\nRUN {asks(gate, 'hasty')}; exit 3\nCOPY --from=patient /answer /\n",
    )
    with running(pybuild, "--network=host", context) as build:
        hasty, patient = sorted((gate.accept()[0] for _ in range(2)), key=lambda call: call.recv(10))
        started = descendants(build.pid)
        hasty.close()
        done = build.end()
        assert survivors(started) == []
        patient.close()
    assert (done.status, "Buildfile:4:1: error: RUN exited with status 3" in done.err) == (1, True), done.err
    assert os.listdir(pybuild.root / "ingest") == []
    assert mounts_below(pybuild.root) == []
    pybuild.assert_whole()
