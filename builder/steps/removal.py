"""Removing what steps left behind. Where the steps had ids of their own, only their namespace can."""

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
    """Remove a directory of this store's ingest, whoever owns what is in it."""
    name = os.path.basename(directory)
    try:
        remove_tree(store.ingest.fd, name)
    except PermissionError:
        pool.run(RemoveTree(store.ingest.path, name))


async def discard_meanwhile(store: Store, pool: Pool, directory: str) -> None:
    """As `discard`, for who waits with others."""
    name = os.path.basename(directory)
    try:
        remove_tree(store.ingest.fd, name)
    except PermissionError:
        await pool.job(RemoveTree(store.ingest.path, name))


def sweep_all(store: Store, pool: Pool) -> None:
    """Remove the work of processes that are gone, also what the store could not remove by itself when it was opened."""
    parent = f"{store.root}/ingest"
    for name in store.unswept:
        try:
            pool.run(RemoveTree(parent, name))
        except PrivilegeError:
            return  # whoever can make the namespace again will remove it
    store.unswept = sweep(parent)


def remove(parent: str, name: str) -> None:
    """Remove `name` in the directory `parent` of a store that nobody has open."""
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(fd, name)
    except PermissionError:
        with Pool() as pool:
            pool.run(RemoveTree(parent, name))
    finally:
        os.close(fd)
