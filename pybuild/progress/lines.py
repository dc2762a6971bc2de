"""Whole lines out of what steps write, which comes in pieces, of several steps by turns."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.events import StepOutput

_LONGEST = 1 << 20  # bytes; a longer line is told in pieces, so that what never ends a line needs no memory
_IN_MEMORY = 1 << 18  # bytes a step
_CHUNK = 1 << 16


class OutputLines:
    """Takes output, gives lines without their ends, of each step and stream for itself."""

    def __init__(self) -> None:
        self._partial: dict[tuple[int, int], bytes] = {}

    def feed(self, event: StepOutput) -> list[bytes]:
        """The lines that this output completes."""
        key = (event.step.node, event.stream)
        *whole, rest = (self._partial.pop(key, b"") + event.data).split(b"\n")
        while len(rest) > _LONGEST:
            whole.append(rest[:_LONGEST])
            rest = rest[_LONGEST:]
        if rest:
            self._partial[key] = rest
        return whole

    def end(self, node: int) -> list[bytes]:
        """What a step that has ended left without an end of line."""
        return [self._partial.pop(key) for key in sorted(self._partial) if key[0] == node]


class HeldOutput:
    """The output of running steps, kept until it is known who wants to see it. On disk where it is much."""

    def __init__(self) -> None:
        self._lines = OutputLines()
        self._files: dict[int, IO[bytes]] = {}
        self._cut: set[int] = set()

    def add(self, event: StepOutput) -> None:
        """Keep it. A disk without space for it does not disturb the build."""
        self._write(event.step.node, self._lines.feed(event))

    def take(self, node: int) -> Iterator[bytes]:
        """All that a step wrote, as pieces that end with a line; forgotten afterwards."""
        self._write(node, self._lines.end(node))
        file = self._files.pop(node, None)
        if file is not None:
            with file:
                file.seek(0)
                while piece := file.read(_CHUNK) + file.readline():
                    yield piece
        if node in self._cut:
            self._cut.remove(node)
            yield b"[what followed was not kept: no space]\n"

    def drop(self, node: int) -> None:
        """Forget what a step wrote."""
        self._lines.end(node)
        self._cut.discard(node)
        if (file := self._files.pop(node, None)) is not None:
            file.close()

    def nodes(self) -> list[int]:
        """The steps of which something is kept."""
        return sorted(self._files)

    def _write(self, node: int, lines: list[bytes]) -> None:
        if not lines or node in self._cut:
            return
        if node not in self._files:
            import tempfile  # nothing that is cached writes lines

            self._files[node] = tempfile.SpooledTemporaryFile(_IN_MEMORY)
        try:
            self._files[node].write(b"".join(line + b"\n" for line in lines))
        except OSError:
            self._cut.add(node)
