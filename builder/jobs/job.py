"""A job: work for a worker process, as a frozen value whose `run` returns another frozen value.

A job holds paths in the store. The worker writes the files there and returns the result to the main process, which
alone writes the tables. A job that touches trees runs in the namespace of the steps; hashing, tar and compression need
none. workers/codec.py says which types the fields of both values can have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from pybuild.builder.jobs.progress import counted
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.write import hash_contents, write_layer
from pybuild.store.system.holes import create_sparse
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.store.formats.toc import Entry, Links
    from pybuild.store.layers.write import FileContent, WrittenLayer

R_co = TypeVar("R_co", covariant=True)


class Job(Protocol[R_co]):
    """A frozen dataclass whose `run` does the work in a worker."""

    @property
    def in_namespace(self) -> bool:
        """Whether the job touches files that belong to ids of the steps' namespace."""
        ...

    def run(self) -> R_co:
        """Do the job. Raises BuildError, StoreError, RemoteError, OSError.

        The main process then raises the same error, or BuildError in place of OSError.
        """
        ...


@frozen
class Done:
    """The result of a job that has nothing to return."""


@frozen
class Written:
    """A layer was written to the paths of an `Output`. Without a blob `diff_id` and `digest` are "" and `size` is 0."""

    diff_id: str
    digest: str
    size: int  # bytes of the blob
    content: str = ""  # COPY only: digest of the copied files
    sockets: int = 0  # COPY only: the number of sockets, which became empty files
    sources: str = ""  # COPY only: digest of the sources alone, if it was asked for and they give one


@frozen
class Output:
    """The paths that a job writes a layer to, and the form of the layer."""

    toc: str
    blob: str  # "" to write the table of contents only
    compression: str  # a value of Compression
    clamp: int | None  # store/formats/clamp.py


def write_output(entries: Iterable[Entry], content: FileContent, output: Output, links: Links = ()) -> Written:
    """Write a layer and its table of contents where `output` says. `links` are its links across layers."""
    if output.blob:
        return written_layer(write_files(entries, content, output, links))
    entries = list(entries)
    Toc.write(output.toc, hash_contents(entries, counted(content, entries), clamp=output.clamp), links)
    return Written("", "", 0)


def write_files(entries: Iterable[Entry], content: FileContent, output: Output, links: Links = ()) -> WrittenLayer:
    """Write a layer with a blob and its table of contents where `output` says. The result has the layer's entries."""
    entries = list(entries)
    with create_sparse(output.blob) as out:
        layer = write_layer(
            entries, counted(content, entries), out, Compression(output.compression), clamp=output.clamp
        )
    Toc.write(output.toc, layer.entries, links)
    return layer


def written_layer(layer: WrittenLayer, content: str = "", sockets: int = 0, sources: str = "") -> Written:
    """A layer that was written, without its entries."""
    return Written(str(layer.diff_id), str(layer.digest), layer.size, content, sockets, sources)


def write_entries(entries: list[Entry], output: Output) -> Written:
    """Write a layer whose entries have no content, such as the directories of a WORKDIR."""
    return write_output(entries, _NoContent(), output)


class _NoContent:
    def chunks(self, entry: Entry) -> Iterator[bytes]:
        raise AssertionError(f"{entry.path!r} has content")
