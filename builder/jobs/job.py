"""What a job is: work for a worker process, as a frozen value with a `run` that returns another one.

Jobs carry paths inside the store, and the results go back to the main process, which alone writes the tables.
A job that touches trees runs in the namespace of the steps; hashing, tar and compression need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.write import hash_contents, write_layer
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.write import FileContent, WrittenLayer

R_co = TypeVar("R_co", covariant=True)


class Job(Protocol[R_co]):
    """A frozen dataclass whose `run` does the work, in whatever worker."""

    @property
    def in_namespace(self) -> bool:
        """Whether the work touches files that belong to ids of the steps' namespace."""
        ...

    def run(self) -> R_co:
        """Do it. Raises BuildError, StoreError, OSError; the main process raises the same."""
        ...


@frozen
class Done:
    """There is nothing to tell."""


@frozen
class Written:
    """A layer was written: a blob, if one was wanted, and the toc that belongs to it, at the paths the job named."""

    diff_id: str  # "" and so on where no blob was wanted
    digest: str
    size: int  # of the blob, bytes
    content: str = ""  # of a COPY: digest of what it copies
    sockets: int = 0  # of a COPY: sockets that became empty files


@frozen
class Output:
    """Where a job puts a layer and how it is to be written."""

    toc: str
    blob: str  # "" where only the table of contents is wanted
    compression: str
    clamp: int | None


def write_output(entries: Iterable[Entry], content: FileContent, output: Output) -> Written:
    """Write a layer and its table of contents where `output` says."""
    if output.blob:
        return written_layer(write_files(entries, content, output))
    Toc.write(output.toc, hash_contents(entries, content, clamp=output.clamp))
    return Written("", "", 0)


def write_files(entries: Iterable[Entry], content: FileContent, output: Output) -> WrittenLayer:
    """As `write_output`, for who needs the entries as well."""
    with open(output.blob, "xb") as out:
        layer = write_layer(entries, content, out, Compression(output.compression), clamp=output.clamp)
    Toc.write(output.toc, layer.entries)
    return layer


def written_layer(layer: WrittenLayer, content: str = "", sockets: int = 0) -> Written:
    """What the main process needs to know of a layer."""
    return Written(str(layer.diff_id), str(layer.digest), layer.size, content, sockets)


def write_entries(entries: list[Entry], output: Output) -> Written:
    """Write a layer of entries without content, such as the directories of a WORKDIR."""
    return write_output(entries, _NoContent(), output)


class _NoContent:
    def chunks(self, entry: Entry) -> Iterator[bytes]:
        raise AssertionError(f"{entry.path!r} has content")
