"""Connections to registries that a worker keeps from one job to the next.

A new connection to a registry asks for its scheme, loads the system's certificates (55 ms of processor time), and gets a
token. The jobs of one push ask the same registry several times.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager

T = TypeVar("T")

_kept: ContextVar[_OpenRegistries | None] = ContextVar("open registries", default=None)


@contextmanager
def keeping_registries() -> Iterator[None]:
    """Keep connections open until the end of the block."""
    with ExitStack() as stack:
        token = _kept.set(_OpenRegistries(stack))
        try:
            yield
        finally:
            _kept.reset(token)


@contextmanager
def connected(key: Hashable, connect: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """What `connect` makes: kept for the next call with an equal key, or closed at the end if nothing is kept here."""
    kept = _kept.get()
    if kept is None:
        with connect() as made:
            yield made
    else:
        yield kept.get(key, connect)


class _OpenRegistries:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[Hashable, object] = {}

    def get(self, key: Hashable, connect: Callable[[], AbstractContextManager[T]]) -> T:
        if key not in self._made:
            self._made[key] = self._stack.enter_context(connect())
        return self._made[key]  # type: ignore[return-value]
