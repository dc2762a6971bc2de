"""New tables for a store whose tables SQLite cannot read.

Damaged tables are not trusted: one wrong number in them could put a layer on the wrong parent, and every later build
would be wrong without an error. So the new tables hold only what the files prove by themselves: the blobs that match
their names, and the images whose manifest, config and layers are all among them, with the names that the old tables give
them. A layer can also have a place in a registry, from the old tables: its bytes are checked when they are fetched. The cache is lost, because nothing proves it; the next build fills it again. The old file stays beside the new one as
metadata.db.damaged.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreBusy, StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Index, Manifest
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.claimed_layers import stack_layers
from pybuild.store.objects.database import UNREADABLE, Metadata
from pybuild.store.objects.parts import BLOBS, CACHEDIR_TAG, DATABASE, LOCK
from pybuild.store.objects.schema import VERSION
from pybuild.store.system.files import try_lock
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.store import Store

_DAMAGED = f"{DATABASE}.damaged"
_NOT_DAMAGE = frozenset(
    (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
)


@frozen
class OldTables:
    """What can be read of damaged tables and does no harm if it is wrong."""

    names: dict[str, list[str]]  # the manifests that each name was given since it was last removed, the oldest first
    indexes: dict[str, str]  # the index that each of these names was given last, if it was one
    places: list[tuple[str, str, str, int]]  # the rows of `places`


def replace_damaged_tables(root: str) -> OldTables | None:
    """Replace the tables of the store at `root` by new ones if they cannot be used.

    Returns what the old tables still give, for `restore_images`; None if the tables are whole, or if there is no store.
    Raises StoreBusy while another process uses the store.
    """
    if not os.path.exists(f"{root}/{CACHEDIR_TAG}"):
        return None
    lock = os.open(f"{root}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        path = f"{root}/{DATABASE}"
        if not _is_damaged(path):
            return None
        if not try_lock(lock, fcntl.LOCK_EX):
            raise StoreBusy(f"the store {root} is in use by another process", hint="try again when it has ended")
        old = OldTables(_names(path), _indexes(path), _places(path))
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(path + suffix):
                os.replace(path + suffix, f"{root}/{_DAMAGED}{suffix}")
        Metadata(path, "", replace_lost=True).close()
        return old
    finally:
        os.close(lock)


def restore_images(store: Store, old: OldTables) -> Iterator[str]:
    """Fill new tables from the files of a store, as the docstring of the module says; yield lines about it."""
    yield f"tables: they could not be read, so new ones were made; {_DAMAGED} has the old ones; the build cache is lost"
    digests = [digest for digest in _blob_files(store) if _is_whole(store, digest)]
    with store.metadata.transaction() as db:
        db.executemany(
            "INSERT OR IGNORE INTO blobs (digest, size, boot) VALUES (?, ?, ?)",
            [(str(digest), os.path.getsize(store.blobs.path(digest)), store.metadata.boot) for digest in digests],
        )
        db.executemany("INSERT OR IGNORE INTO places VALUES (?, ?, ?, ?)", old.places)
    images = [digest for digest in digests if _restore_image(store, digest)]
    store.seal()
    yield f"tables: {len(digests)} blobs and {len(images)} images found again"
    found = {str(digest) for digest in images}
    for name, manifests in sorted(old.names.items()):
        for manifest in manifests:
            if manifest in found:
                store.images.tag([Reference.parse(name)], store.images.get(Digest.parse(manifest)), int(time.time()))
        if name in old.indexes:
            _restore_index(store, name, old.indexes[name])
    for tag in store.images.tags():
        yield f"name {tag.name}: refers to {tag.manifest} again"


def _is_damaged(path: str) -> bool:
    """Whether SQLite finds damage, or a table is missing. Raises StoreError if the disk does not allow to look."""
    if not os.path.exists(path):
        return True
    try:
        with closing(sqlite3.connect(path)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > VERSION:
                return False  # of a later pybuild; opening the store says so
            if any(row[0] != "ok" for row in db.execute("PRAGMA integrity_check")):
                return True
            return version <= 0 or (version == VERSION and _tables(db) != _expected_tables())
    except UNREADABLE as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGE:
            raise StoreError(f"{path}: {error}") from error
        return True


def _tables(db: sqlite3.Connection) -> set[tuple[str, str]]:
    query = "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
    return {(str(table), str(column)) for table, column in db.execute(query) if not table.startswith("sqlite_")}


def _expected_tables() -> set[tuple[str, str]]:
    with closing(Metadata.in_memory()) as db:
        return _tables(db)


def _names(path: str) -> dict[str, list[str]]:
    """`OldTables.names`, as far as they can be read."""
    names: dict[str, list[str]] = {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            for name, manifest in db.execute("SELECT name, manifest FROM tag_log ORDER BY id"):
                try:
                    Reference.parse(str(name))
                except StoreError:
                    continue
                if manifest is None:
                    names.pop(str(name), None)
                else:
                    names.setdefault(str(name), []).append(str(manifest))
    except UNREADABLE:
        pass  # what was read until here
    return names


def _indexes(path: str) -> dict[str, str]:
    """`OldTables.indexes`, as far as they can be read."""
    indexes: dict[str, str] = {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            for name, index in db.execute("SELECT name, part_of FROM tag_log ORDER BY id"):
                indexes[str(name)] = str(index)
    except UNREADABLE:
        pass  # what was read until here; stores of earlier versions have no indexes
    return {name: index for name, index in indexes.items() if index}


def _restore_index(store: Store, name: str, digest: str) -> None:
    """Give a name to its index again, if that and all its images were found."""
    try:
        data = store.blobs.read(Digest.parse(digest), MANIFEST_BYTES)
        index = store.indexes.add(Index.from_bytes(data), store.ingest.new_path(), data)
    except StoreError:
        return
    store.indexes.tag([Reference.parse(name)], index, int(time.time()))


def _places(path: str) -> list[tuple[str, str, str, int]]:
    """`OldTables.places`, as far as they can be read."""
    found = []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            for digest, repository, tag, seen in db.execute("SELECT digest, repository, tag, seen FROM places"):
                try:
                    Reference.parse(f"{repository}:{tag}" if tag else str(repository))
                    found.append((str(Digest.parse(str(digest))), str(repository), str(tag), int(seen)))
                except (StoreError, ValueError):
                    continue
    except UNREADABLE:
        pass  # what was read until here; stores of earlier versions have no places
    return found


def _blob_files(store: Store) -> Iterator[Digest]:
    for directory, prefix in BLOBS.file_directories():
        path = f"{store.root}/{directory}"
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            try:
                yield Digest.parse(prefix + name)
            except StoreError:
                continue


def _is_whole(store: Store, digest: Digest) -> bool:
    import hashlib

    try:
        with open(store.blobs.path(digest), "rb") as file:
            return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.hex
    except OSError:
        return False


def _restore_image(store: Store, digest: Digest) -> bool:
    """Make the row of an image if this blob is a manifest whose config and layers are stored, or have a known place."""
    if os.path.getsize(store.blobs.path(digest)) > MANIFEST_BYTES.value:
        return False
    try:
        manifest_bytes = store.blobs.read(digest, MANIFEST_BYTES)
        manifest = Manifest.from_bytes(manifest_bytes)
        config_bytes = store.blobs.read(manifest.config.digest, CONFIG_BYTES)
        config = ImageConfig.from_bytes(config_bytes)
        check_image(manifest, config)
        for layer in manifest.layers:
            size = store.blobs.size(layer.digest)
            if size != layer.size and (size is not None or not store.places.of(layer.digest)):
                return False
    except StoreError:
        return False
    snapshot = stack_layers(store.metadata, store.changesets, store.snapshots, manifest, config)
    store.images.add(manifest_bytes, config_bytes, snapshot, (store.ingest.new_path(), store.ingest.new_path()))
    return True
