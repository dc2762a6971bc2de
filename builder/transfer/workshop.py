"""What a copy works with: workers, the store if it takes part, and places for temporary files."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.builder.events import Note
from pybuild.builder.workers.pool import Pool
from pybuild.store.errors import StoreError
from pybuild.store.exporting.publish import STDOUT, open_descriptor, temporary_directory
from pybuild.store.objects.ingest import IngestElsewhere
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pybuild.builder.events import Event
    from pybuild.store.objects.ingest import Ingest


class CopyWorkshop:
    """A context manager. `observe` gets the events of the copy; the store is opened when it is first used."""

    def __init__(self, root: str, observe: Callable[[Event], None], *, writes: bool) -> None:
        """`writes` says whether something is stored."""
        self._root = root
        self._access = Access.WRITE if writes else Access.READ
        self._stack = ExitStack()
        self._store: Store | None = None
        self._elsewhere: IngestElsewhere | None = None
        self.observe = observe
        self.pool = self._stack.enter_context(Pool(lambda text: observe(Note(text))))

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self._stack.enter_context(Store(self._root, self._access))
        return self._store

    def open_store(self) -> None:
        """The store takes part. Raises StoreError."""
        assert self.store

    @property
    def ingest(self) -> Ingest:
        """The directory for work in progress: that of the store if it takes part, else one for temporary files."""
        if self._store is not None:
            return self._store.ingest
        if self._elsewhere is None:
            self._elsewhere = IngestElsewhere()
            self._stack.callback(self._elsewhere.close)
        return self._elsewhere

    def large_scratch(self) -> str:
        """An unused path for much: in the store if there can be one."""
        with suppress(StoreError):
            return self.store.ingest.new_path()
        return self.scratch()

    def scratch(self) -> str:
        """An unused path for little: of the store if that takes part, else in a directory for temporary files."""
        return self.ingest.new_path()

    def scratch_directory(self) -> str:
        """A new empty directory where `scratch` has its paths."""
        path = self.scratch()
        os.mkdir(path, 0o700)
        return path

    @contextmanager
    def directory_for(self, destination: str) -> Iterator[str]:
        """A new directory on the file system of a file or directory that will be written; it is removed at the end."""
        target = os.path.realpath(destination)
        special = destination == STDOUT or open_descriptor(destination) is not None
        if special or (os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target)):
            yield self.scratch_directory()
            return
        parent, name = os.path.split(target)
        os.makedirs(parent, exist_ok=True)
        if not os.access(parent, os.W_OK):  # a layout of this user in a directory of another one
            yield self.scratch_directory()
            return
        parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with temporary_directory(parent_fd, f"{name}.blobs") as (temporary, _):
                yield os.path.join(parent, temporary)
        finally:
            os.close(parent_fd)

    def __enter__(self) -> CopyWorkshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
