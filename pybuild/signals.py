"""What the signals that end a command do: first they raise Terminated, then they end the process at once.

A command that gives its results their final names is not stopped any more (`outlast`): either nothing of it is there, or all
of it, and then the exit status says so.

An exception in a destructor or in the callback of a weak reference goes no further: the interpreter reports it and continues.
A signal can come there too, so a Terminated that ended so is raised again a moment later.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None]

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOMENT = 0.001  # seconds; if another destructor runs then, there is another moment


class Terminated(BaseException):
    """A signal ends the process; the running build is cancelled on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_terminated() -> None:
    """From now on the first signal raises Terminated, and the next one ends the process at once."""
    _handle(_terminate)
    sys.unraisablehook = _raise_again


def end_at_once() -> None:
    """From now on a signal ends the process at once."""
    _forget_the_last()
    _handle(_end_at_once)


def outlast() -> None:
    """The command is all but done: the next signal comes too late, and only the one after it ends the process."""
    _forget_the_last()
    _handle(_too_late)


def _handle(handler: Handler) -> None:
    for number in _NUMBERS:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup ignores it
        signal.signal(number, handler)


def _terminate(number: int, _frame: FrameType | None) -> None:
    # The next signal ends the process at once. Workers then see their connections close and end their steps, and the
    # next process that opens the store cleans up the ingest directory.
    end_at_once()
    raise Terminated(number)


def _raise_again(unraisable: sys.UnraisableHookArgs) -> None:
    error = unraisable.exc_value
    if not isinstance(error, Terminated):
        sys.__unraisablehook__(unraisable)
        return
    number = error.number

    def raise_it(_number: int, _frame: FrameType | None) -> None:
        raise Terminated(number)

    signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, _MOMENT)


def _forget_the_last() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


def _too_late(_number: int, _frame: FrameType | None) -> None:
    end_at_once()


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
