"""The jobs that pack tables of contents for other machines, and read what other machines have packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.builder.jobs.job import Output, Written, write_files, written_layer
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats import tar
from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.claimed_table import claimed_digest, read_claimed_table
from pybuild.store.layers.view import View
from pybuild.store.system.files import chunks_of, file_size
from pybuild.values import frozen
from pybuild.values.limits import TABLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator


@frozen
class PackedFile:
    """A table of contents, and its name in the pack."""

    name: str
    path: str


@frozen
class PackTables:
    """Write tables of contents into a tar, as files without dates: the same tables always give the same bytes."""

    in_namespace: ClassVar[bool] = False
    tables: tuple[PackedFile, ...]
    output: Output

    def run(self) -> Written:
        entries = [
            Entry(one.name.encode(), Kind.FILE, 0o644, size=file_size(one.path))
            for one in sorted(self.tables, key=lambda one: sort_key(one.name.encode()))
        ]
        content = _Files({one.name.encode(): one.path for one in self.tables})
        return written_layer(write_files(entries, content, self.output))


class _Files:
    def __init__(self, paths: dict[bytes, str]) -> None:
        self._paths = paths

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        with open(self._paths[entry.path], "rb") as file:
            yield from chunks_of(file.fileno())


@frozen
class ReadClaimedTable:
    """What was said of a layer: the digest of it (store/layers/claimed_table.py)."""

    digest: str


@frozen
class ReadTable:
    """Take a table of contents out of a pack, check it, and write what it says to `path`.

    `below` are the paths of the tables of contents of the layers under it, topmost first. Raises NotFound if the pack lacks
    it, DigestMismatch if the pack is damaged, InvalidImage or UnsafePath if no layer can have such a table.
    """

    in_namespace: ClassVar[bool] = False
    pack: BlobPlace
    name: str
    below: tuple[str, ...]
    path: str

    def run(self) -> ReadClaimedTable:
        data = self._packed()
        entries = read_claimed_table(
            Toc(data, "table of contents of a cache"), View([Toc.open(path) for path in self.below])
        )
        Toc.write(self.path, entries)
        return ReadClaimedTable(claimed_digest(entries))

    def _packed(self) -> bytes:
        found: bytes | None = None
        stream = self.pack.open(hashed=False)
        reader = tar.TarReader(stream)
        for member in reader:
            if member.name == self.name.encode() and member.type == tar.REGULAR and found is None:
                if member.size > TABLE_BYTES.value:
                    raise TABLE_BYTES.exceeded(InvalidImage, "a table of contents exceeds the limit of {}")
                found = b"".join(reader.data())
        stream.finish()  # the digest of the pack is checked at its end
        if found is None:
            raise NotFound("a cache lacks a table of contents that its index names")
        return found
