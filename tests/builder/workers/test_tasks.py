"""Coroutines that wait for descriptors, for conditions and for each other: builder/workers/tasks.py."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.errors import StepFailed
from pybuild.builder.workers.tasks import Locks, Semaphore, Tasks, gather, run_until_complete, wait_readable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    with ExitStack() as stack:
        made = [os.pipe() for _ in range(3)]
        for fd in (fd for pair in made for fd in pair):
            stack.callback(os.close, fd)
        yield made


async def value(result: object) -> object:
    return result


async def word(fd: int) -> bytes:
    await wait_readable(fd)
    return os.read(fd, 100)


def ended(tasks: Tasks[str, object]) -> list[tuple[str, object]]:
    return [tasks.next_ended() for _ in range(len(tasks))]


def test_a_task_that_waits_for_nothing_ends_at_once() -> None:
    with Tasks[str, object]() as tasks:
        tasks.start("a", value(1))
        tasks.start("b", value(2))
        assert ended(tasks) == [("a", 1), ("b", 2)]
        assert not tasks


def test_a_task_is_resumed_when_its_descriptor_can_be_read(pipes: list[tuple[int, int]]) -> None:
    with Tasks[str, object]() as tasks:
        for name, (reader, _) in zip("abc", pipes, strict=True):
            tasks.start(name, word(reader))
        os.write(pipes[1][1], b"second")
        assert tasks.next_ended() == ("b", b"second")
        os.write(pipes[2][1], b"third")
        assert tasks.next_ended() == ("c", b"third")
        assert len(tasks) == 1


def test_a_wait_returns_the_descriptors_that_can_be_read(pipes: list[tuple[int, int]]) -> None:
    readers = [reader for reader, _ in pipes]
    os.write(pipes[0][1], b"x")
    os.write(pipes[2][1], b"x")
    assert run_until_complete(wait_readable(*readers)) == {readers[0], readers[2]}


def test_a_condition_is_checked_after_another_task_has_run(pipes: list[tuple[int, int]]) -> None:
    seen: list[bytes] = []

    async def reader() -> None:
        seen.append(await word(pipes[0][0]))

    async def waiter() -> bytes:
        await wait_until(lambda: bool(seen))
        return seen[0]

    with Tasks[str, object]() as tasks:
        tasks.start("waiter", waiter())
        tasks.start("reader", reader())
        os.write(pipes[0][1], b"now")
        assert dict(ended(tasks)) == {"waiter": b"now", "reader": None}


def test_gather_returns_the_results_in_the_order_of_the_tasks(pipes: list[tuple[int, int]]) -> None:
    for number, (_, writer) in reversed(list(enumerate(pipes))):
        os.write(writer, b"%d" % number)
    assert run_until_complete(gather(word(reader) for reader, _ in pipes)) == [b"0", b"1", b"2"]
    assert run_until_complete(gather([])) == []


def test_a_semaphore_is_acquired_in_the_order_of_arrival(pipes: list[tuple[int, int]]) -> None:
    semaphore = Semaphore(1)
    order = []

    async def use(number: int) -> None:
        async with semaphore:
            order.append(number)
            await wait_readable(pipes[number][0])

    with Tasks[str, object]() as tasks:
        for number in range(3):
            tasks.start(str(number), use(number))
        assert order == [0]
        for _, writer in reversed(pipes):
            os.write(writer, b"x")
        ended(tasks)
    assert order == [0, 1, 2]


def test_locks_of_different_names_are_independent(pipes: list[tuple[int, int]]) -> None:
    locks = Locks()
    inside = []

    async def use(name: str, reader: int) -> None:
        async with locks(name):
            inside.append(name)
            await wait_readable(reader)

    with Tasks[str, object]() as tasks:
        for name, (reader, _) in zip("aab", pipes, strict=True):
            tasks.start(name, use(name, reader))
        assert inside == ["a", "b"]


def test_the_first_error_is_raised_and_the_other_tasks_are_closed(pipes: list[tuple[int, int]]) -> None:
    closed = []

    async def patient(name: str, reader: int) -> None:
        try:
            await wait_readable(reader)
        finally:
            closed.append(name)

    async def bad() -> None:
        await wait_readable(pipes[2][0])
        raise StepFailed("bad", 1)

    os.write(pipes[2][1], b"x")
    with Tasks[str, object]() as tasks:
        tasks.start("one", patient("one", pipes[0][0]))
        tasks.start("group", gather([patient("two", pipes[1][0]), bad()]))
        with pytest.raises(StepFailed):
            tasks.next_ended()
    assert closed == ["two", "one"]


def test_gather_raises_the_error_of_one_of_its_tasks(pipes: list[tuple[int, int]]) -> None:
    closed = []

    async def patient() -> None:
        try:
            await wait_readable(pipes[0][0])
        finally:
            closed.append("patient")

    async def bad() -> None:
        raise StepFailed("bad", 1)

    async def late() -> None:
        raise AssertionError("started after the failure")

    async def parent() -> str:
        try:
            await gather([patient(), bad(), late()])
        except StepFailed as error:
            return str(error)
        return "nothing"

    assert run_until_complete(parent()) == "bad"
    assert closed == ["patient"]


def test_tick_is_called_while_all_tasks_wait(pipes: list[tuple[int, int]]) -> None:
    ticks = []

    def tick() -> None:
        ticks.append(1)
        os.write(pipes[0][1], b"x")

    with Tasks[str, object](tick) as tasks:
        tasks.start("a", word(pipes[0][0]))
        assert tasks.next_ended()[1]
    assert ticks


def test_tasks_that_wait_for_each_other_fail_instead_of_hanging() -> None:
    with pytest.raises(AssertionError, match="waits for another"):
        run_until_complete(wait_until(lambda: False))


def test_a_failure_closes_the_tasks_that_the_others_wait_for(pipes: list[tuple[int, int]]) -> None:
    """A task that waits for a group of its own is closed with that group, the children first."""
    closed: list[str] = []

    async def child(name: str, reader: int) -> None:
        try:
            await wait_readable(reader)
        finally:
            closed.append(name)

    async def parent() -> None:
        try:
            await gather([child("first", pipes[0][0]), child("second", pipes[1][0])])
        finally:
            closed.append("parent")

    async def fails() -> None:
        raise ValueError

    async def both() -> None:
        await gather([parent(), fails()])

    with Tasks[str, None]() as tasks, pytest.raises(ValueError):
        tasks.start("both", both())
        tasks.next_ended()
    assert closed == ["first", "second", "parent"]
