"""What signals do to a command, in processes that send them to themselves."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def ended(number: int, *lines: str) -> tuple[int, str]:
    """Exit status and output of a program; `kill()` in it sends the signal to itself."""
    # What the tests inherit (nohup ignores SIGHUP) does not count.
    start = ("import os, signal", f"signal.signal({int(number)}, signal.SIG_DFL if {int(number)} != 2 else signal.default_int_handler)")
    program = "\n".join((*start, "from pybuild import signals", f"def kill(): os.kill(os.getpid(), {int(number)})", *lines))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_raises_and_the_second_ends(number: int) -> None:
    caught = "try: kill()\nexcept signals.Terminated as error: print(error.number, flush=True)"
    assert ended(number, "signals.raise_terminated()", caught) == (0, f"{int(number)}\n")
    assert ended(number, "signals.raise_terminated()", caught, "kill()", "print('no')") == (128 + number, f"{int(number)}\n")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_comes_too_late_does_nothing_and_the_next_one_ends(number: int) -> None:
    late = ("signals.raise_terminated()", "signals.outlast()", "kill()", "print('done', flush=True)")
    assert ended(number, *late) == (0, "done\n")
    assert ended(number, *late, "kill()", "print('no')") == (128 + number, "done\n")


def test_nohup_holds() -> None:
    nohup = ("import signal", "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert ended(signal.SIGHUP, *nohup, "signals.raise_terminated()", "kill()", "print('on')") == (0, "on\n")


@pytest.mark.parametrize(
    "place",
    [
        "class Place:\n    def __del__(self): kill()\nplace = Place()\ndel place",
        "import weakref\nclass Place: pass\nplace = Place()\nref = weakref.ref(place, lambda _: kill())\ndel place",
        "def place():\n    try: yield\n    finally: kill()\nnext(place())",
    ],
    ids=["a destructor", "a weak reference", "a generator that nobody finished"],
)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_not_lost_where_exceptions_are(number: int, place: str) -> None:
    tried = "\n".join(f"    {line}" for line in f"{place}\nimport select\nselect.select([], [], [], 60)\nprint('lost')".splitlines())
    caught = f"try:\n{tried}\nexcept signals.Terminated as error: print(error.number, flush=True)"
    assert ended(number, "signals.raise_terminated()", caught) == (0, f"{int(number)}\n")


def test_other_exceptions_of_destructors_are_shown() -> None:
    program = (
        "from pybuild import signals\nsignals.raise_terminated()\n"
        "class Place:\n    def __del__(self): raise ValueError('of a destructor')\nPlace()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "of a destructor" in done.stderr
