"""The store: everything pybuild keeps, in one directory.

    STORE/  lock          flock: shared by every user, exclusive for what must be alone (reset)
            metadata.db   SQLite (WAL): the tables of metadata.py; a row is the truth
            blobs/sha256/<hex>   manifests, configs, layers; read-only, appear by rename
            tocs/<id>     tables of contents, one a changeset
            trees/<id>/   directories that serve as lower layers of overlays
            cachemounts/<id>/    directories that stay from build to build; in use by whoever holds a flock on one
            ingest/<id>/  work in progress; belongs to whoever holds a flock on it
            logs/<build>/ what builds said (logs.py); no part of any object
            memo/<context>       digests of a context's files (memo.py); no part of any object
            CACHEDIR.TAG  tells backup programs to pass by

Who holds what: a process that has the store open holds `lock` shared and one ingest directory exclusively, for as
long as it lives. There is no other lock; SQLite's own transactions order the writers.

What a crash leaves behind, at any point: an ingest directory without a lock (swept by the next user), and objects in
blobs/, tocs/ or trees/ that have no row (never looked at; a writer of the same blob replaces it). Rows are written
after their files, and become *sealed* (sealing.py) once their bytes are known to be on the disk. A power cut may lose the
bytes of rows that are not sealed, and so the first user after another boot drops those whose bytes are not right. A tag
never names anything that is not sealed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreBusy, StoreError
from pybuild.store.objects.blobs import Blobs
from pybuild.store.objects.builds import Builds
from pybuild.store.objects.cache_mounts import CacheMounts
from pybuild.store.objects.changesets import Changesets, Snapshots
from pybuild.store.objects.database import Metadata
from pybuild.store.objects.downloads import Downloads
from pybuild.store.objects.images import Images
from pybuild.store.objects.ingest import Ingest, sweep
from pybuild.store.objects.records import Records
from pybuild.store.objects.sealing import Sealer
from pybuild.store.system.directories import remove_tree
from pybuild.store.system.disk_full import no_space
from pybuild.store.system.files import try_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PARTS = ("blobs", "tocs", "trees", "cachemounts", "ingest", "logs", "memo")
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory is pybuild's store and can be made again.\n"
_SEAL_SECONDS = 30.0


class Store:
    """An open store. A context manager; `close` gives back its lock and removes its work in progress."""

    def __init__(self, root: str) -> None:
        """Open the store at `root`, making it where there is none. Raises StoreError."""
        self.root = os.path.abspath(root)
        try:
            self._lock = self._prepare()
        except OSError as error:
            if isinstance(full := no_space(error, self.root), StoreError):
                raise full from error
            raise StoreError(
                f"cannot use the store {self.root}: {error.strerror}", hint="choose another place with --root"
            ) from error
        try:
            self.metadata = Metadata(f"{self.root}/metadata.db", _boot_id())
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self.blobs = Blobs(f"{self.root}/blobs", self.metadata)
            self.changesets = Changesets(self.root, self.metadata, self.blobs)
            self.snapshots = Snapshots(self.metadata, self.changesets)
            self.records = Records(self.metadata)
            self.builds = Builds(self.metadata)
            self.downloads = Downloads(self.metadata, self.blobs)
            self.images = Images(self.metadata, self.blobs)
            self.cachemounts = CacheMounts(self.root, self.metadata)
            self._sealer = Sealer(self.root, self.metadata, self.blobs, self.changesets)
            self._sealer.recover()
            self.unswept = sweep(f"{self.root}/ingest")
            self.ingest = Ingest(f"{self.root}/ingest")
        except BaseException as error:
            self.metadata.close()
            os.close(self._lock)
            if isinstance(error, OSError):
                raise no_space(error, self.root) from error
            raise
        self.logs = f"{self.root}/logs"
        self.memos = f"{self.root}/memo"
        self._sealed_at = time.monotonic()

    def seal(self) -> None:
        """Make sure that all that is recorded so far survives a power cut, or can be made again from what does.

        Raises OSError when the disk lost something.
        """
        self._sealer.seal()
        self._sealed_at = time.monotonic()

    def seal_now_and_then(self) -> None:
        """Seal everything when the last time was long ago: a long build should not lose its finished steps."""
        if time.monotonic() - self._sealed_at > _SEAL_SECONDS:
            self._sealer.seal_all()
            self._sealed_at = time.monotonic()

    def close(self) -> None:
        """Leave the store. Idempotent."""
        if self._lock >= 0:
            self.ingest.close()
            self.metadata.close()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> int:
        """Make what is missing and take the shared lock; return its descriptor."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        status = os.stat(self.root)
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"the store {self.root} belongs to user {status.st_uid}",
                hint="choose your own with --root or PYBUILD_ROOT",
            )
        if status.st_mode & 0o022:
            raise StoreError(f"the store {self.root} can be written by others", hint=f"chmod go-w {self.root}")
        if not os.path.exists(f"{self.root}/CACHEDIR.TAG"):
            foreign = [
                name
                for name in os.listdir(self.root)
                if name not in (*_PARTS, "lock", "CACHEDIR.TAG") and not name.startswith("metadata.db")
            ]
            if foreign:
                raise StoreError(
                    f"{self.root} is no store: it holds {foreign[0]!r}", hint="choose an empty or new directory"
                )
        for part in _PARTS:
            os.makedirs(f"{self.root}/{part}", mode=0o700, exist_ok=True)
        lock = os.open(f"{self.root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(lock, fcntl.LOCK_SH):
                raise StoreBusy(f"the store {self.root} is being repaired or reset by another process")
            if not os.path.exists(f"{self.root}/CACHEDIR.TAG"):
                with open(f"{self.root}/CACHEDIR.TAG", "wb") as file:
                    file.write(_TAG)
        except BaseException:
            os.close(lock)
            raise
        return lock


def _remove(parent: str, name: str) -> None:
    fd = os.open(parent, _DIRECTORY)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def reset(root: str, remove: Callable[[str, str], None] = _remove) -> None:
    """Remove a store with all it holds. Raises StoreBusy while anybody uses it, StoreError where there is none.

    `remove(directory, name)` removes a part of it; trees may hold files that this process may not remove by itself.
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
        if "CACHEDIR.TAG" not in names or "metadata.db" not in names:
            raise StoreError(f"{root} is no store")
        lock = os.open("lock", os.O_RDWR | os.O_CLOEXEC, dir_fd=fd)
        try:
            if not try_lock(lock, fcntl.LOCK_EX):
                raise StoreBusy(f"the store {root} is in use by another process")
            # The tag goes last: a reset that is interrupted can be run again.
            for name in sorted(names, key=lambda name: (name == "CACHEDIR.TAG", name == "metadata.db")):
                remove(root, name)
        finally:
            os.close(lock)
    except OSError as error:
        raise StoreError(f"cannot reset {root}: {error.strerror}") from error
    finally:
        os.close(fd)
    os.rmdir(root)


def _boot_id() -> str:
    """The kernel's identity of this boot; proc(5), /proc/sys/kernel/random/boot_id."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"  # without /proc nothing is known to be older than this process
