"""reset removes a whole store. The tables go first: without them the objects are garbage, whatever is left of them."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreBusy, StoreError
from pybuild.store.objects.database import RESETTING
from pybuild.store.objects.parts import CACHEDIR_SIGNATURE, CACHEDIR_TAG, DATABASE, LOCK
from pybuild.store.system.directories import remove_tree
from pybuild.store.system.files import try_lock

if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _remove(parent: str, name: str) -> None:
    fd = os.open(parent, _DIRECTORY)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def reset(root: str, remove: Callable[[str, str], None] = _remove) -> None:
    """Remove a whole store; do nothing if `root` does not exist.

    `remove(directory, name)` removes one file or tree of it; the files in trees can belong to ids of a user namespace,
    which this process is not allowed to remove. An interrupted reset leaves an empty store with garbage, which can be
    used, or reset again. Raises StoreBusy while a process uses the store, StoreError if `root` is not a store.
    """
    root = os.path.abspath(root)
    try:
        fd = os.open(root, _DIRECTORY)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        raise StoreError(f"cannot open {root}: {error.strerror}") from error
    try:
        names = os.listdir(fd)
        if not _is_store(root, names):
            raise StoreError(f"{root} is not a store")
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            if not try_lock(lock, fcntl.LOCK_EX):
                raise StoreBusy(f"the store {root} is in use by another process")
            if DATABASE in names:
                # One step, which a full disk allows, takes the tables away and leaves the mark that this was on purpose.
                os.rename(DATABASE, RESETTING, src_dir_fd=fd, dst_dir_fd=fd)
                names = [RESETTING if name == DATABASE else name for name in names]
            for name in sorted({*names, LOCK}, key=_place_in_reset):
                remove(root, name)
        finally:
            os.close(lock)
        os.rmdir(root)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # another process has made a new store meanwhile
            raise StoreError(f"cannot reset {root}: {error.strerror}") from error
    finally:
        os.close(fd)


def _is_store(root: str, names: list[str]) -> bool:
    """Whether a directory with these names is a store, perhaps one that an interrupted `reset` has begun to remove."""
    if CACHEDIR_TAG not in names:
        return {LOCK}.issuperset(names)
    with open(f"{root}/{CACHEDIR_TAG}", "rb") as file:
        return DATABASE in names or file.read(len(CACHEDIR_SIGNATURE)) == CACHEDIR_SIGNATURE


def _place_in_reset(name: str) -> int:
    """What says that objects without tables are garbage goes after them. What shows that this is a store goes last."""
    return {RESETTING: 1, CACHEDIR_TAG: 2, LOCK: 3}.get(name, 0)
