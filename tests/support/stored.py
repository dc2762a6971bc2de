"""Objects in a store, made without a build; and gc and fsck as the tests call them."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import ExecConfig, ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.tree import make_tree
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.gc import Freed, collect
from pybuild.store.objects.cache_mounts import OpenCacheMount, Sharing
from pybuild.store.objects.changesets import TREE, LayerBlob
from pybuild.store.objects.records import KeyKind
from pybuild.store.system.directories import opened_directory, remove_tree, tree_size

if TYPE_CHECKING:
    from pybuild.store.store import Store


AMD64 = Platform("linux", "amd64")


def measure(directory: str) -> int:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return tree_size(fd)
    finally:
        os.close(fd)


def collect_in(store: Store, keep: int | None = None, *, dry_run: bool = False) -> Freed:
    def remove(directory: str) -> None:
        remove_tree(store.ingest.fd, os.path.basename(directory))

    return collect(store, keep, measure, remove, dry_run=dry_run)


def add_layer(store: Store, parent: int | None = None, *, size: int = 1000) -> int:
    """A new changeset with toc, tree and blob on a snapshot; return the new snapshot."""
    data = os.urandom(size)
    entries = [Entry(b"f", Kind.FILE, size=size, offset=0)]
    changeset = store.changesets.add(entries, store.ingest.new_path())
    digest = store.blobs.put(data, store.ingest.new_path())
    store.changesets.add_tar(changeset, None, LayerBlob(digest, digest, size, Compression.UNCOMPRESSED))
    store.changesets.adopt_tree(changeset, "map", new_tree(store, entries, data))
    return store.snapshots.add(parent, changeset)


def new_tree(store: Store, entries: list[Entry], data: bytes = b"") -> str:
    """A new directory with a tree of these entries; `data` is where their offsets point."""
    directory = store.ingest.new_directory()
    os.mkdir(f"{directory}/{TREE}")
    with opened_directory(f"{directory}/{TREE}") as fd:
        make_tree(entries, io.BytesIO(data), fd)
    return directory


def add_record(store: Store, key: str, parent: int | None, now: int, *, size: int = 1000) -> int:
    """A record of the build cache and its layer; return its snapshot."""
    snapshot = add_layer(store, parent, size=size)
    store.records.add({key: KeyKind.DEFINITION}, snapshot, parent, key, "{}", now)
    return snapshot


def add_image(
    store: Store, snapshot: int | None, *names: str, platform: Platform = AMD64
) -> Digest:
    """An image of a snapshot's layers, with or without names."""
    blobs = []
    for changeset in store.snapshots.changesets(snapshot)[::-1]:
        blob = store.changesets.any_blob(changeset)
        assert blob is not None
        blobs.append(blob)
    config = ImageConfig(
        platform.architecture,
        platform.os,
        platform.variant,
        None,
        "",
        ExecConfig(),
        tuple(blob.diff_id for blob in blobs),
        (),
    )
    data = config.to_bytes()
    described = Descriptor(MediaType.OCI_CONFIG, Digest.of(data), len(data))
    layers = tuple(Descriptor(MediaType.OCI_LAYER, blob.digest, blob.size) for blob in blobs)
    scratch = (store.ingest.new_path(), store.ingest.new_path())
    image = store.images.add(Manifest(described, layers).to_bytes(), data, snapshot, scratch)
    store.seal()
    store.images.tag([Reference.parse(name) for name in names], image, 1)
    return image.manifest_digest


def is_whole(store: Store) -> bool:
    """Whether fsck finds neither damage nor garbage."""
    report = fsck.check(store)
    return (report.damage, report.garbage) == ((), ())


def hold(store: Store, key: str, sharing: Sharing = Sharing.SHARED, now: int = 1) -> OpenCacheMount:
    found = store.cache_mounts.find(key, sharing, now)
    if found is None:
        directory = store.ingest.new_directory()
        os.mkdir(f"{directory}/{TREE}")
        found = store.cache_mounts.adopt(key, f"/{key}", directory, sharing, now)
    assert isinstance(found, OpenCacheMount)
    return found


def untag(store: Store, name: str) -> bool:
    """Take a name from its image; return whether that removed the image."""
    reference = Reference.parse(name)
    digest = store.images.resolve(reference)
    assert digest is not None
    return bool(store.images.untag([reference], digest, 2, all_platforms=True))
