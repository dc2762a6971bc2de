"""How the command line ends when it cannot go on: signals at awkward moments, and a machine that has nothing left."""

from __future__ import annotations

import errno
import os
import signal
import sys
import types
from typing import TYPE_CHECKING

import pytest

from pybuild import __main__, cli, report

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of this process come back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def main(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", main)


def test_ctrl_c_while_modules_are_imported_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "pybuild.cli", types.SimpleNamespace(run=interrupted))
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_signal_while_an_error_is_shown_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, OSError("something"))
    monkeypatch.setattr(report, "show", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.run([]) == 143
    assert capsys.readouterr().err == "error: terminated by SIGTERM\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImportError("isal_zlib.so: failed to map segment from shared object"),
            "error: Python cannot load a module: isal_zlib.so: failed to map segment from shared object\n",
        ),
        (MemoryError(), "error: out of memory\n"),
    ],
)
def test_a_machine_without_memory_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    fail_with(monkeypatch, error)
    assert cli.run([]) == 1
    assert capsys.readouterr().err == message
    with pytest.raises(type(error)):
        cli.run(["--debug"])


def test_an_error_about_a_descriptor_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """listdir and scandir put the number of the descriptor into the error, where the path is else."""
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    error.filename = 8
    fail_with(monkeypatch, error)
    assert cli.run([]) == 1
    assert capsys.readouterr().err == "error: Input/output error\n"
