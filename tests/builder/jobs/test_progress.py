"""How far a layer is: reported at once for a large one, later for others, and not at all if nobody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.builder.jobs.progress import LARGE, CountedContent, counted, reporting
from pybuild.store.formats.toc import Entry, Kind
from tests.support.events import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = [Entry(name, Kind.FILE, size=4) for name in (b"a", b"b")] + [Entry(b"c", Kind.FILE, size=4, hardlink=b"a")]


class Halves:
    """Four bytes for each file, in two chunks; each chunk takes 0.4 s."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        for _ in range(2):
            self._clock.now += 0.4
            yield b"12"


def test_a_layer_that_takes_long_is_reported_every_second() -> None:
    found: list[tuple[int, int]] = []
    clock = Clock()
    with reporting(lambda done, total: found.append((done, total))):
        content = CountedContent(Halves(clock), SLOW, clock)
        for entry in SLOW[:2]:
            assert b"".join(content.chunks(entry)) == b"1212"
    assert found == [(6, 8)]


@pytest.mark.parametrize(("size", "reports"), [(LARGE, [(0, LARGE)]), (LARGE - 1, [])])
def test_a_large_layer_is_reported_at_once(size: int, reports: list[tuple[int, int]]) -> None:
    found: list[tuple[int, int]] = []
    clock = Clock()
    with reporting(lambda done, total: found.append((done, total))):
        CountedContent(Halves(clock), [Entry(b"f", Kind.FILE, size=size)], clock)
    assert found == reports


def test_nothing_is_counted_if_nobody_asks() -> None:
    content = Halves(Clock())
    assert counted(content, SLOW) is content
