"""A stream cut into blocks of one size, which several threads process at the same time.

The stream arrives in pieces of any size and is passed on in blocks of BLOCK bytes (the last one can be shorter): the
output of a compressor can depend on how its input is cut, but it must depend on the content alone. Once there is a second
block, each step gets a thread of its own, which processes the blocks in order; hashing, compression and write(2) release
the interpreter's lock. A stream of a single block is processed by the caller, without threads.

The zeros of a hole in a file arrive as the object ZEROS again and again. Blocks of them are that object too, so they are
neither joined nor copied.

The threads share nothing except their queues. None of them is left when `finish` or `close` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from pybuild.store.system.holes import ZEROS

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import Queue
    from threading import Thread

    Step = Callable[[bytes], object]

T = TypeVar("T")

BLOCK = len(ZEROS)
_TOGETHER = 1 << 20  # bytes of pieces that one step gets at a time: a queue costs more than a small piece
_QUEUED = 4  # blocks that can wait for one step; if another comes, `write` waits


class Pipeline:
    """Cuts a stream into blocks and passes each block to every step. A context manager: leaving it ends the threads."""

    def __init__(self, *steps: Step) -> None:
        """A step is called with one block after the other, by one thread at a time."""
        self._steps = steps
        self._threads: list[_StepThread[bytes]] = []
        self._parts: list[bytes | memoryview] = []
        self._missing = BLOCK  # bytes until `_parts` make a block
        self._zeros = True  # all of `_parts` are pieces of ZEROS
        self._block: bytes | None = None  # a full block, held back because it could be the last one

    def write(self, data: bytes) -> None:
        """Add to the stream. Raises the exception of a failed step."""
        size = len(data)
        if size < self._missing:
            self._parts.append(data)
            self._missing -= size
            self._zeros = False
            return
        if size == BLOCK and not self._parts:  # nothing to cut or to copy
            self._pass_on(data)
            return
        zeros = data is ZEROS
        rest = memoryview(data)
        while len(rest) >= self._missing:
            block = ZEROS if zeros and self._zeros else b"".join((*self._parts, rest[: self._missing]))
            rest = rest[self._missing :]
            self._pass_on(block)
        if rest:
            self._parts.append(rest)
            self._missing -= len(rest)
            self._zeros = zeros

    def finish(self) -> None:
        """End the stream and wait until every step has processed every block. Raises the exception of a failed step."""
        last = [block for block in (self._block, b"".join(self._parts)) if block]
        self._parts, self._block = [], None
        if self._threads:
            for block in last:
                self._send(block)
            self.close()
            for thread in self._threads:
                thread.check()
            return
        for step in self._steps:
            for block in last:
                step(block)

    def close(self) -> None:
        """Process the queued blocks, except for steps that have failed, and end the threads. Idempotent."""
        for thread in self._threads:
            thread.end()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pass_on(self, block: bytes) -> None:
        """Hold back a full block, and pass the block held back before to the steps: it is not the last one."""
        if self._block is not None:
            if not self._threads:
                self._threads = [_StepThread(step) for step in self._steps]
            self._send(self._block)
        self._block = block
        self._parts = []
        self._missing = BLOCK
        self._zeros = True

    def _send(self, block: bytes) -> None:
        for thread in self._threads:
            thread.process(block)


class Aside:
    """One step that gets a stream in the pieces in which it comes, and does not delay who writes them.

    The step must not depend on how the stream is cut, as a digest does not. A thread of its own is started once there
    are more than a few small pieces. A context manager: leaving it ends the thread.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._pieces: list[bytes] = []
        self._size = 0
        self._thread: _StepThread[list[bytes]] | None = None

    def write(self, data: bytes) -> None:
        """Add to the stream. Raises the exception of the step, if it has failed."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _TOGETHER:
            if self._thread is None:
                self._thread = _StepThread(self._process)
            self._thread.process(self._pieces)
            self._pieces, self._size = [], 0

    def finish(self) -> None:
        """Wait until the step has processed everything. Raises the exception of the step, if it has failed."""
        self.close()
        if self._thread is not None:
            self._thread.check()
        self._process(self._pieces)
        self._pieces = []

    def close(self) -> None:
        """End the thread after what it was given. Idempotent."""
        if self._thread is not None:
            self._thread.end()

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _process(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._step(piece)


class _StepThread(Generic[T]):
    """The thread of one step, and its queue. If no more threads can be started, the caller's thread does the step."""

    def __init__(self, step: Callable[[T], object]) -> None:
        from queue import Queue  # imported only if threads are needed
        from threading import Thread

        self._step = step
        self._error: BaseException | None = None
        self._queue: Queue[T | None] = Queue(_QUEUED)
        self._thread: Thread | None = Thread(target=self._run, name="pipeline", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # clone(2) failed: a limit on processes, or no memory
            self._thread = None

    def process(self, block: T) -> None:
        """Have the step process a block. Raises the exception of the step, if it has failed."""
        if self._thread is None:
            self._step(block)
            return
        self.check()
        self._queue.put(block)

    def check(self) -> None:
        """Raise the exception of the step, if it failed."""
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Have the thread end after the queued blocks, and wait for it. Idempotent."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (block := self._queue.get()) is not None:
            if (
                self._error is None
            ):  # after an error the thread still empties the queue, so `write` does not wait forever
                try:
                    self._step(block)
                except BaseException as error:
                    self._error = error
