"""fsck compares the tables of a store with its files, and every blob with its digest. It changes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import CONFIG_LIMIT, ImageConfig, check_image
from pybuild.store.formats.oci_manifest import MANIFEST_LIMIT, Manifest
from pybuild.store.maintenance.orphans import find_orphans
from pybuild.store.objects.context_memo import is_whole, memos
from pybuild.store.objects.parts import MEMOS
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.store import Store


@frozen
class Report:
    """The result of a check. `garbage` are harmless files of interrupted processes, not part of any object."""

    checked: int  # objects
    damage: tuple[str, ...]
    garbage: tuple[str, ...]


def check(store: Store) -> Report:
    """Read the whole store and compare. Damage is part of the report; it raises no error."""
    damage = list(store.metadata.check())
    checked = 0
    for check_objects in (_blobs, _tocs, _trees, _cache_mounts, _images):
        for count, problem in check_objects(store):
            checked += count
            if problem:
                damage.append(problem)
    return Report(checked, tuple(damage), tuple(_garbage(store)))


# Each check yields, for each object, 1 and what is wrong with it, or "".


def _blobs(store: Store) -> Iterator[tuple[int, str]]:
    for (text,) in store.metadata.all("SELECT digest FROM blobs ORDER BY digest"):
        problem = ""
        try:
            with store.blobs.open(Digest.parse(str(text))) as reader:
                while reader.read(1 << 20):
                    pass
        except (StoreError, OSError) as error:
            problem = str(error)
        yield 1, problem


def _tocs(store: Store) -> Iterator[tuple[int, str]]:
    for (changeset,) in store.metadata.all("SELECT id FROM changesets ORDER BY id"):
        problem = ""
        if store.changesets.unread_blob(str(changeset)) is not None:
            yield 1, ""
            continue
        try:
            toc = store.changesets.toc(str(changeset))
            for _ in toc:
                pass
        except (StoreError, OSError) as error:
            problem = str(error)
        if not problem and store.changesets.any_blob(str(changeset)) is None:
            if not store.metadata.one("SELECT 1 FROM trees WHERE changeset = ?", changeset):
                problem = f"changeset {changeset} has neither a tree nor a tar"
        yield 1, problem


def _trees(store: Store) -> Iterator[tuple[int, str]]:
    for name, changeset in store.metadata.all("SELECT id, changeset FROM trees ORDER BY id"):
        missing = not os.path.isdir(store.changesets.tree_path(str(name)))
        yield 1, f"tree {name} of changeset {changeset} is missing" if missing else ""


def _cache_mounts(store: Store) -> Iterator[tuple[int, str]]:
    for mount in store.cache_mounts.all():
        missing = not os.path.isdir(store.cache_mounts.tree_path(mount.id))
        yield 1, f"cache mount {mount.name} ({mount.id}) is missing" if missing else ""


def _images(store: Store) -> Iterator[tuple[int, str]]:
    for manifest_digest, config_digest in store.metadata.all("SELECT manifest, config FROM images ORDER BY manifest"):
        problem = ""
        try:
            manifest = Manifest.from_bytes(store.blobs.read(Digest.parse(str(manifest_digest)), MANIFEST_LIMIT))
            config = ImageConfig.from_bytes(store.blobs.read(Digest.parse(str(config_digest)), CONFIG_LIMIT))
            check_image(manifest, config)
            for layer in manifest.layers:
                if store.blobs.size(layer.digest) is None:
                    problem = f"image {manifest_digest}: layer {layer.digest} is missing"
        except (StoreError, OSError) as error:
            problem = f"image {manifest_digest}: {error}"
        yield 1, problem
    for name, target in store.metadata.all(
        "SELECT name, manifest FROM tag_log WHERE id IN (SELECT max(id) FROM tag_log GROUP BY name) AND manifest IS NOT NULL"
    ):
        known = store.metadata.one("SELECT 1 FROM images WHERE manifest = ?", target)
        yield 1, "" if known else f"tag {name} refers to {target}, which is not an image of the store"


def _garbage(store: Store) -> Iterator[str]:
    """The paths, below the store, of files without a row and of memos that cannot be read."""
    for orphans in find_orphans(store):
        for name in orphans.names:
            yield f"{orphans.directory}/{name}"
    for path, _ in memos(store.memos):
        if not is_whole(path):
            yield f"{MEMOS.directory}/{os.path.basename(path)}"
