"""The network of RUN steps where pasta is installed: what a step reaches, what it cannot reach, and what is left of it.

The machine is one that the tests make: its network ends in another namespace (tests/support/networks.py).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE
from tests.support.networks import (
    ELSEWHERE,
    ELSEWHERE6,
    MACHINE,
    METADATA,
    NEIGHBOUR6,
    Listener,
    machine,
    nameserver,
    on,
)
from tests.support.people import Person, forget, make_person
from tests.support.processes import descendants, running, survivors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cli import Done
    from tests.support.networks import Namespace

PASTA = "--ns-ifname tap0"
NOTE = "RUN steps use the network of this machine"
LOOPBACK = {"127.0.0.1": "127.0.0.1", "127.1.2.3": "127.1.2.3", "0.0.0.0": "127.0.0.1"}
LOOPBACK6 = {"::1": "::1", "::": "::1", "::ffff:127.0.0.1": "127.0.0.1"}


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The compiled tests/support/reach.c."""
    path = tmp_path_factory.mktemp("reach") / "reach"
    source = Path(__file__).parent.parent / "support" / "reach.c"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-o", path, source], check=True)
    return path.read_bytes()


@pytest.fixture
def person(request: pytest.FixtureRequest, base_archive: Path) -> Iterator[Person]:
    found = make_person(getattr(request, "param", "root"))
    found.take(base_archive)
    found.pybuild()("import", found.home / "base.tar")
    yield found
    forget(found)


def build(person: Person, recipe: str, *flags: str, **files: bytes) -> Done:
    context = person.context("context", f"FROM {BASE}\n{recipe}", **files)
    return person.pybuild().run("--progress=plain", "--no-cache", *flags, context)


def results(done: Done) -> dict[str, str]:
    """What each argument of `reach` gave."""
    assert done.status == 0, done.err
    return dict(re.findall(r"\| (\w+,\S+,\d+) (.+)$", done.err, flags=re.MULTILINE))


class Listeners:
    """One on each address; `closed` are those that no step may reach."""

    def __init__(self, here: Namespace, elsewhere: Namespace) -> None:
        self.closed: dict[str, Listener] = {
            **{name: Listener(here, address) for name, address in (LOOPBACK | LOOPBACK6).items()},
            METADATA: Listener(elsewhere, METADATA),
        }
        with elsewhere.network():
            scope = socket.if_nametoindex("up0")
        self.closed[NEIGHBOUR6] = Listener(elsewhere, f"{NEIGHBOUR6}%{scope}")
        self.open = {
            ELSEWHERE: Listener(elsewhere, ELSEWHERE),
            ELSEWHERE6: Listener(elsewhere, ELSEWHERE6),
            MACHINE: Listener(here, "0.0.0.0"),
        }

    def words(self, way: str, addresses: dict[str, Listener]) -> list[str]:
        return [f"{way},{address},{listener.port}" for address, listener in addresses.items()]


@contextmanager
def world(place: Path) -> Iterator[tuple[Namespace, Namespace, Listeners]]:
    with machine(place) as (here, elsewhere):
        yield here, elsewhere, Listeners(here, elsewhere)


@pytest.mark.parametrize("isolation", ["full", "container"])
@pytest.mark.parametrize("person", ["root", "range", "single"], indirect=True)
def test_a_step_reaches_the_network_and_nothing_of_the_machine(
    person: Person, isolation: str, reach: bytes, tmp_path: Path
) -> None:
    with world(tmp_path) as (here, elsewhere, listeners), nameserver(elsewhere, ELSEWHERE):
        tries = [
            *listeners.words("connect", listeners.open), *listeners.words("connect", listeners.closed),
            *listeners.words("device", listeners.closed), "bind,0.0.0.0,80", "bind,::,443", "raw,0.0.0.0,0",
        ]  # fmt: skip
        # Frames are handled in their order, so when the last one has arrived nothing of the others is under way.
        frames = [*listeners.words("frame", listeners.closed), *listeners.words("direct", listeners.closed)]
        last = listeners.words("direct", {ELSEWHERE: listeners.open[ELSEWHERE]})
        recipe = (
            "COPY --chmod=755 reach /\n"
            f"RUN nslookup name.test && /reach {' '.join(tries)}\n"
            f"RUN /reach {listeners.words('connect', listeners.open)[0]} {' '.join(frames + last)}\n"
        )
        done = build(on(here, person), recipe, f"--isolation={isolation}", reach=reach)
        found = results(done)
        assert NOTE not in done.err
        assert f"Address: {ELSEWHERE}" in done.err
        for address, listener in listeners.open.items():
            assert found[f"connect,{address},{listener.port}"] == "reached"
        assert [found[word] for word in tries[-3:]] == ["reached"] * 3
        assert {word: found[word] for word in tries[3:-3] if found[word] == "reached"} == {}
        assert all(found[word] == "reached" for word in frames + last)
        for _ in range(3):  # the two of connect(2), then that of the last frame
            listeners.open[ELSEWHERE].wait()
        assert [address for address, listener in listeners.closed.items() if listener.reached] == []


def test_every_attack_would_be_seen(person: Person, reach: bytes, tmp_path: Path) -> None:
    """With the network of the machine the same listeners are reached, those that connect(2) can reach."""
    with world(tmp_path) as (here, _, listeners):
        words = listeners.words("connect", listeners.closed)
        recipe = f"COPY --chmod=755 reach /\nRUN --network=host /reach {' '.join(words)}\n"
        done = build(on(here, person), recipe, "--network=host", reach=reach)
        assert set(results(done).values()) == {"reached"}
        assert all(listener.reached for listener in listeners.closed.values())
        assert NOTE not in done.err


@pytest.mark.parametrize("isolation", ["full", "container"])
def test_an_insecure_step_reaches_no_more(person: Person, isolation: str, reach: bytes, tmp_path: Path) -> None:
    """It has all capabilities over its own network: it makes itself a neighbour of every address."""
    with world(tmp_path) as (here, _, listeners):
        tries = listeners.words("device", listeners.closed)
        frames = [*listeners.words("frame", listeners.closed), *listeners.words("direct", listeners.open)[:1]]
        change = (
            "ip route add 169.254.0.0/16 dev eth0; ip route del local 127.0.0.0/8 table local; ip addr add 169.254.1.1/16 dev eth0;"
            " ip -6 addr add fe80::9/64 dev eth0; mount -t tmpfs x /home"
        )
        recipe = f"COPY --chmod=755 reach /\nRUN --security=insecure {change}; /reach {' '.join(tries + frames)}\n"
        done = build(on(here, person), recipe, "--allow=security.insecure", f"--isolation={isolation}", reach=reach)
        found = results(done)
        assert [word for word in frames if found[word] != "reached"] == []
        listeners.open[ELSEWHERE].wait()
        assert [address for address, listener in listeners.closed.items() if listener.reached] == []


@pytest.mark.parametrize("isolation", ["full", "container"])
@pytest.mark.parametrize("person", ["root", "single"], indirect=True)
def test_abstract_sockets_of_the_machine_are_out_of_reach_in_any_network(
    person: Person, isolation: str, reach: bytes, tmp_path: Path
) -> None:
    """Linux 6.12 and newer. Those of the step itself are not, also not for another user of it."""
    with machine(tmp_path) as (here, _):
        name = f"pybuild-test-{os.getpid()}"
        listener = Listener(here, f"\0{name}")
        say = f"/reach abstract,{name},0 own,mine,0"
        recipe = f"COPY --chmod=4755 reach /\nRUN {say}\nRUN --network=host {say.replace('mine', 'other')}\n"
        done = build(on(here, person), recipe, "--allow=network.host", f"--isolation={isolation}", reach=reach)
        assert results(done) == {
            f"abstract,{name},0": "Operation not permitted",
            "own,mine,0": "reached",
            "own,other,0": "reached",
        }
        assert "Connection refused" in done.err  # in its own network there is no such socket
        assert not listener.reached


@pytest.mark.parametrize("address", ["127.0.0.53", "169.254.169.254", "::1"])
def test_a_nameserver_that_only_the_machine_reaches(person: Person, address: str, tmp_path: Path) -> None:
    """As systemd-resolved, and as the clouds whose nameserver is the metadata service."""
    text = f"# a comment\nsearch example.test\nnameserver {address}\nnameserver 127.0.0.54\noptions ndots:1\n"
    with machine(tmp_path, text) as (here, elsewhere):
        with nameserver(elsewhere if address == METADATA else here, address):
            done = build(on(here, person), "RUN cat /etc/resolv.conf; nslookup name.test\n")
        assert done.status == 0, done.err
        assert f"Address: {ELSEWHERE}" in done.err
        assert address not in done.err
        assert "| search example.test" in done.err
        assert "| options ndots:1" in done.err


def test_host_gateway_is_the_machine(person: Person, reach: bytes, tmp_path: Path) -> None:
    recipe = "COPY --chmod=755 reach /\nRUN /reach connect,$(grep gate /etc/hosts | cut -f 1),{}\n"
    with machine(tmp_path) as (here, _):
        listener = Listener(here, "0.0.0.0")
        done = build(on(here, person), recipe.format(listener.port), "--add-host=gate:host-gateway", reach=reach)
        assert results(done) == {f"connect,{MACHINE},{listener.port}": "reached"}


def test_steps_beside_each_other_have_networks_of_their_own(person: Person, tmp_path: Path) -> None:
    """Both listen on the same port and address, and neither is seen by the other."""
    meet = "--mount=type=cache,id=meet,target=/meet mkfifo /meet/one /meet/two 2>/dev/null;"
    listen = "nc -l -p 80 -e true & while ! grep -q ':0050 ' /proc/net/tcp*; do :; done;"
    recipe = (
        f"RUN {meet} {listen} echo > /meet/one; read x < /meet/two; touch /a; kill %1\n"
        f"FROM {BASE} AS other\n"
        f"RUN {meet} read x < /meet/one; grep -q ':0050 ' /proc/net/tcp* && exit 9; {listen} echo > /meet/two; touch /b; kill %1\n"
        f"FROM {BASE}\nCOPY --from=0 /a /\nCOPY --from=other /b /\n"
    )
    with machine(tmp_path) as (here, _):
        done = build(on(here, person), recipe)
        assert done.status == 0, done.err


@pytest.mark.parametrize("person", ["root", "single"], indirect=True)
@pytest.mark.parametrize("victim", ["main", "worker"])
def test_nothing_is_left_of_a_killed_build(person: Person, victim: str, tmp_path: Path) -> None:
    with machine(tmp_path) as (here, _):
        context = person.context("context", f"FROM {BASE}\nRUN echo begun; sleep 1000\n")
        with running(on(here, person).pybuild(), context) as build_:
            build_.wait_for("step_output", "begun")
            started = descendants(build_.pid)
            assert any(PASTA in process.command for process in started)
            worker = next(process.pid for process in started if "sandbox.worker" in process.command)
            os.kill(build_.pid if victim == "main" else worker, signal.SIGKILL)
        assert survivors(started) == []


def test_pasta_starts_with_the_first_packet_of_a_step(person: Person, reach: bytes, tmp_path: Path) -> None:
    """Except that of the trial, which the first step of a build uses."""
    with machine(tmp_path) as (here, elsewhere):
        listener = Listener(elsewhere, ELSEWHERE)
        send = f"RUN /reach connect,{ELSEWHERE},{listener.port}\n"
        recipe = f"FROM {BASE}\nCOPY --chmod=755 reach /\nRUN true\nRUN echo begun; read x < /fifo\n"
        context = person.context("context", recipe.replace("RUN true", "RUN mkfifo /fifo"), reach=reach)
        with running(on(here, person).pybuild(), context) as build_:
            build_.wait_for("step_output", "begun")
            assert [process for process in descendants(build_.pid) if PASTA in process.command] == []
        assert not listener.reached
        (context / "Buildfile").write_text(f"FROM {BASE}\nCOPY --chmod=755 reach /\nRUN true\n{send}")
        done = on(here, person).pybuild().run("--progress=plain", context)
        assert list(results(done).values()) == ["reached"]


def test_a_step_whose_pasta_fails_says_so(person: Person, reach: bytes, tmp_path: Path) -> None:
    """It works in the trial, fails at the first packet of the second RUN, and is killed in the third one."""
    used = person.home / "used"
    used.mkdir(mode=0o777)
    program = person.home / "bin" / "pasta"
    program.parent.mkdir(mode=0o755)
    program.write_text(
        f"#!/bin/sh\nmkdir {used}/1 2>/dev/null && exec /usr/bin/pasta \"$@\"\n"
        f"mkdir {used}/2 2>/dev/null && echo 'no more  today' >&2 && exit 1\n"
        'exec /usr/bin/pasta "$@"\n'
    )
    program.chmod(0o755)
    recipe = (
        f"RUN true\nRUN /reach connect,{ELSEWHERE},9; echo first\n"
        f"RUN /reach connect,{ELSEWHERE},9; echo begun; while grep -q eth0 /proc/net/dev; do :; done; exit 3\n"
    )
    with machine(tmp_path) as (here, _):
        context = person.context("context", f"FROM {BASE}\nCOPY --chmod=755 reach /\n{recipe}", reach=reach)
        pybuild = on(here, person).pybuild(PATH=f"{program.parent}:{os.environ['PATH']}")
        with running(pybuild, context) as build_:
            build_.wait_for("step_output", "begun")
            for process in descendants(build_.pid):
                if PASTA in process.command:
                    os.kill(process.pid, signal.SIGKILL)
            said = build_.end().err
    lost = r"pybuild: the step has lost its network: cannot connect the step to the network through pasta: ([\w ]*)"
    assert re.findall(lost, said) == ["no more  today", "it has ended"]
    assert "RUN exited with status 3" in said


def test_pasta_has_no_file_of_the_store(person: Person, tmp_path: Path) -> None:
    with machine(tmp_path) as (here, _):
        context = person.context("context", f"FROM {BASE}\nRUN echo begun; sleep 1000\n")
        with running(on(here, person).pybuild(), context) as build_:
            build_.wait_for("step_output", "begun")
            pasta = [process.pid for process in descendants(build_.pid) if PASTA in process.command]
            files = [os.readlink(file) for pid in pasta for file in Path(f"/proc/{pid}/fd").iterdir()]
            assert files
            assert [file for file in files if file.startswith(str(person.home))] == []


def test_without_pasta_steps_have_the_network_of_the_machine(person: Person, reach: bytes, tmp_path: Path) -> None:
    with machine(tmp_path) as (here, _):
        listener = Listener(here, "127.0.0.1")
        recipe = f"COPY --chmod=755 reach /\nRUN /reach connect,127.0.0.1,{listener.port}\n"
        context = person.context("context", f"FROM {BASE}\n{recipe}", reach=reach)
        done = on(here, person).pybuild(PATH="/nonexistent").run("--progress=plain", context)
        assert set(results(done).values()) == {"reached"}
        assert done.err.count(f"note: {NOTE}; --network=none gives them none") == 1


def test_pasta_that_does_not_work_is_said_once(person: Person, tmp_path: Path) -> None:
    """An ordinary user who may not open /dev/net/tun; here even root finds no such device."""
    with machine(tmp_path) as (here, _):
        here.run("umount", "/dev/net/tun")
        here.bind(tmp_path / "resolv.conf", "/dev/net/tun")
        done = build(on(here, person), "RUN true\nRUN echo 2\n")
        assert done.status == 0, done.err
        (line,) = (line for line in done.err.splitlines() if NOTE in line)
        assert "pasta" in line


def test_the_cache_does_not_depend_on_pasta(person: Person, tmp_path: Path) -> None:
    context = person.context("context", f"FROM {BASE}\nRUN echo 1 > /1\n")
    with machine(tmp_path) as (here, _):
        first = on(here, person).pybuild()("--progress=plain", context)
        second = on(here, person).pybuild(PATH="/nonexistent")("--progress=plain", context)
    assert first.out == second.out
    assert "0 cached" in first.err
    assert "0 run, 1 cached" in second.err
