"""A signal ends pybuild at once in whatever it waits for: servers and pipes. RUN and COPY are in test_ends.py."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import subprocess
import termios
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.processes import DEFAULT_SIGNALS, descendants, survivors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENDS = [(signal.SIGINT, 130, "error: interrupted"), (signal.SIGTERM, 143, "error: terminated by SIGTERM")]


def waiting(fd: int) -> int:
    """The bytes in a pipe that nobody has read yet. FIONREAD, pipe(7)."""
    found = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, found)
    return found[0]


class Silent:
    """A server that accepts connections and never says a word."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._socket = stack.enter_context(socket.socket())
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def wait(self) -> None:
        connection, _ = self._socket.accept()
        self._stack.enter_context(connection)
        connection.recv(1)


def server(recipe: str) -> Callable[[Path, ExitStack], tuple[list[str], Callable[[], None]]]:
    """A build of a recipe, which needs a server that never answers."""

    def prepared(place: Path, stack: ExitStack) -> tuple[list[str], Callable[[], None]]:
        silent = Silent(stack)
        context = write_context(place / "c", recipe.format(silent.host))
        return ["--no-tls-verify", "build", str(context)], silent.wait

    return prepared


def fifo(place: Path, stack: ExitStack) -> tuple[list[str], Callable[[], None]]:
    """An import of an archive that never comes."""
    path = place / "fifo"
    os.mkfifo(path)

    def reading() -> None:
        stack.callback(os.close, os.open(path, os.O_WRONLY))  # waits for the reader

    return ["import", str(path)], reading


WAITS = {
    "a registry": server("FROM {}/image\n"),
    "a git server": server(f"FROM {BASE}\nADD http://{{}}/r.git /\n"),
    "an archive": fifo,
}


@pytest.mark.parametrize(("number", "status", "message"), ENDS, ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_while_pybuild_waits_for(
    pybuild: Pybuild, tmp_path: Path, wait: str, number: signal.Signals, status: int, message: str
) -> None:
    with ExitStack() as stack:
        arguments, is_waiting = WAITS[wait](tmp_path, stack)
        process = stack.enter_context(
            subprocess.Popen(
                [*DEFAULT_SIGNALS, *pybuild.command, *arguments],
                env=pybuild.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        is_waiting()
        started = descendants(process.pid)
        process.send_signal(number)
        _, said = process.communicate()
        assert (process.returncode, said.splitlines()[-1]) == (status, message), said
        assert "Traceback" not in said
        assert survivors(started) == []
    pybuild.assert_whole()


def test_a_signal_while_nobody_reads_the_output(pybuild: Pybuild) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*DEFAULT_SIGNALS, *pybuild.command, "export", BASE, "-o", "type=tar,dest=-"],
        env=pybuild.env(), stdout=writer, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(writer)
        while waiting(reader) < 60_000:  # the last page can be half empty
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait() == 143 and said.endswith("error: terminated by SIGTERM\n"), said
    os.close(reader)
    pybuild.assert_whole()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("command", ["build", "export"])
def test_a_signal_while_outputs_get_their_names_comes_too_late(
    pybuild: Pybuild, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    """strace sends it with the first linkat(2), which gives the last output a name."""
    what = str(write_context(tmp_path / "c", f"FROM {BASE}\n")) if command == "build" else BASE
    places = [tmp_path / "first.tar", tmp_path / "second.tar"]
    outputs = [text for place in places for text in ("-o", f"type=oci,dest={place}")]
    inject = f"-einject=linkat:signal={number.name}:when=1"
    done = subprocess.run(
        ["strace", "-qq", "-o", str(tmp_path / "trace"), "-etrace=linkat", inject, *pybuild.command, command, what, *outputs],
        env=pybuild.env(), capture_output=True, text=True,
    )  # fmt: skip
    assert f"--- {number.name}" in (tmp_path / "trace").read_text()
    assert done.returncode == 0, done.stderr
    assert places[0].read_bytes() == places[1].read_bytes()
    pybuild.assert_whole()
