"""Trees whose directories are copies: the store was moved by tar, cp or rsync, or restored from a backup.

Such a tree might lack owners, hard links or marks of overlayfs, so it is compared with its table of contents before it is
used. If they differ, it is dropped: its layer is unpacked again, or, if the tree is the only form of the layer, the step
that made it runs again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.events import Note
from pybuild.builder.workers.tasks import gather, run_until_complete

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.builder.session import Session


class CopiedTrees:
    """Compares suspect trees, for one build."""

    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._pool = session.pool
        self._observe = session.observe
        self._told = False

    def has_readable(self, snapshot: int) -> bool:
        """Whether the files of a snapshot's own layer can be read here: it has a tar, or a tree of this id map."""
        maps = self._store.snapshots.required_id_maps(snapshot)
        if maps is None:
            return True
        id_map = self._pool.tree_map
        if id_map not in maps:
            return False
        changeset = self._store.snapshots.changesets(snapshot)[0]
        if self._store.changesets.suspect_tree(changeset, id_map) is not None:
            run_until_complete(self._settle(changeset))
        return self._store.changesets.tree_name(changeset, id_map) is not None

    async def settle(self, changesets: Iterable[str]) -> None:
        """Compare the suspect trees of these changesets; afterwards they are trusted or dropped."""
        await gather(self._settle(changeset) for changeset in changesets)

    async def _settle(self, changeset: str) -> None:
        async with self._pool.locks(("tree", changeset)):
            name = self._store.changesets.suspect_tree(changeset, self._pool.tree_map)
            if name is None:
                return
            from pybuild.builder.jobs.fsck import CompareTree
            from pybuild.store.maintenance.checks import tocs_below

            tree, toc = self._store.changesets.tree_path(name), self._store.changesets.toc_path(changeset)
            below = tocs_below(self._store, changeset)
            try:
                found = (await self._pool.job(CompareTree(tree, toc, below, content=False))).text
            except PrivilegeError:
                return  # without the namespace nothing can use the tree
            if not found:
                self._store.changesets.trust_tree(name)
                return
            self._store.changesets.drop_tree(name)
            if not self._told:
                self._told = True
                self._observe(
                    Note(
                        "the store was copied, and trees in it differ from what pybuild made; they are made again"
                        f" (the first: {found})"
                    )
                )
