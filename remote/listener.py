"""Tells why a request to another machine takes long, to whoever listens while it is made.

What waits is far below what talks to the user, and between them are processes. So a listener is set for the time of a
block, and whatever is called in the block finds it.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Listener(Protocol):
    """Takes what there is to tell."""

    def waits(self, text: str) -> None:
        """A request did not succeed, and is made again after a wait."""
        ...

    def received(self, done: int, total: int | None) -> None:
        """Bytes that have arrived, and of how many; None: nobody knows. Called often."""
        ...


class _Nobody:
    def waits(self, text: str) -> None: ...
    def received(self, done: int, total: int | None) -> None: ...


_listener: ContextVar[Listener] = ContextVar("listener", default=_Nobody())  # noqa: B039 - it has no state


def listener() -> Listener:
    """Who listens now."""
    return _listener.get()


@contextmanager
def listening(to: Listener) -> Iterator[None]:
    """Make this the listener for the time of a block."""
    before = _listener.set(to)
    try:
        yield
    finally:
        _listener.reset(before)
