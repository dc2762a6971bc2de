"""Cache mounts: directories that stay from build to build, below STORE/cachemounts/.

    cachemounts/<id>/     belongs to whoever may write to the store; a flock on it says that a step uses it
    cachemounts/<id>/fs   what the step sees; its files belong to ids of the steps' namespace

Several directories can serve one key: a step that wants a cache for itself gets a new one where all that there are
are in use. What is in them is never part of an image, and nothing depends on it: gc may remove one that is not in use.
"""

from __future__ import annotations

import fcntl
import os
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.objects.changesets import TREE
from pybuild.store.objects.parts import CACHE_MOUNTS
from pybuild.store.system.files import try_lock
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3

    from pybuild.store.objects.database import Metadata

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Sharing(Enum):
    """Who else may use a cache mount at the same time."""

    SHARED = "shared"  # everybody
    PRIVATE = "private"  # nobody: who finds it in use gets a new directory
    LOCKED = "locked"  # nobody: who finds it in use waits


@frozen
class StoredCacheMount:
    """A row of the table. Times are seconds since the epoch; `size` is None while nobody has looked since the last use."""

    id: str
    name: str  # what recipes call it
    last_used: int
    size: int | None


class OpenCacheMount:
    """A cache mount in use: `path` is what to mount. A context manager, or to be closed."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def close(self) -> None:
        """Let others have it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> OpenCacheMount:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@frozen
class CacheMountInUse:
    """Why there is none to be had: somebody has this one, which is not to be shared."""

    id: str


class CacheMounts:
    """The cache mounts of a store."""

    def __init__(self, root: str, metadata: Metadata) -> None:
        self.directory = CACHE_MOUNTS.path(root)
        self._metadata = metadata

    def find(self, key: str, sharing: Sharing, now: int) -> OpenCacheMount | CacheMountInUse | None:
        """Take one of the directories of a key. None: one has to be made; `CacheMountInUse`: it can be had later, not now."""
        with self._metadata.transaction() as db:
            return self._find(db, key, sharing, now)

    def adopt(self, key: str, name: str, path: str, sharing: Sharing, now: int) -> OpenCacheMount | CacheMountInUse:
        """Take over a new directory that holds its contents as TREE; where another process was first, as `find`.

        The directory is moved, or left where it is for its ingest to remove.
        """
        with self._metadata.transaction() as db:
            found = self._find(db, key, sharing, now)
            if found is not None:
                return found
            identity = os.urandom(8).hex()
            fd = os.open(path, _DIRECTORY)
            try:
                try_lock(fd, _operation(sharing))
                os.rename(path, f"{self.directory}/{identity}")
                db.execute(
                    "INSERT INTO cachemounts VALUES (?, ?, ?, ?, ?, NULL, ?)",
                    (identity, key, name, now, now, self._metadata.boot),
                )
            except BaseException:
                os.close(fd)
                raise
            return OpenCacheMount(self.tree_path(identity), fd)

    def all(self) -> list[StoredCacheMount]:
        """Every one, the latest used first."""
        rows = self._metadata.all("SELECT id, name, last_used, size FROM cachemounts ORDER BY last_used DESC, id")
        return [
            StoredCacheMount(str(key), str(name), int(str(used)), None if size is None else int(str(size)))
            for key, name, used, size in rows
        ]

    def tree_path(self, identity: str) -> str:
        """Where the contents are."""
        return f"{self.directory}/{identity}/{TREE}"

    def in_use(self, identity: str) -> bool:
        """Whether a step has it at this moment."""
        fd = self.lock(identity)
        if fd is None:
            return os.path.isdir(f"{self.directory}/{identity}")
        os.close(fd)
        return False

    def lock(self, identity: str) -> int | None:
        """Have one alone, to measure or to remove it: the descriptor that holds the lock; None where it is in use or gone."""
        return lock_cache_mount(self.directory, identity)

    def set_size(self, identity: str, size: int) -> None:
        """Note how large it is; good until it is used again."""
        with self._metadata.transaction() as db:
            db.execute("UPDATE cachemounts SET size = ? WHERE id = ?", (size, identity))

    def _find(
        self, db: sqlite3.Connection, key: str, sharing: Sharing, now: int
    ) -> OpenCacheMount | CacheMountInUse | None:
        busy = None
        for (identity,) in self._metadata.all(
            "SELECT id FROM cachemounts WHERE key = ? ORDER BY last_used DESC, id", key
        ):
            fd = lock_cache_mount(self.directory, str(identity), _operation(sharing))
            if fd is not None:
                db.execute("UPDATE cachemounts SET last_used = ?, size = NULL WHERE id = ?", (now, identity))
                return OpenCacheMount(self.tree_path(str(identity)), fd)
            if os.path.isdir(f"{self.directory}/{identity}"):
                busy = CacheMountInUse(str(identity))
            else:
                db.execute("DELETE FROM cachemounts WHERE id = ?", (identity,))  # lost, with a power cut for instance
        return busy if sharing is Sharing.LOCKED else None


def lock_cache_mount(directory: str, identity: str, operation: int = fcntl.LOCK_EX) -> int | None:
    """The descriptor that holds the lock of a cache mount; None where it is in use or gone."""
    try:
        fd = os.open(f"{directory}/{identity}", _DIRECTORY)
    except OSError:
        return None
    if try_lock(fd, operation):
        return fd
    os.close(fd)
    return None


def _operation(sharing: Sharing) -> int:
    return fcntl.LOCK_SH if sharing is Sharing.SHARED else fcntl.LOCK_EX
