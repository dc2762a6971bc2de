"""Coroutines that wait for worker processes, all in one thread.

A task waits for descriptors to become readable, for a condition that other tasks bring about, or for other tasks;
between two waits no other task runs. A single task cannot be cancelled: a build that fails closes all its tasks, which
runs their `finally` blocks, and these must not wait.

asyncio would store an exception raised by a signal handler in the task; here it must propagate immediately. The rest of
asyncio is not needed.
"""

from __future__ import annotations

import selectors
import types
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Hashable, Iterable
    from types import TracebackType

R = TypeVar("R")
K = TypeVar("K")

Condition: TypeAlias = Callable[[], bool]
Wait: TypeAlias = "frozenset[int] | Condition | Group[Any]"
Task: TypeAlias = "Coroutine[Wait, frozenset[int], R]"

_TICK_SECONDS = 0.1


async def wait_readable(*descriptors: int) -> frozenset[int]:
    """Wait until some descriptors are readable or at their end; return those. Only one task can wait for each."""
    return await _wait(frozenset(descriptors))


async def wait_until(condition: Condition) -> None:
    """Wait until a condition holds. It is checked whenever another task has run, and must be cheap."""
    if not condition():
        await _wait(condition)


async def gather(tasks: Iterable[Task[R]]) -> list[R]:
    """Run several tasks at the same time and return their results, in the order of the tasks.

    If one fails, the others are closed and its error is raised.
    """
    group = Group(list(tasks))
    await _wait(group)
    if group.error is not None:
        raise group.error
    return [group.results[number] for number in range(len(group.tasks))]


async def with_background(task: Task[R], background: Task[None]) -> R:
    """Run two tasks until both have ended; return the result of the first. Raises as `gather` does."""
    result: list[R] = []

    async def store_result() -> None:
        result.append(await task)

    await gather((store_result(), background))
    return result[0]


class Group(Generic[R]):
    """Tasks that another task waits for, and the results of those that have ended, by position."""

    def __init__(self, tasks: list[Task[R]]) -> None:
        self.tasks = tasks
        self.results: dict[int, R] = {}
        self.error: BaseException | None = None  # of the first task that failed

    def ended(self) -> bool:
        """Whether all tasks have ended, or one has failed."""
        return self.error is not None or len(self.results) == len(self.tasks)


@types.coroutine
def _wait(what: Wait) -> Generator[Wait, frozenset[int], frozenset[int]]:
    return (yield what)


class Semaphore:
    """Lets at most `count` tasks into an `async with` at a time; the others enter in the order of arrival."""

    def __init__(self, count: int) -> None:
        self._free = count

    async def __aenter__(self) -> None:
        await wait_until(lambda: self._free > 0)
        self._free -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free += 1


class Locks:
    """A lock for each name, taken with `async with locks(name)`."""

    def __init__(self) -> None:
        self._by_name: dict[Hashable, Semaphore] = {}

    def __call__(self, name: Hashable) -> Semaphore:
        return self._by_name.setdefault(name, Semaphore(1))


class Tasks(Generic[K, R]):
    """Running tasks, by key. A context manager: leaving it closes those that have not ended."""

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        """`tick` is called after every wait, and at least every 0.1 s while all tasks wait."""
        self._tick = tick
        self._running: dict[Task[Any], Callable[[Any], None]] = {}  # task -> function that takes its result
        self._groups: dict[Task[Any], Group[Any]] = {}  # task -> the group that it belongs to
        self._awaited: dict[Task[Any], Group[Any]] = {}  # task -> the group that it waits for
        self._conditions: dict[Task[Any], Condition] = {}
        self._selector = selectors.PollSelector()
        self._ended: deque[tuple[K, R]] = deque()

    def start(self, key: K, task: Task[R]) -> None:
        """Run a task to its first wait; `next_ended` continues it. Raises what the task raises."""
        self._begin(task, lambda result: self._ended.append((key, result)))

    def __len__(self) -> int:
        """The number of tasks that `next_ended` has not returned yet."""
        return len(self._running) + len(self._ended)

    def next_ended(self) -> tuple[K, R]:
        """Wait until a task has ended; return its key and its result. Raises the error of the first task that fails."""
        while not self._ended:
            self._run_once()
        return self._ended.popleft()

    def close(self) -> None:
        """Close the tasks that have not ended: each gets a GeneratorExit at its wait. Idempotent."""
        while self._running:
            self._close(next(reversed(self._running)))
        self._selector.close()

    def __enter__(self) -> Tasks[K, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, task: Task[Any], on_result: Callable[[Any], None]) -> None:
        self._running[task] = on_result
        self._resume(task, None)

    def _run_once(self) -> None:
        """Resume one task whose condition holds. If there is none, wait for descriptors and resume their tasks."""
        for task, condition in self._conditions.items():
            if condition():
                del self._conditions[task]
                self._resume(task, frozenset())
                return
        assert self._selector.get_map(), "every task waits for another"
        ready: dict[Task[Any], set[int]] = {}
        for event, _ in self._selector.select(_TICK_SECONDS):
            ready.setdefault(event.data, set()).add(event.fd)
        for task, descriptors in ready.items():
            if task not in self._running:
                continue  # closed because another task of its group has failed
            self._stop_watching(task)
            self._resume(task, frozenset(descriptors))
        self._tick()

    def _resume(self, task: Task[Any], ready: frozenset[int] | None) -> None:
        self._awaited.pop(task, None)
        try:
            waits_for = task.send(ready)  # type: ignore[arg-type]  # None starts a coroutine
        except StopIteration as end:
            self._groups.pop(task, None)
            self._running.pop(task)(end.value)
            return
        except BaseException as error:
            del self._running[task]
            group = self._groups.pop(task, None)
            if group is None:
                raise
            group.error = error
            for other in group.tasks:
                self._close(other)
            return
        if isinstance(waits_for, frozenset):
            for descriptor in waits_for:
                self._selector.register(descriptor, selectors.EVENT_READ, task)
        elif isinstance(waits_for, Group):
            self._awaited[task] = waits_for
            self._conditions[task] = waits_for.ended
            for number, child in enumerate(waits_for.tasks):
                if waits_for.error is None:
                    self._groups[child] = waits_for
                    self._begin(child, partial(waits_for.results.__setitem__, number))
                else:
                    child.close()
        else:
            self._conditions[task] = waits_for

    def _close(self, task: Task[Any]) -> None:
        """Close a task, after the tasks that it waits for. Idempotent."""
        if (awaited := self._awaited.pop(task, None)) is not None:
            for child in awaited.tasks:
                self._close(child)
        self._running.pop(task, None)
        self._groups.pop(task, None)
        self._conditions.pop(task, None)
        self._stop_watching(task)
        task.close()

    def _stop_watching(self, task: Task[Any]) -> None:
        for watched in [watched for watched in self._selector.get_map().values() if watched.data is task]:
            self._selector.unregister(watched.fd)


def run_until_complete(task: Task[R]) -> R:
    """Run one task to its end and return its result. No other task runs in the meantime."""
    with Tasks[None, R]() as tasks:
        tasks.start(None, task)
        return tasks.next_ended()[1]
