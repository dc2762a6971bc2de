"""Cache mounts: directories below STORE/cachemounts/ that persist from build to build.

    cachemounts/<id>/     belongs to the owner of the store; a step that uses the cache mount holds a flock on it
    cachemounts/<id>/fs   the directory that the step sees; its files belong to ids of the step's user namespace

A key can have several directories: a step that needs one to itself gets a new one if all others are in use. The
contents are never part of an image and nothing depends on them: gc can remove a cache mount that is not in use.

A cache mount can travel to other machines. So the row remembers whether a step that had a secret could write to it, and which
layer of a cache of another machine has its files (`TravelState`).

If the directory of a cache mount is a copy (identity.py), the owners of its files might be wrong, and no table of
contents tells the right ones. `find` therefore drops it, and the step gets a new directory.
"""

from __future__ import annotations

import fcntl
import os
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.objects.changesets import TREE
from pybuild.store.objects.database import number
from pybuild.store.objects.identity import identity_of
from pybuild.store.objects.parts import CACHE_MOUNTS
from pybuild.store.system.files import try_lock
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3

    from pybuild.store.objects.database import Metadata

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Sharing(Enum):
    """Which other steps may use the directory of a cache mount at the same time."""

    SHARED = "shared"  # all
    PRIVATE = "private"  # none: a step that finds it in use gets a new directory
    LOCKED = "locked"  # none: a step that finds it in use waits


@frozen
class StoredCacheMount:
    """A cache mount in the store."""

    id: str
    name: str  # its name in recipes
    last_used: int  # seconds since the epoch
    size: int | None  # bytes; None: not measured since the last use


@frozen
class TravelState:
    """What a cache mount has to do with caches of other machines.

    The files were last restored from, or saved to, a layer with this diff_id, at `saved` (seconds since the epoch) by the
    cache, when the directory had the fingerprint `state`. Without such a layer these are "", 0 and "".
    """

    secret: bool = False  # a step that had a secret or an SSH agent could write to it
    owners_lost: bool = False  # it was restored where some owners of its files do not exist
    state: str = ""
    saved: int = 0
    layer: str = ""


class OpenCacheMount:
    """A cache mount in use, locked until `close`; `path` is the directory to mount. A context manager."""

    def __init__(self, id: str, path: str, fd: int) -> None:
        self.id = id
        self.path = path
        self._fd = fd

    def close(self) -> None:
        """Release the lock. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> OpenCacheMount:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@frozen
class CacheMountInUse:
    """The cache mount with this id is LOCKED by another step: the caller has to wait for it."""

    id: str


_NEW = TravelState()


class CacheMounts:
    """The cache mounts of a store."""

    def __init__(self, root: str, metadata: Metadata) -> None:
        self.directory = CACHE_MOUNTS.path(root)
        self._metadata = metadata
        self.copies: list[str] = []  # names of the cache mounts that `find` has dropped because they were copied

    def find(self, key: str, sharing: Sharing, now: int) -> OpenCacheMount | CacheMountInUse | None:
        """Open one of the directories of a key. None: the caller has to create one, and `adopt` it."""
        with self._metadata.transaction() as db:
            return self._find(db, key, sharing, now)

    def has(self, key: str) -> bool:
        """Whether any directory of a key is there, in use or not."""
        return self._metadata.one("SELECT 1 FROM cachemounts WHERE key = ?", key) is not None

    def adopt(
        self, key: str, name: str, path: str, sharing: Sharing, now: int, travel: TravelState = _NEW
    ) -> OpenCacheMount | CacheMountInUse:
        """Store a new directory, whose contents are in its subdirectory TREE, and open it.

        If another process has added one meanwhile, this is `find`, and the directory stays in the ingest directory.
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
                    "INSERT INTO cachemounts (id, key, name, created, last_used, boot, identity, secret, owners_lost, state,"
                    " saved, layer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        identity, key, name, now, now, self._metadata.boot, identity_of(f"{self.directory}/{identity}"),
                        travel.secret, travel.owners_lost, travel.state, travel.saved, travel.layer,
                    ),
                )  # fmt: skip
            except BaseException:
                os.close(fd)
                raise
            return OpenCacheMount(identity, self.tree_path(identity), fd)

    def all(self) -> list[StoredCacheMount]:
        """All cache mounts, the most recently used first."""
        rows = self._metadata.all("SELECT id, name, last_used, size FROM cachemounts ORDER BY last_used DESC, id")
        return [
            StoredCacheMount(str(key), str(name), number(used), None if size is None else number(size))
            for key, name, used, size in rows
        ]

    def tree_path(self, identity: str) -> str:
        """The directory with the contents."""
        return f"{self.directory}/{identity}/{TREE}"

    def in_use(self, identity: str) -> bool:
        """Whether a step is using it now."""
        fd = self.lock(identity)
        if fd is None:
            return os.path.isdir(f"{self.directory}/{identity}")
        os.close(fd)
        return False

    def lock(self, identity: str) -> int | None:
        """Lock one exclusively, to measure or remove it. Returns the descriptor, or None if it is in use or removed."""
        return lock_cache_mount(self.directory, identity)

    def set_size(self, identity: str, size: int) -> None:
        """Record the size in bytes; the next use resets it."""
        with self._metadata.transaction() as db:
            db.execute("UPDATE cachemounts SET size = ? WHERE id = ?", (size, identity))

    def mark_secret(self, identity: str) -> None:
        """Remember, before it begins, that a step can write secrets to a cache mount: its own, or those of another mount."""
        with self._metadata.transaction() as db:
            db.execute("UPDATE cachemounts SET secret = 1 WHERE id = ?", (identity,))

    def travel_state(self, identity: str) -> TravelState:
        """What is known of a cache mount. One that is not there any more counts as one that a secret was written to."""
        row = self._metadata.one(
            "SELECT secret, owners_lost, state, saved, layer FROM cachemounts WHERE id = ?", identity
        )
        if row is None:
            return TravelState(secret=True)
        secret, owners_lost, state, saved, layer = row
        return TravelState(bool(secret), bool(owners_lost), str(state), number(saved), str(layer))

    def set_saved(self, identity: str, state: str, saved: int, layer: str) -> None:
        """Remember which layer has the files of a cache mount, as `TravelState` says."""
        with self._metadata.transaction() as db:
            db.execute(
                "UPDATE cachemounts SET state = ?, saved = ?, layer = ? WHERE id = ?", (state, saved, layer, identity)
            )

    def of_key(self, key: str) -> list[str]:
        """The ids of the directories of a key that were made here, the most recently used first."""
        rows = self._metadata.all("SELECT id, identity FROM cachemounts WHERE key = ? ORDER BY last_used DESC, id", key)
        return [
            str(identity) for identity, made in rows if not made or identity_of(f"{self.directory}/{identity}") == made
        ]

    def open_to_read(self, identity: str) -> OpenCacheMount | None:
        """Open a cache mount as a step with SHARED does. None if a step has it to itself, or it was removed."""
        fd = lock_cache_mount(self.directory, identity, fcntl.LOCK_SH)
        return None if fd is None else OpenCacheMount(identity, self.tree_path(identity), fd)

    def _find(
        self, db: sqlite3.Connection, key: str, sharing: Sharing, now: int
    ) -> OpenCacheMount | CacheMountInUse | None:
        in_use = None
        for identity, name, made in self._metadata.all(
            "SELECT id, name, identity FROM cachemounts WHERE key = ? ORDER BY last_used DESC, id", key
        ):
            found = identity_of(f"{self.directory}/{identity}")
            if found and made and found != made:
                self.copies.append(str(name))
                db.execute("DELETE FROM cachemounts WHERE id = ?", (identity,))
                continue
            fd = lock_cache_mount(self.directory, str(identity), _operation(sharing))
            if fd is not None:
                # An older version of pybuild did not record what it made.
                db.execute(
                    "UPDATE cachemounts SET last_used = ?, size = NULL, identity = ? WHERE id = ?",
                    (now, found, identity),
                )
                return OpenCacheMount(str(identity), self.tree_path(str(identity)), fd)
            if os.path.isdir(f"{self.directory}/{identity}"):
                in_use = CacheMountInUse(str(identity))
            else:
                db.execute("DELETE FROM cachemounts WHERE id = ?", (identity,))  # lost in a power cut, for example
        return in_use if sharing is Sharing.LOCKED else None


def lock_cache_mount(directory: str, identity: str, operation: int = fcntl.LOCK_EX) -> int | None:
    """Lock a cache mount with flock(2); return the descriptor, or None if it is in use or removed."""
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
