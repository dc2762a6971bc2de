"""Repairs a damaged store: makes anew what another form still has, and drops the rest.

    blob                of a layer: from another blob of the layer, or from a tree of it, if that gives the same digest.
                        Else it counts as elsewhere, if a registry is known that had it
    table of contents   from a blob of its layer, when a build next needs it. Not from a tree: the tree of a RUN also
                        holds what the step did not change, and a wrong layer is worse than one that is made again
    tree                from a blob of its layer, when a step next needs it

What cannot be made anew is dropped: pull or build it again. Whatever stands on a dropped object goes too: layers that
are left with neither a tar nor a tree, their snapshots, records and images, and the names of these images.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.compression import Compression, Compressor, DecompressingReader
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.maintenance.checks import StoreChecks
from pybuild.store.maintenance.rows import wrong_rows
from pybuild.store.maintenance.trees import BlobToWrite, TreesHere
from pybuild.store.objects.parts import CACHE_MOUNTS
from pybuild.store.objects.places import OBTAINABLE
from pybuild.store.system.holes import create_sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.maintenance.trees import Trees
    from pybuild.store.objects.changesets import LayerBlob
    from pybuild.store.store import Store

_CHUNK = 1 << 20


def repair(store: Store, trees: Trees | None = None, *, deep: bool = False) -> list[str]:
    """Repair what `fsck.check` finds; return a line for each thing that was done.

    `trees` reads the trees where their ids exist: None, in this process. gc removes the files of dropped objects. Raises
    StoreBusy if another process uses the store.
    """
    with store.exclusively():
        repairs = _Repairs(store, trees or TreesHere(), deep=deep)
        done = [
            *repairs.rows(),
            *repairs.blobs(),
            *repairs.tocs(),
            *repairs.trees(),
            *repairs.layers(),
            *repairs.cache_mounts(),
            *repairs.unusable_changesets(),
            *repairs.incomplete_images(),
            *repairs.names_without_image(),
            *repairs.names_without_index(),
        ]
        store.changesets.drop_empty_tars()
        store.seal()
    return done


class _Repairs:
    def __init__(self, store: Store, trees: Trees, *, deep: bool) -> None:
        self._store = store
        self._trees = trees
        self._checks = StoreChecks(store, trees, deep=deep)

    def rows(self) -> Iterator[str]:
        """Rows that cannot be right. A row that is dropped can leave others that refer to nothing."""
        while found := list(wrong_rows(self._store.metadata)):
            for wrong in found:
                with self._store.metadata.transaction() as db:
                    db.execute(f"DELETE FROM {wrong.table} WHERE {wrong.condition}")
                yield f"table {wrong.table}: {wrong.rows} rows dropped ({wrong.reason})"

    def blobs(self) -> Iterator[str]:
        damaged = [digest for digest in self._digests() if self._checks.blob(digest)]
        for digest in damaged:
            for path, source in self._candidates(digest, set(damaged)):
                if path is not None and _digest_of(path) == digest:
                    self._replace_blob(digest, path)
                    yield f"blob {digest}: made again from {source}"
                    break
            else:
                yield self._drop_blob(digest)

    def tocs(self) -> Iterator[str]:
        for (text,) in self._store.metadata.all("SELECT id FROM tocs ORDER BY id"):
            if self._checks.toc(str(text)):
                yield self._replace_toc(str(text))

    def trees(self) -> Iterator[str]:
        for name, changeset, id_map in self._store.metadata.all("SELECT id, changeset, id_map FROM trees ORDER BY id"):
            if problem := self._checks.tree(str(name), str(changeset), str(id_map)):
                self._store.changesets.drop_tree(str(name))
                again = self._store.changesets.any_blob(str(changeset)) is not None
                yield f"tree {name}: dropped{', to be made again from its blob' if again else ''} ({problem})"

    def layers(self) -> Iterator[str]:
        """Layer blobs that expand to something else, and tables of contents that differ from their blobs."""
        for (text,) in self._store.metadata.all("SELECT id FROM tocs ORDER BY id"):
            changeset = str(text)
            for blob, clamp in self._store.changesets.tars(changeset):
                problem = self._checks.layer(changeset, blob, clamp)
                if problem.startswith("blob "):
                    with self._store.metadata.transaction() as db:
                        db.execute("DELETE FROM layer_blobs WHERE digest = ?", (str(blob.digest),))
                        db.execute("DELETE FROM claims WHERE digest = ?", (str(blob.digest),))
                    yield f"blob {blob.digest}: is not used for layer {changeset} any more ({problem})"
                elif problem:
                    yield self._replace_toc(changeset)
                    break

    def cache_mounts(self) -> Iterator[str]:
        for mount in self._store.cache_mounts.all():
            if not os.path.isdir(self._store.cache_mounts.tree_path(mount.id)):
                self._delete(CACHE_MOUNTS.table, "id", mount.id)
                yield f"cache mount {mount.id}: dropped, because it is missing"

    def unusable_changesets(self) -> Iterator[str]:
        """Changesets that have no table of contents and no way to get one, or neither a tar nor a tree."""
        for (text,) in self._store.metadata.all("SELECT id FROM changesets ORDER BY id"):
            changeset = str(text)
            if self._store.changesets.unread(changeset) is not None and not self._checks.claim(changeset):
                continue
            has_toc = self._store.metadata.one("SELECT 1 FROM tocs WHERE id = ?", changeset)
            if has_toc is None or self._checks.forms(changeset):
                self._delete("changesets", "id", changeset)
                yield f"layer {changeset}: dropped, because no form of it is left"

    def incomplete_images(self) -> Iterator[str]:
        for manifest, config in self._store.metadata.all("SELECT manifest, config FROM images ORDER BY manifest"):
            if problem := self._checks.image(str(manifest), str(config)):
                self._delete("images", "manifest", str(manifest))
                yield f"image {manifest}: dropped; pull or build it again ({problem})"

    def names_without_image(self) -> Iterator[str]:
        for tag in self._store.images.tags():
            if self._store.metadata.one("SELECT 1 FROM images WHERE manifest = ?", str(tag.manifest)) is None:
                self._store.images.untag([Reference.parse(tag.name)], tag.manifest, int(time.time()))
                yield f"name {tag.name}: removed, because its image is gone"

    def names_without_index(self) -> Iterator[str]:
        """Names that stand for an index which is lost: they keep its images, each as one image."""
        for index in {tag.part_of: None for tag in self._store.images.tags() if tag.part_of is not None}:
            if problem := self._checks.index(index):
                names = sorted({tag.name for tag in self._store.images.tags() if tag.part_of == index})
                with self._store.metadata.transaction() as db:
                    db.execute("UPDATE tag_log SET part_of = '' WHERE part_of = ?", (str(index),))
                    db.execute("DELETE FROM indexes WHERE digest = ?", (str(index),))
                yield f"index {index}: dropped; {', '.join(names)} keeps its images ({problem})"

    def _digests(self) -> list[Digest]:
        return [
            Digest.parse(str(row[0])) for row in self._store.metadata.all("SELECT digest FROM blobs ORDER BY digest")
        ]

    def _delete(self, table: str, column: str, key: str) -> None:
        with self._store.metadata.transaction() as db:
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))

    def _candidates(self, digest: Digest, damaged: set[Digest]) -> Iterator[tuple[str | None, str]]:
        """Files that might have the bytes of a layer blob, made from other forms of the layer, each with its source."""
        for diff_id, compression in self._store.metadata.all(
            "SELECT diff_id, compression FROM layer_blobs WHERE digest = ?", str(digest)
        ):
            for blob in self._store.changesets.blobs_of(Digest.parse(str(diff_id))):
                if blob.digest not in damaged:
                    yield self._recompress(blob, Compression(str(compression))), f"blob {blob.digest}"
            for tree, changeset, id_map, clamp in self._store.metadata.all(
                "SELECT trees.id, changeset, id_map, clamp FROM trees JOIN tars USING (changeset) WHERE diff_id = ?",
                diff_id,
            ):
                path = self._store.ingest.new_path()
                toc, limit = self._store.changesets.toc_path(str(changeset)), self._store.changesets.clamp_value(clamp)
                place = self._store.changesets.tree_path(str(tree))
                written = self._trees.write_blob(BlobToWrite(str(id_map), place, toc, path, str(compression), limit))
                yield path if written else None, f"tree {tree}"

    def _recompress(self, blob: LayerBlob, compression: Compression) -> str | None:
        path = self._store.ingest.new_path()
        try:
            with (
                self._store.blobs.open(blob.digest) as raw,
                create_sparse(path) as out,
                Compressor(out, compression) as compressor,
            ):
                tar = DecompressingReader(raw, blob.compression)
                while data := tar.read(_CHUNK):
                    compressor.write(data)
                compressor.finish()
        except (StoreError, OSError):
            return None
        return path

    def _drop_blob(self, digest: Digest) -> str:
        """Drop a blob. Layers of which a registry had this blob can be fetched again."""
        places = self._store.places.of(digest)
        with self._store.metadata.transaction() as db:
            if places:
                db.execute(
                    "INSERT OR IGNORE INTO claims (changeset, diff_id, digest, size, compression)"
                    " SELECT changeset, diff_id, digest, size, compression"
                    " FROM layer_blobs JOIN tars USING (diff_id) JOIN blobs USING (digest) WHERE digest = ?",
                    (str(digest),),
                )
            db.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))
            db.execute(f"DELETE FROM claims WHERE NOT {OBTAINABLE}")
        way_on = f"; it can be fetched again from {places[0].familiar}" if places else ""
        return f"blob {digest}: dropped, because its bytes are damaged or missing{way_on}"

    def _replace_blob(self, digest: Digest, path: str) -> None:
        os.chmod(path, 0o444)
        target = self._store.blobs.path(digest)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with self._store.metadata.transaction() as db:
            os.replace(path, target)
            db.execute(
                "UPDATE blobs SET size = ?, boot = ? WHERE digest = ?",
                (os.path.getsize(target), self._store.metadata.boot, str(digest)),
            )

    def _replace_toc(self, changeset: str) -> str:
        """Drop a table of contents. If its changeset has a blob, whoever needs the contents next reads them there."""
        blob = self._store.changesets.any_blob(changeset)
        with self._store.metadata.transaction() as db:
            db.execute("DELETE FROM tocs WHERE id = ?", (changeset,))
            if blob is not None:
                db.execute(
                    "INSERT OR REPLACE INTO claims (changeset, diff_id, digest, size, compression) VALUES (?, ?, ?, ?, ?)",
                    (changeset, str(blob.diff_id), str(blob.digest), blob.size, blob.compression.value),
                )
                # A chain ID stands for layers that have been read. An import of the same layers reads them anew.
                db.execute(
                    "DELETE FROM chains WHERE chain_id NOT LIKE 'claim:%'"
                    " AND snapshot IN (SELECT id FROM snapshots WHERE changeset = ?)",
                    (changeset,),
                )
        action = "dropped" if blob is None else "will be read again from its blob"
        return f"table of contents {changeset}: {action}"


def _digest_of(path: str) -> Digest:
    import hashlib

    with open(path, "rb") as file:
        return Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
