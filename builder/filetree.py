"""Where COPY takes its files from: a context directory, or the root filesystem of another stage.

Both look the same to the planner: rows as in a table of contents, paths relative to the root, symbolic links never
leaving it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from store.toc import Entry
    from store.view import View


class FileTree(Protocol):
    """A tree of files that can be asked, and whose files can be read."""

    @property
    def gives_devices(self) -> bool:
        """Whether device nodes may be copied from here."""
        ...

    def lookup(self, path: bytes) -> Entry | None:
        """The row at a path, no link followed; None where there is nothing."""
        ...

    def readdir(self, path: bytes) -> list[Entry]:
        """The rows in a directory, sorted by name."""
        ...

    def identity(self, entry: Entry) -> Hashable | None:
        """What further names of the same file have in common; None for a file of one name."""
        ...

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file."""
        ...


class ViewTree:
    """The root filesystem that layers make. Where content is, `contents` knows."""

    gives_devices = True

    def __init__(self, view: View, contents: Contents) -> None:
        self._view = view
        self._contents = contents

    def lookup(self, path: bytes) -> Entry | None:
        return self._view.lookup(path)

    def readdir(self, path: bytes) -> list[Entry]:
        return self._view.readdir(path)

    def identity(self, entry: Entry) -> Hashable | None:
        located = self._view.locate(entry.path)
        if located is None:
            return None
        return (id(located[0]), entry.hardlink or entry.path)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        located = self._view.locate(entry.path)
        assert located is not None
        return self._contents.chunks(self._view.layers.index(located[0]), entry)


class Contents(Protocol):
    """Content of files by the layer they are in, counted from the topmost."""

    def chunks(self, layer: int, entry: Entry) -> Iterator[bytes]: ...
