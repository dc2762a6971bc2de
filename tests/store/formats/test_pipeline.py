"""Pipelines: blocks do not depend on the writes, every step gets all blocks, and no thread outlives its stream."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybuild.store.formats import pipeline
from pybuild.store.formats.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLE = bytes(10)  # what stands for the chunk of a hole here
PROPERTY = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of ten bytes. Afterwards no new thread may be left."""
    monkeypatch.setattr(pipeline, "BLOCK", 10)
    monkeypatch.setattr(pipeline, "ZEROS", HOLE)
    before = set(threading.enumerate())
    yield
    assert new_threads(before) == set()


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """The threads started since then."""
    return set(threading.enumerate()) - before


@given(st.lists(st.binary(max_size=35)))
@PROPERTY
def test_blocks_depend_on_the_stream_alone(pieces: list[bytes]) -> None:
    one: list[bytes] = []
    other: list[bytes] = []
    with Pipeline(one.append, other.append) as stream:
        for piece in pieces:
            stream.write(piece)
        stream.finish()
    whole = b"".join(pieces)
    assert one == other == [whole[at : at + 10] for at in range(0, len(whole), 10)]


@given(st.lists(st.one_of(st.binary(max_size=35), st.just(None))))
@PROPERTY
def test_blocks_with_zeros_of_holes_depend_on_the_stream_alone(pieces: list[bytes | None]) -> None:
    blocks: list[bytes] = []
    written = [HOLE if piece is None else piece for piece in pieces]
    with Pipeline(blocks.append) as stream:
        for piece in written:
            stream.write(piece)
        stream.finish()
    whole = b"".join(written)
    assert blocks == [whole[at : at + 10] for at in range(0, len(whole), 10)]


@pytest.mark.parametrize("header", [b"", b"12345", b"0123456789"])
def test_blocks_in_a_hole_are_not_copied(header: bytes) -> None:
    blocks: list[bytes] = []
    with Pipeline(blocks.append) as stream:
        stream.write(header)
        for _ in range(100):
            stream.write(HOLE)
        stream.write(b"end")
        stream.finish()
    assert b"".join(blocks) == header + bytes(1000) + b"end"
    assert sum(block is HOLE for block in blocks) >= 99


@pytest.mark.parametrize(("size", "threads"), [(0, 0), (1, 0), (10, 0), (19, 0), (20, 2), (30, 2)])
def test_threads_are_started_from_the_second_block_on(size: int, threads: int) -> None:
    before = set(threading.enumerate())
    with Pipeline(lambda block: None, lambda block: None) as stream:
        stream.write(bytes(size))
        assert len(new_threads(before)) == threads
        stream.finish()
        assert new_threads(before) == set()


def test_steps_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    with Pipeline(lambda block: both.wait(), lambda block: both.wait()) as stream:
        stream.write(bytes(40))
        stream.finish()
    assert not both.broken


def refuses(block: bytes) -> None:
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("size", [5, 25, 1000])
def test_an_error_in_a_step_is_raised_in_the_writer(size: int) -> None:
    got: list[bytes] = []
    with pytest.raises(OSError, match="full") as caught, Pipeline(got.append, refuses) as stream:
        for _ in range(size):
            stream.write(b"x")
        stream.finish()
    assert caught.value.errno == errno.ENOSPC


def test_an_error_in_the_writer_leaves_no_thread() -> None:
    with pytest.raises(ZeroDivisionError), Pipeline(lambda block: None) as stream:
        stream.write(bytes(1000))
        raise ZeroDivisionError


def test_closing_after_an_error_does_not_wait_for_ever() -> None:
    """The thread of a failed step still empties its queue, or `close` would wait for a full one."""
    stream = Pipeline(refuses)
    try:
        for _ in range(1000):
            stream.write(bytes(10))
    except OSError:
        pass
    stream.close()
    stream.close()


@pytest.mark.parametrize("started", [0, 1])
def test_a_step_for_which_no_thread_starts_is_done_by_the_writer(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """clone(2) fails at a limit on processes, or without memory."""
    start = threading.Thread.start
    left = [start] * started

    def failing_start(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()(thread)

    monkeypatch.setattr(threading.Thread, "start", failing_start)
    first: list[bytes] = []
    second: list[bytes] = []
    with Pipeline(first.append, second.append) as stream:
        stream.write(bytes(range(45)))
        stream.finish()
    assert b"".join(first) == b"".join(second) == bytes(range(45))
    assert [len(block) for block in second] == [10, 10, 10, 10, 5]
