"""The work that worker processes do, as data: each job is a frozen value with a `run` that returns another one.

Jobs carry paths inside the store, and the results go back to the main process, which alone writes the tables.
A job that touches trees runs in the namespace; hashing, tar and compression need none.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from builder.contents import BlobPlace, LayerPlace, StoredContents, view_of
from builder.context import ContextTree
from builder.copyfiles import CopyRequest, Planned, changed, content_fields, plan_copy, with_digests
from builder.filetree import ViewTree
from builder.workers.probe import Probe
from parser import IgnoreFile
from store.changes import TreeContent, changes
from store.changeset import TREE
from store.compression import Compression, Compressor
from store.files import remove_tree
from store.layers import write_layer
from store.toc import Entry, Kind, Toc, encode
from store.trees import make_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.filetree import FileTree
    from store.layers import Content

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Done:
    """There is nothing to tell."""


@dataclass(frozen=True, slots=True)
class Written:
    """A layer was written: a blob and the toc that belongs to it, at the paths the job named."""

    diff_id: str
    digest: str
    size: int  # of the blob, bytes
    content: str = ""  # of a COPY: digest of what it copies
    sockets: int = 0  # of a COPY: sockets that became empty files


@dataclass(frozen=True, slots=True)
class Output:
    """Where a job puts a layer and how it is to be written."""

    toc: str
    blob: str
    compression: str
    clamp: int | None


@dataclass(frozen=True, slots=True)
class PrepareStep:
    """Make the directories of a RUN: the upper one with the root's own mode and owner, and the mount points."""

    in_namespace: ClassVar[bool] = True
    upper: str
    work: str
    upper_toc: str  # holds the root's row only
    scaffold: str
    scaffold_toc: str

    def run(self) -> Done:
        for directory, toc in ((self.upper, self.upper_toc), (self.scaffold, self.scaffold_toc)):
            os.mkdir(directory, 0o700)
            fd = os.open(directory, _DIRECTORY)
            try:
                make_tree(Toc.open(toc), _Nothing(), fd)
            finally:
                os.close(fd)
        os.mkdir(self.work, 0o700)
        return Done()


@dataclass(frozen=True, slots=True)
class CommitStep:
    """Turn what a RUN changed into a layer."""

    in_namespace: ClassVar[bool] = True
    upper: str
    below: tuple[LayerPlace, ...]
    scaffold_toc: str
    output: Output

    def run(self) -> Written:
        fd = os.open(self.upper, _DIRECTORY)
        try:
            entries = changes(fd, view_of(self.below), Toc.open(self.scaffold_toc))
            return _write(entries, TreeContent(fd), self.output)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class MakeTree:
    """Unpack a layer into a directory that can be a lower layer: `fs` in the new `directory`."""

    in_namespace: ClassVar[bool] = True
    toc: str
    blob: BlobPlace
    directory: str

    def run(self) -> Done:
        os.mkdir(self.directory, 0o700)
        os.mkdir(f"{self.directory}/{TREE}", 0o755)
        fd = os.open(f"{self.directory}/{TREE}", _DIRECTORY)
        try:
            tar = self.blob.open()
            make_tree(Toc.open(self.toc), tar, fd)
            tar.diff_id()  # to the end: only there the digest is checked
        finally:
            os.close(fd)
        return Done()


@dataclass(frozen=True, slots=True)
class WriteTar:
    """Make the tar of a changeset, from its tree or from a tar with other times."""

    layer: LayerPlace
    spool: str
    output: Output

    @property
    def in_namespace(self) -> bool:
        return self.layer.tree is not None

    def run(self) -> Written:
        entries = list(Toc.open(self.layer.toc))
        with StoredContents([self.layer], self.spool) as contents:
            contents.announce((0, entry) for entry in entries if entry.kind is Kind.FILE and not entry.hardlink)
            return _write(entries, _OneLayer(contents), self.output)


@dataclass(frozen=True, slots=True)
class Recompress:
    """The same tar, compressed in another way."""

    in_namespace: ClassVar[bool] = False
    blob: BlobPlace
    output: str
    compression: str

    def run(self) -> Written:
        source = self.blob.open()
        with open(self.output, "xb") as out:
            compressor = Compressor(out, Compression(self.compression))
            while data := source.read(1 << 20):
                compressor.write(data)
            digest = compressor.finish()
        return Written(str(source.diff_id()), str(digest), compressor.size)


@dataclass(frozen=True, slots=True)
class ContextSource:
    """Copy from a context directory; `ignore` is the text of its ignore file."""

    root: str
    ignore: str | None


@dataclass(frozen=True, slots=True)
class CopyFiles:
    """A COPY: from a context, or from the layers of another stage, onto the layers below."""

    request: CopyRequest
    context: ContextSource | None
    layers: tuple[LayerPlace, ...]  # of the source stage; empty where there is a context
    below: tuple[LayerPlace, ...]
    spool: str
    output: Output

    @property
    def in_namespace(self) -> bool:
        """Trees may hold files that only their owner, an id of the namespace, may read."""
        return any(layer.tree is not None for layer in self.layers)

    def content(self) -> str:
        """The digest of what would be copied, without writing anything. Files of a context are read for it."""
        below = view_of(self.below)
        with _Source(self) as source:
            return _content_digest(with_digests(plan_copy(self.request, source.tree, below), source.tree))

    def run(self) -> Written:
        below = view_of(self.below)
        with _Source(self) as source:
            planned = plan_copy(self.request, source.tree, below)
            kept = changed(planned, source.tree, below)
            source.announce(kept)
            written = _write([item.entry for item in kept], _Sources(source.tree, kept), self.output)
            digests = {entry.path: entry.sha256 for entry in Toc.open(self.output.toc)}
            known = [
                Planned(item.entry._replace(sha256=digests.get(item.entry.path, b"")), item.source) for item in planned
            ]
            content = _content_digest(with_digests(known, source.tree))
            return Written(written.diff_id, written.digest, written.size, content, source.sockets)


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of a small file, as hexadecimal digits."""

    hex: str


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Read a small file of a root filesystem. `layer` is counted from the topmost, `path` is as in its toc."""

    layers: tuple[LayerPlace, ...]
    layer: int
    path: str
    spool: str

    @property
    def in_namespace(self) -> bool:
        return self.layers[self.layer].tree is not None

    def run(self) -> FileContent:
        entry = Toc.open(self.layers[self.layer].toc).find(os.fsencode(self.path))
        assert entry is not None
        with StoredContents(self.layers, self.spool) as contents:
            return FileContent(b"".join(contents.chunks(self.layer, entry)).hex())


@dataclass(frozen=True, slots=True)
class RemoveTree:
    """Remove a directory whose files may belong to ids of the namespace."""

    in_namespace: ClassVar[bool] = True
    parent: str
    name: str

    def run(self) -> Done:
        fd = os.open(self.parent, _DIRECTORY)
        try:
            remove_tree(fd, self.name)
        finally:
            os.close(fd)
        return Done()


class Job(Protocol[R_co]):
    """A frozen dataclass whose `run` does the work, in whatever worker."""

    @property
    def in_namespace(self) -> bool:
        """Whether the work touches files that belong to ids of the steps' namespace."""
        ...

    def run(self) -> R_co:
        """Do it. Raises BuildError, StoreError, OSError; the main process raises the same."""
        ...


JOBS: tuple[type[Job[object]], ...] = (
    PrepareStep,
    CommitStep,
    MakeTree,
    WriteTar,
    Recompress,
    CopyFiles,
    ReadFile,
    RemoveTree,
    Probe,
)


def write_entries(entries: list[Entry], output: Output) -> Written:
    """Write a layer of entries without content, such as the directories of a WORKDIR."""
    return _write(entries, _NoContent(), output)


def _write(entries: Iterable[Entry], content: Content, output: Output) -> Written:
    with open(output.blob, "xb") as out:
        layer = write_layer(entries, content, out, Compression(output.compression), clamp=output.clamp)
    with open(output.toc, "xb") as file:
        file.write(encode(layer.entries))
    return Written(str(layer.diff_id), str(layer.digest), layer.size)


def _content_digest(planned: list[Planned]) -> str:
    hasher = hashlib.sha256()
    for fields in content_fields(planned):
        text = json.dumps(fields, default=lambda value: value.hex(), separators=(",", ":"))
        hasher.update(text.encode("ascii") + b"\n")
    return hasher.hexdigest()


class _Source:
    """The tree that a COPY reads, open."""

    def __init__(self, job: CopyFiles) -> None:
        self._context: ContextTree | None = None
        self._contents: StoredContents | None = None
        self._view = None
        self.tree: FileTree
        if job.context is not None:
            ignore = None if job.context.ignore is None else IgnoreFile.parse(job.context.ignore)
            self.tree = self._context = ContextTree(job.context.root, ignore)
        else:
            self._view = view_of(job.layers)
            self._contents = StoredContents(job.layers, job.spool)
            self.tree = ViewTree(self._view, self._contents)

    @property
    def sockets(self) -> int:
        return self._context.sockets if self._context is not None else 0

    def announce(self, items: list[Planned]) -> None:
        if self._contents is None or self._view is None:
            return
        wanted = []
        for entry, source in items:
            if entry.kind is Kind.FILE and not entry.hardlink and source is not None:
                located = self._view.locate(source.path)
                assert located is not None
                wanted.append((self._view.layers.index(located[0]), located[1]))
        self._contents.announce(wanted)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._context is not None:
            self._context.close()
        if self._contents is not None:
            self._contents.close()


class _Sources:
    """Content of planned entries, from where each was planned to come."""

    def __init__(self, tree: FileTree, items: list[Planned]) -> None:
        self._tree = tree
        self._sources = {item.entry.path: item.source for item in items}

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        source = self._sources[entry.path]
        assert source is not None, entry.path
        return self._tree.chunks(source)


class _OneLayer:
    def __init__(self, contents: StoredContents) -> None:
        self._contents = contents

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        return self._contents.chunks(0, entry)


class _NoContent:
    def chunks(self, entry: Entry) -> Iterator[bytes]:
        raise AssertionError(f"{entry.path!r} has content")


class _Nothing:
    """A tar of no content."""

    def read(self, _size: int, /) -> bytes:
        return b""
