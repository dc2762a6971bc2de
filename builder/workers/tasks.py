"""Coroutines that wait for worker processes: one thread, in which nothing runs beside what the workers do.

A task may wait for descriptors to become readable or for a condition that other tasks bring about; between two waits
nobody else touches anything. There is no cancelling of a single task: a build that fails closes them all, which runs
their `finally` blocks, where nothing may wait any more.

asyncio could do this. It is not used since an exception that a signal handler raises, in whatever line, has to leave
through the tasks at once and not be kept in one of them; and since this is all that is needed.
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
    """Wait until some of the descriptors can be read, or are at their end; answer which. No other task waits for them."""
    return await _wait(frozenset(descriptors))


async def wait_until(condition: Condition) -> None:
    """Wait until a condition holds. It is looked at whenever another task has gone on; it must be cheap."""
    if not condition():
        await _wait(condition)


async def gather(tasks: Iterable[Task[R]]) -> list[R]:
    """Wait for several tasks that go on at the same time; their results, in their order.

    Raises what the first failing one raised; the others are closed then.
    """
    group = Group(list(tasks))
    await _wait(group)
    if group.error is not None:
        raise group.error
    return [group.results[number] for number in range(len(group.tasks))]


async def with_background(task: Task[R], other: Task[None]) -> R:
    """Wait for a task and for another one, of which only the end counts; what the first returned. Raises as `together`."""
    result: list[R] = []

    async def keep() -> None:
        result.append(await task)

    await gather((keep(), other))
    return result[0]


class Group(Generic[R]):
    """Tasks that another one waits for, and what they returned so far, by number."""

    def __init__(self, tasks: list[Task[R]]) -> None:
        self.tasks = tasks
        self.results: dict[int, R] = {}
        self.error: BaseException | None = None  # of the first that failed

    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.error is not None or len(self.results) == len(self.tasks)


@types.coroutine
def _wait(what: Wait) -> Generator[Wait, frozenset[int], frozenset[int]]:
    return (yield what)


class Semaphore:
    """At most so many at a time; an asynchronous context manager that the others wait for, first come first served."""

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
    """One task at a time for each name: `async with locks(name)`."""

    def __init__(self) -> None:
        self._slots: dict[Hashable, Semaphore] = {}

    def __call__(self, name: Hashable) -> Semaphore:
        return self._slots.setdefault(name, Semaphore(1))


class Tasks(Generic[K, R]):
    """Tasks under way, by key. A context manager: leaving it closes those that have not ended."""

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        """`tick` is called now and then while all tasks wait."""
        self._tick = tick
        self._under_way: dict[Task[Any], Callable[[Any], None]] = {}  # to whoever gets what the task returns
        self._groups: dict[Task[Any], Group[Any]] = {}  # the group that a task belongs to
        self._conditions: dict[Task[Any], Condition] = {}
        self._selector = selectors.PollSelector()
        self._ended: deque[tuple[K, R]] = deque()

    def start(self, key: K, task: Task[R]) -> None:
        """Begin a task. It runs to its first wait at once; raises what it raises."""
        self._begin(task, lambda result: self._ended.append((key, result)))

    def __len__(self) -> int:
        """How many are still under way, or were not told of by `next_ended`."""
        return len(self._under_way) + len(self._ended)

    def next_ended(self) -> tuple[K, R]:
        """Wait for a task to end: its key and what it returned. Raises what the first failing one raised."""
        while not self._ended:
            self._turn()
        return self._ended.popleft()

    def close(self) -> None:
        """Close those that have not ended: each gets a GeneratorExit where it waits. Idempotent."""
        while self._under_way:
            self._close(next(reversed(self._under_way)))
        self._selector.close()

    def __enter__(self) -> Tasks[K, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, task: Task[Any], returned: Callable[[Any], None]) -> None:
        self._under_way[task] = returned
        self._go_on(task, None)

    def _turn(self) -> None:
        """Let those go on whose wait is over."""
        for task, condition in self._conditions.items():
            if condition():
                del self._conditions[task]
                self._go_on(task, frozenset())
                return
        assert self._selector.get_map(), "every task waits for another"
        ready: dict[Task[Any], set[int]] = {}
        for event, _ in self._selector.select(_TICK_SECONDS):
            ready.setdefault(event.data, set()).add(event.fd)
        for task, descriptors in ready.items():
            if task not in self._under_way:
                continue  # closed, since one of its group has failed
            self._stop_watching(task)
            self._go_on(task, frozenset(descriptors))
        self._tick()

    def _go_on(self, task: Task[Any], ready: frozenset[int] | None) -> None:
        try:
            waits_for = task.send(ready)  # type: ignore[arg-type]  # None begins it
        except StopIteration as end:
            self._groups.pop(task, None)
            self._under_way.pop(task)(end.value)
            return
        except BaseException as error:
            del self._under_way[task]
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
        self._under_way.pop(task, None)
        self._groups.pop(task, None)
        self._conditions.pop(task, None)
        self._stop_watching(task)
        task.close()

    def _stop_watching(self, task: Task[Any]) -> None:
        for watched in [watched for watched in self._selector.get_map().values() if watched.data is task]:
            self._selector.unregister(watched.fd)


def run_until_complete(task: Task[R]) -> R:
    """Run one task to its end, while whoever else is under way stands still."""
    with Tasks[None, R]() as tasks:
        tasks.start(None, task)
        return tasks.next_ended()[1]
