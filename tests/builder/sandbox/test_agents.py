"""SSH agents in a step: which requests pass, which users can connect, and that no process is left."""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox.agents import Connection
from tests.support.agents import FAILURE, KEYS, LIST, REMOVE_ALL, an_agent, keys
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.processes import descendants, running, survivors
from tests.support.runs import outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.people import Person

SIGN, EXTENSION = 13, 27


def frame(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(content), kind) + content


@contextmanager
def connection() -> Iterator[tuple[Connection, socket.socket, socket.socket]]:
    """A relayed connection, and its two ends: the program's and the agent's."""
    (client, program), (near, agent) = socket.socketpair(), socket.socketpair()
    with client, program, near, agent:
        agent.setblocking(False)
        program.setblocking(False)
        yield Connection(client, near), program, agent


def read(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize(
    ("sent", "passed", "answered"),
    [
        pytest.param([frame(LIST)], frame(LIST), b"", id="the list of keys"),
        pytest.param([frame(SIGN, b"data")], frame(SIGN, b"data"), b"", id="a signature"),
        pytest.param([frame(LIST)[:3], frame(LIST)[3:]], frame(LIST), b"", id="in pieces"),
        pytest.param([frame(LIST) + frame(SIGN, b"x")], frame(LIST) + frame(SIGN, b"x"), b"", id="two at once"),
        pytest.param([frame(LIST)[:4]], b"", b"", id="not all of it yet"),
        pytest.param([frame(REMOVE_ALL)], b"", frame(FAILURE), id="a change of the agent"),
        pytest.param([frame(EXTENSION, b"x")], b"", frame(FAILURE), id="an extension"),
        pytest.param([frame(17, b"key") + frame(LIST)], frame(LIST), frame(FAILURE), id="a change before a list"),
    ],
)
def test_only_harmless_requests_reach_the_agent(sent: list[bytes], passed: bytes, answered: bytes) -> None:
    with connection() as (between, program, agent):
        for piece in sent:
            program.sendall(piece)
            assert between.from_client()
        assert (read(agent), read(program)) == (passed, answered)


@pytest.mark.parametrize("start", [struct.pack(">I", 0) + b"x", struct.pack(">I", (256 << 10) + 1) + b"x"])
def test_a_malformed_request_ends_the_connection(start: bytes) -> None:
    with connection() as (between, program, agent):
        program.sendall(start)
        assert not between.from_client()
        assert read(agent) == b""


def test_answers_pass_and_either_end_ends_it() -> None:
    with connection() as (between, program, agent):
        agent.sendall(frame(KEYS, b"x"))
        assert between.from_agent()
        assert read(program) == frame(KEYS, b"x")
        agent.close()
        assert not between.from_agent()
        program.close()
        assert not between.from_client()


def test_a_step_lists_keys_and_cannot_change_them(person: Person, probe: bytes) -> None:
    """As root of the step, and as another user if ids allow one. A user without permission on the socket cannot connect."""
    recipe = f"FROM {BASE}\nCOPY --chmod=755 probe /\n"
    recipe += (
        f"RUN --mount=type=ssh,mode=0640 /probe agent {LIST} {REMOVE_ALL} {LIST}; ls -ln $SSH_AUTH_SOCK | cut -c 1-10\n"
    )
    if person.name != "pybuild-single":
        recipe += "USER app\n"
        recipe += f"RUN --mount=type=ssh,uid=1000,target=/s/agent /probe agent {LIST}; echo $SSH_AUTH_SOCK\n"
        recipe += f"RUN --mount=type=ssh /probe agent {LIST}; true\n"
    recipe += "RUN --mount=type=ssh,id=other ls /run; echo $SSH_AUTH_SOCK\n"
    context = person.context("c", recipe, probe=probe)
    with an_agent(person.home, person.prefix) as path:
        before = keys(path, person.prefix)
        said = list(outputs(person.pybuild()("--progress=json", f"--ssh=default={path}", context)).values())
        assert keys(path, person.prefix) == before != ""
    assert said[0] == f"connect ok\n{LIST} {KEYS}\n{REMOVE_ALL} {FAILURE}\n{LIST} {KEYS}\nsrw-r-----\n"
    if person.name != "pybuild-single":
        assert said[1:3] == [f"connect ok\n{LIST} {KEYS}\n/s/agent\n", "connect EACCES\n"]
    assert said[-1] == "/run/buildkit/ssh_agent.0\n"


def test_a_missing_required_agent_is_an_error(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN --mount=type=ssh,id=a,required true\n")
    said = pybuild.refused(context)
    assert "Buildfile:2:1: error: this step requires the ssh agent 'a', which was not given" in said
    assert "hint: --ssh a=SOCKET" in said


def test_a_private_key_is_not_an_agent(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\n", key="x")
    said = pybuild.refused(f"--ssh=default={context / 'key'}", context)
    assert "key is not the socket of an agent" in said and "ssh-add" in said
    assert "no agent is running" in pybuild.refused("--ssh=default", context, status=2)


def test_the_relay_of_an_agent_ends_with_the_build(tmp_path: Path, pybuild: Pybuild, probe: bytes) -> None:
    recipe = f"FROM {BASE}\nCOPY --chmod=755 probe /\nRUN --mount=type=ssh /probe agent; echo ready; sleep 1000\n"
    context = write_context(tmp_path / "c", recipe, probe=probe)
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "agent")
        listener.bind(path)
        listener.listen()
        with running(pybuild, f"--ssh=default={path}", context) as build:
            build.wait_for("step_output", "ready")
            started = descendants(build.pid)
            os.kill(build.pid, signal.SIGTERM)
            assert build.end().status == 143
            assert survivors(started) == []
    pybuild.assert_whole()
