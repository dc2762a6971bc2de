"""How far a job is: the bytes of the layer that it writes or downloads. The job counts them; its worker passes the count on to the main process.

A job has no connection to the main process. So the worker says for the time of a job who wants to know (`reporting`), and
each process does one job at a time.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.write import FileContent

    Report = Callable[[int, int], None]

LARGE = 256 << 20  # bytes; writing such a layer is reported from the beginning, any other once it takes long
_SECONDS = 1.0  # between two reports of a written layer
_DOWNLOAD_SECONDS = 0.1

_wanted: list[Report] = []  # empty, or who wants to know


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Call `report` with the bytes that are done and their total while jobs in the block write layers."""
    _wanted.append(report)
    try:
        yield
    finally:
        _wanted.pop()


class CountedContent:
    """The content of the files of a layer, reported while it is read."""

    def __init__(
        self, content: FileContent, entries: Iterable[Entry], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._content = content
        self._clock = clock
        self._done = 0
        self._total = sum(entry.size for entry in entries if not entry.hardlink)
        self._next = clock() + _SECONDS  # when the next report is due
        if self._total >= LARGE:
            self._report()

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file."""
        for chunk in self._content.chunks(entry):
            yield chunk
            self._done += len(chunk)
            if self._clock() >= self._next:
                self._next = self._clock() + _SECONDS
                self._report()

    def _report(self) -> None:
        for report in _wanted:
            report(self._done, self._total)


def counter(total: int, clock: Callable[[], float] = time.monotonic) -> Callable[[int], None]:
    """A function that takes the bytes of a download that have arrived, and reports them ten times a second."""
    due = 0.0

    def count(done: int) -> None:
        nonlocal due
        if _wanted and (clock() >= due or done == total):
            due = clock() + _DOWNLOAD_SECONDS
            for report in _wanted:
                report(done, total)

    return count


def counted(content: FileContent, entries: Iterable[Entry]) -> FileContent:
    """The same content, reported if anybody wants to know."""
    return CountedContent(content, entries) if _wanted else content
