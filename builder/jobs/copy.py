"""The job of a COPY: find the files to copy, leave out those that the image already has, write the rest as a layer."""

from __future__ import annotations

import gc
import hashlib
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import CopyError
from pybuild.builder.files.context_source import ContextSource, TarTree
from pybuild.builder.files.copy import CopyRequest, PlannedEntry, plan_entries
from pybuild.builder.files.copy_layer import changed, content_lines, digests_of, links_across, with_digests
from pybuild.builder.files.layer_contents import REBUILD_HINT, LayerPlace, StoredContents, check_content, view_of
from pybuild.builder.files.spool import Spool
from pybuild.builder.files.tree import FetchedFile, FetchedSource, ViewTree
from pybuild.builder.jobs.job import Output, Written, write_files, written_layer
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Kind
from pybuild.store.formats.windows_layer import with_hives
from pybuild.store.layers.view import View
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.files.context_directory import ContextTree
    from pybuild.builder.files.tree import FileTree
    from pybuild.store.formats.toc import Entry


@frozen
class CopyFiles:
    """A COPY from a context or from the layers of another stage, onto the layers `below`."""

    request: CopyRequest
    context: ContextSource | None
    layers: tuple[LayerPlace, ...]  # of the source stage; empty if there is a context
    below: tuple[LayerPlace, ...]
    spool: str
    output: Output
    fetched: tuple[FetchedSource, ...] = ()
    with_sources: bool = False  # whether `run` also returns what `sources` would
    for_windows: bool = False  # whether the layer is one of Windows

    @property
    def in_namespace(self) -> bool:
        """Whether the job reads a tree: maybe only the owner of its files, an id of the namespace, can read them."""
        return any(layer.tree is not None for layer in self.layers)

    def content(self) -> str:
        """The digest of the files to copy. This reads the changed files of a context, and writes nothing."""
        return _content_digest(*self._plan())

    def sources(self) -> str:
        """The digest of the sources alone, wherever they are copied to. The layers below do not matter.

        Reads the changed files of a context, and writes nothing. Raises CopyError as `content` does.
        """
        with _without_gc(), _Source(self) as source:
            planned = self._plan_alone(source)
            digests = digests_of(planned)
            source.learn(planned, digests)
            return _sources_digest(planned, digests)

    def _plan_alone(self, source: _Source) -> list[PlannedEntry]:
        """The entries to copy, as if they were copied to an empty root filesystem, with their own owners."""
        return plan_entries(replace(self.request, owner=None), source.tree, View([]), None, source.fetched)

    def _written_sources(self, source: _Source, planned: list[PlannedEntry], digests: dict[bytes, bytes]) -> str:
        """`sources` of the files that were copied; "" if nothing can be said."""
        if not self.with_sources:
            return ""
        found = {
            (id(item.tree), item.source.path): digests[item.entry.path]
            for item in planned
            if item.source is not None and item.entry.path in digests
        }
        try:
            alone = self._plan_alone(source)
        except CopyError:
            return ""  # the files fit what lies below, and would not fit an empty root filesystem
        places = {item.entry.path: (id(item.tree), item.source.path) for item in alone if item.source is not None}
        return _sources_digest(
            alone, digests_of(alone, {path: found[place] for path, place in places.items() if place in found})
        )

    def entries_to_copy(self) -> list[Entry]:
        """The entries that the digest of `content` is made of."""
        return [item.entry for item in with_digests(*self._plan())]

    def _plan(self) -> tuple[list[PlannedEntry], dict[bytes, bytes]]:
        """The entries to copy, and the digests of the files among them."""
        below = view_of(self.below)
        with _without_gc(), _Source(self) as source:
            planned = plan_entries(self.request, source.tree, below, None, source.fetched)
            digests = digests_of(planned)
            source.learn(planned, digests)
            return planned, digests

    def run(self) -> Written:
        below = view_of(self.below)
        with _Source(self) as source, Spool(f"{self.spool}.archives") as spool:
            planned = plan_entries(self.request, source.tree, below, spool, source.fetched)
            new = changed(planned, below)
            source.announce(new)
            entries = [item.entry for item in new]
            if self.for_windows:
                entries = with_hives(entries)
            try:
                layer = write_files(entries, _PlannedContent(new), self.output, links_across(planned, new))
            except InvalidImage as error:
                if not self.layers:
                    raise
                raise InvalidImage(f"a file of the other stage is damaged: {error}", hint=REBUILD_HINT) from None
            if self.layers:
                check_content(entries, layer.entries, "the other stage")
            digests = digests_of(planned, {entry.path: entry.sha256 for entry in layer.entries})
            source.learn(planned, digests)
            content, sources = _content_digest(planned, digests), self._written_sources(source, planned, digests)
            return written_layer(layer, content, source.sockets(planned), sources)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Stop the garbage collector: the block makes values by the hundred thousand, and no reference cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _content_digest(planned: list[PlannedEntry], digests: dict[bytes, bytes]) -> str:
    hasher = hashlib.sha256()
    for line in content_lines(planned, digests):
        hasher.update(line)
    return hasher.hexdigest()


def _sources_digest(planned: list[PlannedEntry], digests: dict[bytes, bytes]) -> str:
    """The digest of entries and of the paths that they have in their sources."""
    hasher = hashlib.sha256()
    for line, item in zip(content_lines(planned, digests), planned, strict=True):
        hasher.update(line)
        hasher.update(b"" if item.source is None else item.source.path + b"\0")
    return hasher.hexdigest()


class _Source:
    """The open source of a COPY. A context manager that closes it."""

    def __init__(self, job: CopyFiles) -> None:
        self._context: ContextTree | TarTree | None = None
        self._scratch = f"{job.spool}.memo"
        self._contents: StoredContents | None = None
        self._view = None
        self.tree: FileTree
        if job.context is not None:
            self.tree = self._context = job.context.open()
        else:
            self._view = view_of(job.layers)
            self._contents = StoredContents(job.layers, job.spool)
            self.tree = ViewTree(self._view, self._contents)
        self._tars: list[TarTree] = []
        self.fetched = {item.position: (self._fetched(item), os.fsencode(item.name)) for item in job.fetched}

    def _fetched(self, item: FetchedSource) -> FileTree:
        if item.toc is None:
            return FetchedFile(item)
        self._tars.append(TarTree(item.path, item.toc))
        return self._tars[-1]

    def sockets(self, planned: list[PlannedEntry]) -> int:
        """The number of copied files that are sockets in the context."""
        if self._context is None:
            return 0
        sources = (item.source for item in planned if item.tree is self._context)
        return sum(source is not None and self._context.is_socket(source) for source in sources)

    def learn(self, planned: list[PlannedEntry], digests: dict[bytes, bytes]) -> None:
        """Save the digests of the context's files that were read, for the next build."""
        context = self._context
        if context is None:
            return
        context.learn(
            (source, digests[entry.path])
            for entry, source, tree in planned
            if tree is context and source is not None and not entry.sha256 and entry.path in digests
        )
        context.save_memo(self._scratch)

    def announce(self, items: list[PlannedEntry]) -> None:
        """Tell StoredContents which files will be read, if the source is another stage."""
        if self._contents is None or self._view is None:
            return
        wanted = []
        for entry, source, tree in items:
            if entry.kind is Kind.FILE and not entry.hardlink and source is not None and tree is self.tree:
                located = self._view.locate(source.path)
                assert located is not None
                wanted.append((self._view.layers.index(located[0]), located[1]))
        self._contents.announce(wanted)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        for tar in self._tars:
            tar.close()
        if self._context is not None:
            self._context.close()
        if self._contents is not None:
            self._contents.close()


class _PlannedContent:
    """The content of planned entries, read from the tree that each was planned from."""

    def __init__(self, items: list[PlannedEntry]) -> None:
        self._items = {item.entry.path: item for item in items}

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        item = self._items[entry.path]
        assert item.source is not None and item.tree is not None, entry.path
        return item.tree.chunks(item.source)
