"""The directories that RUN steps work in. All of them lie in the store's ingest.

Cleaning up does not delay the next step: the leftovers of a step are removed while another step runs, or after the last
one. Directories that no step writes to are made once and shared.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.jobs.step import MakeDirectory
from pybuild.builder.steps.removal import discard, discard_meanwhile
from pybuild.store.formats.toc import Toc
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.session import Session
    from pybuild.store.formats.toc import Entry


@frozen
class ScaffoldTree:
    """A scaffold on the disk: the directory to mount as a lower layer, and its table of contents."""

    directory: str
    toc: str


class Workspace:
    """The directories of one build's RUN steps."""

    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._pool = session.pool
        self._leftovers: list[str] = []  # directories of steps that have ended
        self._scaffolds: dict[tuple[Entry, ...], ScaffoldTree] = {}

    @cached_property
    def mountpoint(self) -> str:
        """An empty directory. Each step mounts its root filesystem on it, in its own mount namespace."""
        return self._store.ingest.new_directory()

    @cached_property
    def files(self) -> str:
        """An empty directory. Each step mounts a tmpfs on it, for files that pybuild makes for the step."""
        return self._store.ingest.new_directory()

    async def scaffold(self, entries: tuple[Entry, ...]) -> ScaffoldTree:
        """The scaffold with these entries. Most steps of a build share one."""
        async with self._pool.locks(("scaffold", entries)):
            if entries not in self._scaffolds:
                toc = Toc.write(self._store.ingest.new_path(), entries)
                made = ScaffoldTree(self._store.ingest.new_path(), toc)
                await self._pool.job(MakeDirectory(made.directory, made.toc))
                self._scaffolds[entries] = made
        return self._scaffolds[entries]

    @contextmanager
    def directory(self) -> Iterator[str]:
        """A directory for one step. After the step its content is removed, at once or later."""
        directory = self._store.ingest.new_directory()
        try:
            yield directory
        except GeneratorExit:
            discard(self._store, self._pool, directory)  # the build failed elsewhere; all processes have ended
            raise
        except BaseException:
            # Whatever the error is, the step might still be writing.
            self._pool.stop()
            discard(self._store, self._pool, directory)
            raise
        self._leftovers.append(directory)

    async def tidy_meanwhile(self) -> None:
        """Remove the leftovers of earlier steps while another task runs."""
        while self._leftovers:
            await discard_meanwhile(self._store, self._pool, self._leftovers.pop())

    def tidy(self) -> None:
        """Remove the leftovers of all steps. No step may be running."""
        self._leftovers += [made.directory for made in self._scaffolds.values()]
        self._scaffolds.clear()
        while self._leftovers:
            discard(self._store, self._pool, self._leftovers.pop())
