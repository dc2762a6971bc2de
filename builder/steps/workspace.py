"""The directories that RUN steps work in, all of them in the store's ingest.

Nothing that a step only needed while it ran stands in the way of the next one: what is left of a step is removed while
another is running, or when the last has ended. What all steps may share, as nothing is ever written to it, is made once.
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

    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.toc import Entry
    from pybuild.store.store import Store


@frozen
class ScaffoldTree:
    """A scaffold as a lower layer, and as a table of contents."""

    directory: str
    toc: str


class Workspace:
    """For one build."""

    def __init__(self, store: Store, pool: Pool) -> None:
        self._store = store
        self._pool = pool
        self._left: list[str] = []  # what the steps that have ended have left
        self._scaffolds: dict[tuple[Entry, ...], ScaffoldTree] = {}

    @cached_property
    def mountpoint(self) -> str:
        """An empty directory, where each step mounts its root filesystem: in a mount namespace of its own."""
        return self._store.ingest.new_directory()

    @cached_property
    def files(self) -> str:
        """An empty directory, where each step mounts the memory that files made for it lie in."""
        return self._store.ingest.new_directory()

    async def scaffold(self, entries: tuple[Entry, ...]) -> ScaffoldTree:
        """The directory with these rows. Most steps of a build need the same one."""
        async with self._pool.locks(("scaffold", entries)):
            if entries not in self._scaffolds:
                toc = Toc.write(self._store.ingest.new_path(), entries)
                made = ScaffoldTree(self._store.ingest.new_path(), toc)
                await self._pool.job(MakeDirectory(made.directory, made.toc))
                self._scaffolds[entries] = made
        return self._scaffolds[entries]

    @contextmanager
    def directory(self) -> Iterator[str]:
        """A directory for a step. What is left in it when the step has ended is removed, now or later."""
        directory = self._store.ingest.new_directory()
        try:
            yield directory
        except GeneratorExit:
            discard(self._store, self._pool, directory)  # the build has failed elsewhere, and all that ran has ended
            raise
        except BaseException:
            # Whatever ended us, the step may still be writing.
            self._pool.stop()
            discard(self._store, self._pool, directory)
            raise
        self._left.append(directory)

    async def tidy_meanwhile(self) -> None:
        """Remove what earlier steps have left, while something else is waited for."""
        while self._left:
            await discard_meanwhile(self._store, self._pool, self._left.pop())

    def tidy(self) -> None:
        """Remove what all steps have left. None may be running."""
        self._left += [made.directory for made in self._scaffolds.values()]
        self._scaffolds.clear()
        while self._left:
            discard(self._store, self._pool, self._left.pop())
