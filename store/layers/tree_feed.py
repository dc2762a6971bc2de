"""The stream by which the reader of a layer tells another process what to make a tree of, while it reads.

    stream = (size, record, content of a file)*, END or STOPPED

A record is one of a toc file; its size, like the two marks that stand in place of one, has four bytes (little-endian). A
file that is not a hard link has its content after its record. At the end come the whiteouts, and again the directories that
are opaque. STOPPED: the tree has to be made from the table of contents, because a path has
several entries, or because what was read has to be read again.

The stream is a pipe between two processes. Whichever of them dies, the other one finds the end of the stream, or that
nobody reads it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.formats.toc import Kind, encode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.formats.toc import Entry

END, STOPPED = 0, 1
SIZE = 4  # bytes of the size of a record
_PORTION = 1 << 18  # bytes that are sent together


class TreeFeed:
    """The writing end: the receiver of `read_layer`. Its methods raise OSError, except if nobody reads the stream."""

    def __init__(self, fd: int) -> None:
        """`fd`: the pipe. The caller closes it."""
        self._fd = fd
        self._waiting = bytearray()
        self._goes_on = True

    def entry(self, entry: Entry) -> None:
        """Send an entry."""
        if self._goes_on:
            record = encode_record(entry)
            self._waiting += len(record).to_bytes(SIZE, "little")
            self._waiting += record
            self._send_portion()

    def content(self, data: bytes) -> None:
        """Send content of the last file."""
        if self._goes_on:
            if len(data) < _PORTION:
                self._waiting += data
                self._send_portion()
            else:
                self._send_all()
                self._write(data)

    def replaced(self) -> None:
        """Send nothing more: what was made cannot stay."""
        self.stop()

    def stop(self) -> None:
        """Say that the tree will not be whole, and send nothing more."""
        self._end(STOPPED)

    def finish(self, entries: Sequence[Entry]) -> None:
        """Send what is known at the end only, and that the stream is whole."""
        for entry in entries:
            if entry.opaque or entry.kind is Kind.WHITEOUT:
                self.entry(entry)
        self._end(END)

    def _end(self, mark: int) -> None:
        if self._goes_on:
            self._waiting += mark.to_bytes(SIZE, "little")
            self._send_all()
            self._goes_on = False

    def _send_portion(self) -> None:
        if len(self._waiting) >= _PORTION:
            self._send_all()

    def _send_all(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        self._write(waiting)

    def _write(self, data: bytes | bytearray) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except BrokenPipeError:  # the other process has failed, and its own error says why
            self._goes_on = False
