"""Repairs a damaged store: makes anew what another form still has, and drops the rest.

A table of contents can be read again from a blob of its layer. A tree can be made again from a blob, so a missing one is
only forgotten. A damaged blob is dropped: pull or build it again. Whatever stands on a dropped object goes too: layers
that are left with neither a tar nor a tree, their snapshots, records and images, and the names of these images.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import CONFIG_LIMIT, ImageConfig, check_image
from pybuild.store.formats.oci_manifest import MANIFEST_LIMIT, Manifest
from pybuild.store.objects.parts import CACHE_MOUNTS, TREES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.store import Store


def repair(store: Store) -> list[str]:
    """Repair the store; return a line for each thing that was done. Raises StoreBusy if another process uses it.

    gc removes the files of dropped objects. Damage of the database file itself cannot be repaired: `fsck` still reports it.
    """
    with store.exclusively():
        done = [
            *_drop_damaged_blobs(store),
            *_replace_damaged_tocs(store),
            *_forget_missing_directories(store),
            *_drop_unusable_changesets(store),
            *_drop_incomplete_images(store),
            *_drop_names_without_image(store),
        ]
        store.changesets.drop_empty_tars()
        store.seal()
    return done


def _drop_damaged_blobs(store: Store) -> Iterator[str]:
    for (text,) in store.metadata.all("SELECT digest FROM blobs ORDER BY digest"):
        digest = Digest.parse(str(text))
        try:
            with store.blobs.open(digest) as reader:
                while reader.read(1 << 20):
                    pass
        except (StoreError, OSError):
            with store.metadata.transaction() as db:
                db.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))
            yield f"blob {digest}: dropped, because its bytes are damaged or missing"


def _replace_damaged_tocs(store: Store) -> Iterator[str]:
    """A changeset with a blob becomes unread: whoever needs its table of contents next reads the blob."""
    for (text,) in store.metadata.all("SELECT id FROM tocs ORDER BY id"):
        changeset = str(text)
        try:
            for _ in store.changesets.toc(changeset):
                pass
        except (StoreError, OSError):
            blob = store.changesets.any_blob(changeset)
            with store.metadata.transaction() as db:
                db.execute("DELETE FROM tocs WHERE id = ?", (changeset,))
                if blob is not None:
                    db.execute(
                        "INSERT OR REPLACE INTO unread VALUES (?, ?, ?, ?)",
                        (changeset, str(blob.diff_id), str(blob.digest), blob.compression.value),
                    )
                    # A chain ID stands for layers that have been read. An import of the same layers reads them anew.
                    db.execute(
                        "DELETE FROM chains WHERE chain_id NOT LIKE 'claim:%'"
                        " AND snapshot IN (SELECT id FROM snapshots WHERE changeset = ?)",
                        (changeset,),
                    )
            action = "dropped" if blob is None else "will be read again from its blob"
            yield f"table of contents {changeset}: {action}"


def _forget_missing_directories(store: Store) -> Iterator[str]:
    for part, what, path in (
        (TREES, "tree", store.changesets.tree_path),
        (CACHE_MOUNTS, "cache mount", store.cache_mounts.tree_path),
    ):
        for (name,) in store.metadata.all(f"SELECT id FROM {part.table} ORDER BY id"):
            if not os.path.isdir(path(str(name))):
                with store.metadata.transaction() as db:
                    db.execute(f"DELETE FROM {part.table} WHERE id = ?", (name,))
                yield f"{what} {name}: dropped, because it is missing"


def _drop_unusable_changesets(store: Store) -> Iterator[str]:
    """Drop the changesets that have no table of contents and no way to get one, or neither a tar nor a tree."""
    for (text,) in store.metadata.all("SELECT id FROM changesets ORDER BY id"):
        changeset = str(text)
        if store.changesets.unread_blob(changeset) is not None:
            continue
        has_toc = store.metadata.one("SELECT 1 FROM tocs WHERE id = ?", changeset)
        has_tree = store.metadata.one("SELECT 1 FROM trees WHERE changeset = ?", changeset)
        if has_toc and (has_tree or store.changesets.any_blob(changeset) is not None):
            continue
        with store.metadata.transaction() as db:
            db.execute("DELETE FROM changesets WHERE id = ?", (changeset,))
        yield f"layer {changeset}: dropped, because no form of it is left"


def _drop_incomplete_images(store: Store) -> Iterator[str]:
    for manifest_digest, config_digest in store.metadata.all("SELECT manifest, config FROM images ORDER BY manifest"):
        try:
            manifest = Manifest.from_bytes(store.blobs.read(Digest.parse(str(manifest_digest)), MANIFEST_LIMIT))
            config = ImageConfig.from_bytes(store.blobs.read(Digest.parse(str(config_digest)), CONFIG_LIMIT))
            check_image(manifest, config)
            missing = [layer.digest for layer in manifest.layers if store.blobs.size(layer.digest) is None]
        except (StoreError, OSError):
            missing = [Digest.parse(str(manifest_digest))]
        if missing:
            with store.metadata.transaction() as db:
                db.execute("DELETE FROM images WHERE manifest = ?", (manifest_digest,))
            yield f"image {manifest_digest}: dropped, because {missing[0]} is missing; pull or build it again"


def _drop_names_without_image(store: Store) -> Iterator[str]:
    for tag in store.images.tags():
        if store.metadata.one("SELECT 1 FROM images WHERE manifest = ?", str(tag.manifest)) is None:
            with store.metadata.transaction() as db:
                db.execute(
                    "INSERT INTO tag_log (name, at, manifest, recipe) VALUES (?, ?, NULL, '')",
                    (tag.name, int(time.time())),
                )
            yield f"name {tag.name}: removed, because its image is gone"
