"""Exporting a part of a root filesystem as files of the user, to a path that does not exist yet.

The rest is as in directory.py: nothing outside of the destination is followed or written, files belong to the user,
set-id bits, attributes and devices are left out. A failure leaves what was written before it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pybuild.store.errors import StoreError
from pybuild.store.exporting.directory import FileWriter, LocalReport
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.view import LinkLoop
from pybuild.store.system.disk_full import OUTPUT_HINT, no_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pybuild.store.layers.view import View


class PartContents(Protocol):
    """The contents of files. A layer is given by its position in the view."""

    def announce(self, wanted: Iterable[tuple[int, Entry]]) -> None:
        """Prepare to read these files."""
        ...

    def chunks(self, layer: int, entry: Entry) -> Iterator[bytes]:
        """The content of a file, in chunks."""
        ...


def write_part(view: View, path: bytes, contents: PartContents, destination: str) -> LocalReport:
    """Write the file or directory at `path` of the view as `destination`. Links are followed inside of the view.

    Raises StoreError if nothing is at the path, if the destination exists, or if its parent directory does not exist.
    """
    try:
        found = view.resolve(path)
    except LinkLoop:
        raise StoreError("too many levels of symbolic links") from None
    top = view.lookup(found)
    if top is None:
        raise StoreError(f"there is no {show(b'/' + found)}")
    if top.kind is Kind.DIRECTORY:
        return _write_directory(view, top, contents, destination)
    parent, name = os.path.split(destination)
    root = _open(parent, parent)
    writer = FileWriter(root, parent, replace=False)
    try:
        return _write(writer, view, [top], lambda _: os.fsencode(name), contents)
    except OSError as error:
        raise no_space(error, destination, hint=OUTPUT_HINT) from error
    finally:
        writer.close()
        os.close(root)


def _write_directory(view: View, top: Entry, contents: PartContents, destination: str) -> LocalReport:
    try:
        os.mkdir(destination, 0o700)
    except FileExistsError:
        raise StoreError(f"{destination}: exists already") from None
    root = _open(destination, destination)
    writer = FileWriter(root, destination, replace=False)
    start = len(top.path) + 1 if top.path else 0
    try:
        report = _write(writer, view, view.walk(top.path), lambda path: path[start:], contents)
        os.fchmod(root, top.mode & 0o1777)
        os.utime(root, (top.mtime, top.mtime))
        return report
    except OSError as error:
        raise no_space(error, destination, hint=OUTPUT_HINT) from error
    finally:
        writer.close()
        os.close(root)


def _write(
    writer: FileWriter, view: View, entries: Iterable[Entry], renamed: Callable[[bytes], bytes], contents: PartContents
) -> LocalReport:
    position = {id(toc): number for number, toc in enumerate(view.layers)}
    first: dict[object, bytes] = {}  # the first name, in this part, of each file
    rows: list[Entry] = []
    files: list[tuple[int, Entry, Entry]] = []
    for entry in entries:
        located = view.locate(entry.path)
        assert located is not None
        layer = position[id(located[0])]
        name = renamed(entry.path)
        same = name if entry.kind is Kind.DIRECTORY else first.setdefault(view.file_of(*located), name)
        row = entry._replace(path=name, hardlink=b"" if same == name else same)
        rows.append(row)
        if row.kind is Kind.FILE and row.size and not row.hardlink:
            files.append((layer, entry, row))
    contents.announce((layer, entry) for layer, entry, _ in files)
    return writer.write(rows, ((row, contents.chunks(layer, entry)) for layer, entry, row in files))


def _open(directory: str, shown: str) -> int:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{shown}: {error.strerror}") from error
