"""Removing what steps left behind. Files of subordinate ids can be removed only inside of the steps' namespace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.jobs.step import RemoveTree
from pybuild.builder.workers.pool import Pool
from pybuild.store.objects.ingest import sweep
from pybuild.store.system.directories import remove_tree

if TYPE_CHECKING:
    from pybuild.store.store import Store


def discard(store: Store, pool: Pool, directory: str) -> None:
    """Remove a directory of the store's ingest, whoever owns the files in it."""
    name = os.path.basename(directory)
    try:
        remove_tree(store.ingest.fd, name)
    except PermissionError:
        pool.run(RemoveTree(store.ingest.path, name))


async def discard_meanwhile(store: Store, pool: Pool, directory: str) -> None:
    """Like `discard`, but other tasks run in the meantime."""
    name = os.path.basename(directory)
    try:
        remove_tree(store.ingest.fd, name)
    except PermissionError:
        await pool.job(RemoveTree(store.ingest.path, name))


def sweep_all(store: Store, pool: Pool) -> None:
    """Remove the ingest directories of dead processes that the store itself could not remove when it was opened."""
    parent = f"{store.root}/ingest"
    for name in store.unswept:
        try:
            pool.run(RemoveTree(parent, name))
        except PrivilegeError:
            return  # the next process that can make the namespace removes them
    store.unswept = sweep(parent)


def remove(parent: str, name: str) -> None:
    """Remove `name` from the directory `parent` of a store that no process has open."""
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(fd, name)
    except PermissionError:
        with Pool() as pool:
            pool.run(RemoveTree(parent, name))
    finally:
        os.close(fd)
