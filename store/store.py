"""The store: one directory that holds everything pybuild keeps. objects/parts.py lists its parts.

    STORE/
      lock                 flock: shared by every process that uses the store, exclusive for `reset` and `fsck --repair`
      metadata.db          the tables (SQLite in WAL mode, objects/database.py); a file without a row is garbage
      metadata.db-wal      SQLite's log: the last transactions; metadata.db-shm is its index, made anew when it is missing
      resetting            metadata.db of a store whose reset has begun: all objects are garbage then
      blobs/sha256/<hex>   manifests, configs and layers; read-only, each appears by rename
      tocs/<id>            tables of contents, one per changeset
      trees/<id>/          directories that serve as lower layers of overlays
      cachemounts/<id>/    directories that persist from build to build; a step that uses one holds a flock on it
      ingest/<id>/         work in progress of one process, which holds a flock on it
      reserve/             room that gc and rmi use when the disk is full (objects/reserve.py)
      logs/<build>/        the output of a build (objects/build_logs.py); not part of any object
      memo/<context>       digests of a context's files (objects/context_memo.py); not part of any object
      CACHEDIR.TAG         makes backup programs skip the store

Locks: a process that has the store open holds `lock` shared and one ingest directory exclusively, until it ends.
SQLite's transactions order the writers. The only other locks are those of cache mounts and logs in use.

Full and read-only disks: `Access` says what a caller needs. A store that is open for reading only, because nothing can be
written, has `obstacle`; every transaction raises it. Its working directory is a directory for temporary files elsewhere,
and its lease is a shared flock on ingest/ itself.

Crashes: a process that dies, at any point, leaves at most an ingest directory without a lock, and files without a row.
The next process that opens the store removes the directory. No reader looks at the files: a writer of the same blob
replaces them, and gc removes them.

Power cuts: a row is written after its file. It becomes *sealed* (objects/sealing.py) once the file's bytes are known to
be on the disk. A power cut can lose the bytes of unsealed rows. The first process that opens the store after another
boot therefore drops the unsealed rows whose bytes are wrong. A tag names sealed objects only.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from pybuild.store.errors import CannotWrite, NoSpace, ReadOnly, StoreBusy, StoreError
from pybuild.store.objects import context_memo
from pybuild.store.objects.blobs import Blobs
from pybuild.store.objects.builds import Builds
from pybuild.store.objects.cache_mounts import CacheMounts
from pybuild.store.objects.changesets import Changesets
from pybuild.store.objects.database import UNKNOWN_BOOT, Metadata
from pybuild.store.objects.downloads import Downloads
from pybuild.store.objects.images import Images
from pybuild.store.objects.indexes import Indexes
from pybuild.store.objects.ingest import READERS, Ingest, IngestElsewhere, live_leases, sweep
from pybuild.store.objects.parts import (
    CACHEDIR_SIGNATURE,
    CACHEDIR_TAG,
    DATABASE,
    INGEST,
    LOCK,
    LOGS,
    MEMOS,
    PARTS,
    RESERVE,
)
from pybuild.store.objects.places import Places
from pybuild.store.objects.records import Records
from pybuild.store.objects.reserve import keep_reserve, release_reserve
from pybuild.store.objects.sealing import Sealer
from pybuild.store.objects.snapshots import Snapshots
from pybuild.store.system import process_end
from pybuild.store.system.disk_full import FULL, cannot_write, require_room
from pybuild.store.system.files import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_SEAL_INTERVAL = 30.0  # seconds
_LEAST_ROOM = 128 << 10  # bytes: SQLite's log and its index, the lease, the log of a build
T = TypeVar("T")
# What can go without a change in the tables, from a store whose disk is full, in this order.
_SPARE: tuple[Callable[[str], object], ...] = (
    release_reserve,
    lambda root: sweep(INGEST.path(root)),
    lambda root: context_memo.prune(MEMOS.path(root), files=0),
)


class Access(Enum):
    """What a caller needs from a store."""

    WRITE = "it adds to the store"
    FREE = "it frees space: on a full disk the store gives its reserve"
    READ = "it can do without writing: a full or read-only store is opened for reading"


class Store:
    """An open store. A context manager; `close` releases its locks and removes its work in progress.

    `obstacle` is the reason why nothing can be written, or None. It is None unless the access is READ.
    """

    def __init__(self, root: str, access: Access = Access.WRITE) -> None:
        """Open the store at `root`; create it if it does not exist. Raises StoreError; CannotWrite as `access` says."""
        self.root = os.path.abspath(root)
        self.obstacle: CannotWrite | None = None
        self._access = access
        self._lock = -1
        self._reader_lock = -1
        try:
            self._open_for_freeing() if access is Access.FREE else self._open()
        except CannotWrite as error:
            if access is not Access.READ:
                raise
            self._open_for_reading(error)
        self.logs = LOGS.path(self.root)
        self.memos = MEMOS.path(self.root)
        self._sealed_at = time.monotonic()

    def _open(self) -> None:
        """Open the store for writing. Raises StoreError."""
        try:
            self._lock = self._create_and_lock()
            require_room(self.root, _LEAST_ROOM)
            self._open_parts()
            self._sealer.recover()
            self.unswept = sweep(INGEST.path(self.root))  # the directories that this process is not allowed to remove
            self.ingest = Ingest(INGEST.path(self.root))
            self._tables = self.metadata.size()  # bytes
        except BaseException as error:
            self._release()
            if not isinstance(error, OSError):
                raise
            if isinstance(translated := cannot_write(error, f"the store {self.root}", path=self.root), CannotWrite):
                raise translated from error
            raise StoreError(
                f"cannot use the store {self.root}: {error.strerror}", hint="choose another place with --root"
            ) from error
        keep_reserve(self.root, self._tables)

    def _open_for_freeing(self) -> None:
        """Open the store; on a full disk remove what it can do without until that works. Raises StoreError."""
        for give in (*_SPARE, None):
            try:
                return self._open()
            except NoSpace:
                if give is None:
                    raise
                give(self.root)

    def _open_for_reading(self, obstacle: CannotWrite) -> None:
        """Open a store in which nothing can be written. A store that does not exist is empty. Raises StoreError."""
        self.obstacle = obstacle
        try:
            self._lock = self._open_to_read(f"{self.root}/{LOCK}")
            if self._lock >= 0 and not try_lock(self._lock, fcntl.LOCK_SH):
                raise StoreBusy(f"the store {self.root} is being repaired or reset by another process")
            self._reader_lock = self._open_to_read(INGEST.path(self.root))
            if self._reader_lock >= 0:
                fcntl.flock(self._reader_lock, fcntl.LOCK_SH)  # live_leases shows it to gc, and locks it for a moment
            self._open_parts()
        except BaseException as error:
            self._release()
            if isinstance(error, OSError):
                raise StoreError(f"cannot read the store {self.root}: {error.strerror}", hint=obstacle.hint) from error
            raise
        self.unswept = []
        self.ingest = IngestElsewhere()

    def _open_parts(self) -> None:
        in_use = self.obstacle is not None and _is_in_use(self.root)
        self.metadata = Metadata(f"{self.root}/{DATABASE}", _boot_id(), self.obstacle, in_use=in_use)
        self.blobs = Blobs(self.root, self.metadata)
        self.changesets = Changesets(self.root, self.metadata, self.blobs)
        self.snapshots = Snapshots(self.metadata, self.changesets)
        self.records = Records(self.metadata)
        self.builds = Builds(self.metadata)
        self.downloads = Downloads(self.metadata, self.blobs)
        self.places = Places(self.metadata)
        self.images = Images(self.metadata, self.blobs)
        self.indexes = Indexes(self.metadata, self.blobs, self.images)
        self.cache_mounts = CacheMounts(self.root, self.metadata)
        self._sealer = Sealer(self.root, self.metadata, self.blobs, self.changesets)

    def require_writable(self, purpose: str) -> None:
        """Raise the obstacle, with `purpose` before its message, if nothing can be written."""
        if self.obstacle is not None:
            raise type(self.obstacle)(f"{purpose}: {self.obstacle}", hint=self.obstacle.hint)

    def freeing(self, action: Callable[[], T]) -> T:
        """Do something that frees space. If the disk is full, give the reserve and what else can go, and do it again.

        `action` must be able to run again after it has failed. Raises what it raises.
        """
        for give in (*_SPARE, None):
            try:
                return action()
            except (NoSpace, OSError) as error:
                if give is None or not (isinstance(error, NoSpace) or error.errno in FULL):
                    raise
                give(self.root)
                self.metadata.checkpoint_each_transaction()
        raise AssertionError

    def seal(self) -> None:
        """Make everything recorded so far survive a power cut; a tree that can be made from its tar might be left out.

        Raises OSError if the disk lost something.
        """
        if self.obstacle is not None:
            return
        self._sealer.seal()
        self._sealed_at = time.monotonic()

    def seal_if_due(self) -> None:
        """Seal everything if the last time was over 30 seconds ago: a long build should not lose its finished steps."""
        if time.monotonic() - self._sealed_at > _SEAL_INTERVAL:
            self._sealer.seal_all()
            self._sealed_at = time.monotonic()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep all other processes out for a moment. Raises StoreBusy if one of them has the store open."""
        if not try_lock(self._lock, fcntl.LOCK_EX):
            try_lock(self._lock, fcntl.LOCK_SH)  # a failed conversion can lose the lock, flock(2)
            raise StoreBusy(f"the store {self.root} is in use by another process", hint="try again when it has ended")
        try:
            yield
        finally:
            try_lock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Close the store. Idempotent."""
        if self._lock < 0 and self.obstacle is None:
            return
        frees = self._access is Access.FREE
        try:
            self.ingest.close()
        finally:
            self._release(keep_log=process_end.at_once and not frees)  # the log takes space
        if frees:
            keep_reserve(self.root, self._tables, at_once=True)

    def _release(self, *, keep_log: bool = False) -> None:
        if hasattr(self, "metadata"):
            self.metadata.close(keep_log=keep_log)
        for fd in (self._lock, self._reader_lock):
            if fd >= 0:
                os.close(fd)
        self._lock = self._reader_lock = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create_and_lock(self) -> int:
        """Create what is missing and take the shared lock; return its descriptor."""
        while True:
            self._check_place()
            try:
                lock = os.open(f"{self.root}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # `reset` has removed the directory just now
            try:
                if not try_lock(lock, fcntl.LOCK_SH):
                    raise StoreBusy(f"the store {self.root} is being repaired or reset by another process")
                if not os.fstat(lock).st_nlink:  # `reset` has removed the file before it was locked here
                    os.close(lock)
                    continue
                for part in PARTS:
                    if part.directory and part is not RESERVE:  # keep_reserve makes it if there is room
                        os.makedirs(f"{self.root}/{part.directory}", mode=0o700, exist_ok=True)
                if not os.path.exists(tag_path := f"{self.root}/{CACHEDIR_TAG}"):
                    with open(tag_path, "wb") as file:
                        file.write(CACHEDIR_SIGNATURE)
            except BaseException:
                os.close(lock)
                raise
            return lock

    def _check_place(self) -> None:
        """Create the directory of the store, or check that it is one. Raises StoreError."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        status = os.stat(self.root)
        if status.st_uid == 0 and os.geteuid() and self._access is Access.READ:
            raise ReadOnly(f"the store {self.root} belongs to root", hint="choose a store of your own with --root")
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"the store {self.root} belongs to user {status.st_uid}",
                hint="choose a store of your own with --root or PYBUILD_ROOT",
            )
        if status.st_mode & 0o022:
            raise StoreError(f"the store {self.root} can be written by others", hint=f"chmod go-w {self.root}")
        if not os.path.exists(f"{self.root}/{CACHEDIR_TAG}"):
            own = {*(part.directory for part in PARTS), LOCK, CACHEDIR_TAG}
            foreign = [name for name in os.listdir(self.root) if name not in own and not name.startswith(DATABASE)]
            if foreign:
                raise StoreError(
                    f"{self.root} is not a store: it holds {foreign[0]!r}", hint="choose an empty or new directory"
                )

    @staticmethod
    def _open_to_read(path: str) -> int:
        """A descriptor of a file or directory; -1 if it does not exist or this user cannot open it."""
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return -1


def _is_in_use(root: str) -> bool:
    """Whether another process might write to the store. Raises OSError."""
    try:
        return any(lease != READERS for lease in live_leases(INGEST.path(root), without=""))
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # a store of root


def _boot_id() -> str:
    """The kernel's id of the running boot, proc_sys_kernel(5): /proc/sys/kernel/random/boot_id."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return UNKNOWN_BOOT
