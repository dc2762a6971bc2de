"""Blocks of a stream: the same however it comes, every step gets all of them, and no thread outlives its stream."""

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

PROPERTY = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of ten bytes; and no thread is left."""
    monkeypatch.setattr(pipeline, "BLOCK", 10)
    before = set(threading.enumerate())
    yield
    assert new_threads(before) == set()


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """Those since then; of those before, any may have ended."""
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


@pytest.mark.parametrize(("size", "threads"), [(0, 0), (1, 0), (10, 0), (19, 0), (20, 2), (30, 2)])
def test_there_are_threads_where_there_is_something_to_do_for_them(size: int, threads: int) -> None:
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
def test_what_a_step_raises_reaches_who_writes(size: int) -> None:
    got: list[bytes] = []
    with pytest.raises(OSError, match="full") as caught, Pipeline(got.append, refuses) as stream:
        for _ in range(size):
            stream.write(b"x")
        stream.finish()
    assert caught.value.errno == errno.ENOSPC


def test_who_stops_in_the_middle_leaves_no_thread() -> None:
    with pytest.raises(ZeroDivisionError), Pipeline(lambda block: None) as stream:
        stream.write(bytes(1000))
        raise ZeroDivisionError


def test_who_does_not_write_on_waits_for_nothing() -> None:
    """A step that has failed takes what waits, so that the end of a stream with much in it is reached."""
    stream = Pipeline(refuses)
    try:
        for _ in range(1000):
            stream.write(bytes(10))
    except OSError:
        pass
    stream.close()
    stream.close()
