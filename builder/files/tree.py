"""The sources of COPY and ADD: a context, the root filesystem of another stage, a download, or a heredoc.

All have one interface: entries as in a table of contents, with paths relative to the root. Symbolic links never lead
outside of the root.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.system.files import chunks_of
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pybuild.store.layers.view import View


class FileTree(Protocol):
    """A tree of files: its entries, and the content of its files."""

    @property
    def allows_devices(self) -> bool:
        """Whether device nodes may be copied from this tree."""
        ...

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at a path, without following links; None if the path does not exist."""
        ...

    def readdir(self, path: bytes) -> list[Entry]:
        """The entries in a directory, sorted by name."""
        ...

    def identity(self, entry: Entry) -> Hashable | None:
        """A value that all hard links of a file share; None for a file that has one name."""
        ...

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file."""
        ...


class ViewTree:
    """The root filesystem of a chain of layers. `contents` reads the files."""

    allows_devices = True

    def __init__(self, view: View, contents: LayerContents) -> None:
        self._view = view
        self._contents = contents

    def lookup(self, path: bytes) -> Entry | None:
        return self._view.lookup(path)

    def readdir(self, path: bytes) -> list[Entry]:
        return self._view.readdir(path)

    def identity(self, entry: Entry) -> Hashable | None:
        located = self._view.locate(entry.path)
        return None if located is None else self._view.file_of(*located)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        located = self._view.locate(entry.path)
        assert located is not None
        return self._contents.chunks(self._view.layers.index(located[0]), entry)


class LayerContents(Protocol):
    """Reads files of layers. `layer` is an index in `View.layers`, where the topmost layer is the first."""

    def chunks(self, layer: int, entry: Entry) -> Iterator[bytes]: ...


@frozen
class FetchedSource:
    """A downloaded source of an ADD, at `position` in the sources of the step: a file that is copied as `name`.

    If it has a `toc`, it is a directory instead: the root of the tar at `path`.
    """

    position: int
    path: str
    name: str
    mtime: int
    toc: str | None = None


class FetchedFile:
    """A downloaded file. As in BuildKit, its mode is 0600 and its owner is root."""

    allows_devices = False

    def __init__(self, source: FetchedSource) -> None:
        self._source = source
        self._name = source.name.encode("utf-8", "surrogateescape")

    def lookup(self, path: bytes) -> Entry | None:
        if not path:
            return Entry(b"", Kind.DIRECTORY, 0o755, mtime=self._source.mtime)
        if path != self._name:
            return None
        size = os.stat(self._source.path).st_size
        return Entry(path, Kind.FILE, 0o600, mtime=self._source.mtime, size=size)

    def readdir(self, path: bytes) -> list[Entry]:
        return [entry for entry in (self.lookup(self._name),) if entry is not None] if not path else []

    def identity(self, entry: Entry) -> Hashable | None:
        return None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        with open(self._source.path, "rb", buffering=0) as file:
            yield from chunks_of(file.fileno())


@frozen
class InlineFile:
    """A heredoc: the name of its delimiter, and its text, in which bytes that are not UTF-8 are surrogates."""

    name: str
    text: str

    @property
    def data(self) -> bytes:
        return self.text.encode("utf-8", "surrogateescape")


class InlineTree:
    """The heredocs of an instruction: files in one directory, mode 0644, owned by root, in the order of the recipe."""

    allows_devices = False

    def __init__(self, files: Iterable[InlineFile], time: int) -> None:
        self._data = {file.name.encode("utf-8", "surrogateescape"): file.data for file in files}
        self._time = time

    def lookup(self, path: bytes) -> Entry | None:
        if not path:
            return Entry(b"", Kind.DIRECTORY, 0o755, mtime=self._time)
        data = self._data.get(path)
        return None if data is None else Entry(path, Kind.FILE, 0o644, mtime=self._time, size=len(data))

    def readdir(self, path: bytes) -> list[Entry]:
        return [entry for name in self._data if (entry := self.lookup(name)) is not None] if not path else []

    def identity(self, entry: Entry) -> Hashable | None:
        return None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        yield self._data[entry.path]
