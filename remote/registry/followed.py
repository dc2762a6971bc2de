"""Reading a blob while it is downloaded: a thread writes it to a file, and the reader follows behind.

The download never waits for the reader, so a server is not kept waiting. It resumes after a break, of which the reader sees
nothing. If it has to begin again, the bytes that were read so far might be wrong: the reader gets `Restarted`.
"""

from __future__ import annotations

import os
from contextvars import copy_context
from threading import Condition, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    OnBytes = Callable[[int], None]


class Restarted(Exception):
    """The download has begun again. Wait for its end (`finish`), and read the file."""


class FollowedDownload:
    """A download that runs in a thread, as a stream. A context manager: leaving it waits for the end of the download."""

    def __init__(self, download: Callable[[OnBytes], None], file: BinaryIO) -> None:
        """`download` writes to `file`, and calls its argument with the number of bytes after each piece, and with 0
        after it has begun, or emptied the file to begin again.
        """
        self._download = download
        self._file = file
        self._changed = Condition()
        self._size = 0  # bytes in the file
        self._restarts = 0
        self._seen_restarts = 0
        self._position = 0  # of the reader
        self._ended = False
        self._error: BaseException | None = None
        # A thread has no context of its own, and changed limits are a part of it.
        self._thread: Thread | None = Thread(target=copy_context().run, args=(self._run,), name="download", daemon=True)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end, once the download has verified them all.

        Raises what the download raises, and Restarted.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._size > self._position or self._is_restarted())
            if self._error is not None:
                raise self._error
            available = self._size - self._position
            if self._is_restarted():
                if self._position:
                    raise Restarted
                self._seen_restarts = self._restarts
        if not available:
            return b""
        data = os.pread(self._file.fileno(), min(size, available), self._position)
        with self._changed:
            # The file was emptied meanwhile: there is nothing here, or there are bytes of the new beginning.
            if not data or self._is_restarted():
                raise Restarted
        self._position += len(data)
        return data

    def finish(self) -> None:
        """Wait for the end of the download. Raises what it raises."""
        self._join()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> FollowedDownload:
        assert self._thread is not None
        try:
            self._thread.start()
        except RuntimeError:  # a limit on processes, or no memory: it is downloaded first, and read then
            self._thread = None
            self._run()
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _is_restarted(self) -> bool:
        return self._restarts != self._seen_restarts

    def _run(self) -> None:
        try:
            self._download(self._on_bytes)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _on_bytes(self, size: int) -> None:
        with self._changed:
            if size < self._size:
                self._restarts += 1
            self._size = size
            self._changed.notify()
