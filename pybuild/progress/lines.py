"""Assembles the output of parallel steps, which arrives in pieces, into whole lines."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.builder.events import StepOutput

_MAX_LINE = 1 << 20  # bytes; a longer line is split, which bounds the memory that a step without newlines needs
_IN_MEMORY = 1 << 18  # bytes per step; more goes to a temporary file
_CHUNK = 1 << 16


class OutputLines:
    """Splits the output of each step and stream into lines without their newlines."""

    def __init__(self) -> None:
        self._partial: dict[tuple[int, int], bytes] = {}

    def feed(self, event: StepOutput) -> list[bytes]:
        """The lines that this event completes."""
        key = (event.step.node, event.stream)
        *whole, rest = (self._partial.pop(key, b"") + event.data).split(b"\n")
        while len(rest) > _MAX_LINE:
            whole.append(rest[:_MAX_LINE])
            rest = rest[_MAX_LINE:]
        if rest:
            self._partial[key] = rest
        return whole

    def end(self, node: int) -> list[bytes]:
        """The unfinished lines of a step that has ended."""
        return [self._partial.pop(key) for key in sorted(self._partial) if key[0] == node]


def write_output(stream: TextIO, pieces: Iterable[bytes]) -> None:
    """Write pieces of whole lines: unchanged, or made harmless if the stream is a terminal."""
    terminal = stream.isatty()
    stream.flush()
    for piece in pieces:
        if terminal:
            from pybuild.progress.terminal_text import harmless_lines

            piece = harmless_lines(piece)
        stream.buffer.write(piece)
    stream.buffer.flush()


class BufferedOutput:
    """The output of running steps, kept until it is shown or dropped. Large output is on disk."""

    def __init__(self) -> None:
        self._lines = OutputLines()
        self._files: dict[int, IO[bytes]] = {}
        self._truncated: set[int] = set()  # steps whose output could not be kept entirely

    def add(self, event: StepOutput) -> None:
        """Keep the output of an event. If the disk is full, the output is truncated and the build continues."""
        self._write(event.step.node, self._lines.feed(event))

    def take(self, node: int) -> Iterator[bytes]:
        """The output of a step in pieces of whole lines; it is dropped afterwards."""
        self._write(node, self._lines.end(node))
        file = self._files.pop(node, None)
        if file is not None:
            with file:
                file.seek(0)
                while piece := file.read(_CHUNK) + file.readline():
                    yield piece
        if node in self._truncated:
            self._truncated.remove(node)
            yield b"[the rest of this output was lost: no space to keep it]\n"

    def drop(self, node: int) -> None:
        """Drop the output of a step."""
        self._lines.end(node)
        self._truncated.discard(node)
        if (file := self._files.pop(node, None)) is not None:
            file.close()

    def nodes(self) -> list[int]:
        """The steps that have output here."""
        return sorted(self._files)

    def _write(self, node: int, lines: list[bytes]) -> None:
        if not lines or node in self._truncated:
            return
        if node not in self._files:
            import tempfile  # a local import: cached steps write nothing

            self._files[node] = tempfile.SpooledTemporaryFile(_IN_MEMORY)
        try:
            self._files[node].write(b"".join(line + b"\n" for line in lines))
        except OSError:
            self._truncated.add(node)
