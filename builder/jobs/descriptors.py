"""The open files that came with a job, such as an end of a pipe to the worker of another job.

A job is a value and holds no descriptors. So the worker says for the time of a job which ones came with it (`given`), and
each process does one job at a time.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_given: list[int] = []


@contextmanager
def given(descriptors: Sequence[int]) -> Iterator[None]:
    """Let a job in the block use these descriptors. They are closed at its end."""
    _given.extend(descriptors)
    try:
        yield
    finally:
        while _given:
            os.close(_given.pop())


def given_descriptors() -> tuple[int, ...]:
    """The descriptors that came with the job that runs, in the order in which they were sent."""
    return tuple(_given)
