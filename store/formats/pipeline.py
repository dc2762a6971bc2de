"""A stream in blocks of one size, worked on by several steps at the same time.

What arrives in pieces of any size goes on as blocks of BLOCK bytes (the last one is shorter): a compressor's output may
depend on how its input is cut, and has to be a function of the content alone. From the second block on each step has a
thread of its own, which takes the blocks in their order; the library calls that matter (hashing, compression, write(2))
run without the interpreter's lock. A stream of one block is worked on where it is made, without threads.

Threads share nothing but their queue. When `finish` or `close` has returned there are none left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import Queue
    from threading import Thread

    Step = Callable[[bytes], object]

BLOCK = 1 << 20
_WAITING = 4  # blocks that wait for one step, before who makes them has to wait


class Pipeline:
    """Cuts a stream into blocks and gives each to every step. A context manager; leaving it ends the threads."""

    def __init__(self, *steps: Step) -> None:
        """A step is called with one block after the other, from one thread at a time."""
        self._steps = steps
        self._lanes: list[_Lane] = []
        self._parts: list[bytes | memoryview] = []
        self._room = BLOCK  # bytes that the block at hand lacks
        self._block: bytes | None = None  # one that is full, of which it isn't known whether it is the last

    def write(self, data: bytes) -> None:
        """Add to the stream; raises what a step has raised."""
        size = len(data)
        if size < self._room:
            self._parts.append(data)
            self._room -= size
            return
        if size == BLOCK and not self._parts:  # nothing to cut, nothing to copy
            self._pass_on(data)
            return
        rest = memoryview(data)
        while len(rest) >= self._room:
            self._parts.append(rest[: self._room])
            rest = rest[self._room :]
            self._pass_on(b"".join(self._parts))
        if rest:
            self._parts.append(rest)
            self._room -= len(rest)

    def finish(self) -> None:
        """End the stream: when this returns, all steps have had all blocks. Raises what a step has raised."""
        last = [block for block in (self._block, b"".join(self._parts)) if block]
        self._parts, self._block = [], None
        if self._lanes:
            for block in last:
                self._give(block)
            self.close()
            for lane in self._lanes:
                lane.check()
            return
        for step in self._steps:
            for block in last:
                step(block)

    def close(self) -> None:
        """End the threads; what waits for them is worked on first, unless a step has failed. Idempotent."""
        for lane in self._lanes:
            lane.end()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pass_on(self, block: bytes) -> None:
        """A block is full: the one before it is not the last."""
        if self._block is not None:
            if not self._lanes:
                self._lanes = [_Lane(step) for step in self._steps]
            self._give(self._block)
        self._block = block
        self._parts = []
        self._room = BLOCK

    def _give(self, block: bytes) -> None:
        for lane in self._lanes:
            lane.check()
            lane.queue.put(block)


class _Lane:
    """One step with its thread."""

    def __init__(self, step: Step) -> None:
        from queue import Queue  # not before there is something to do for a thread
        from threading import Thread

        self._step = step
        self._error: BaseException | None = None
        self.queue: Queue[bytes | None] = Queue(_WAITING)
        self._thread: Thread | None = Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the step has raised."""
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Let the thread come to its end, and wait for that. Idempotent."""
        if self._thread is not None:
            self.queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (block := self.queue.get()) is not None:
            if self._error is None:  # else the rest is taken, so that nobody waits for room
                try:
                    self._step(block)
                except BaseException as error:
                    self._error = error
