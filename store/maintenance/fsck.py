"""fsck compares the tables of a store with its files, and the forms of each object with each other. It changes nothing.

checks.py says what is compared. Other processes may use the store meanwhile: what gc or rmi has removed since it was listed
is not damage, and a file whose row another process is about to write is not left over.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.maintenance.checks import StoreChecks
from pybuild.store.maintenance.orphans import find_orphans
from pybuild.store.maintenance.rows import wrong_rows
from pybuild.store.maintenance.trees import TreesHere
from pybuild.store.objects.context_memo import is_whole, memos
from pybuild.store.objects.parts import BLOBS, CACHE_MOUNTS, CHANGESETS, IMAGES, MEMOS, TREES
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.maintenance.trees import Trees
    from pybuild.store.objects.parts import Part
    from pybuild.store.store import Store


@frozen
class Report:
    """The result of a check. `garbage` are harmless files of interrupted processes, not part of any object.

    `not_compared` is the number of trees that this user or machine cannot read: their ids do not exist here.
    """

    checked: int  # objects
    damage: tuple[str, ...]
    garbage: tuple[str, ...]
    not_compared: int = 0


def check(store: Store, trees: Trees | None = None, *, deep: bool = False) -> Report:
    """Read the whole store and compare. Damage is part of the report; it raises no error.

    `trees` reads the trees where their ids exist: None, in this process.
    """
    checks = StoreChecks(store, trees or TreesHere(), deep=deep)
    damage = list(store.metadata.check())
    checked = 0
    for check_objects in (_rows, _blobs, _changesets, _trees, _cache_mounts, _images):
        try:
            for each in check_objects(store, checks):
                checked += each.objects
                if each.problem and each.still_exists(store):
                    damage.append(each.problem)
        except StoreError as error:
            damage.append(str(error))
    try:
        garbage = tuple(_garbage(store))
    except StoreError as error:
        garbage = ()
        damage.append(str(error))
    return Report(checked, tuple(dict.fromkeys(damage)), garbage, checks.not_compared)


class _Checked(NamedTuple):
    """The check of one object, or of a whole table: what is wrong, or "". `part` and `key` name the row of the object."""

    problem: str
    part: Part | None = None
    key: str = ""
    objects: int = 1

    def still_exists(self, store: Store) -> bool:
        """Whether nobody has removed the object since it was listed."""
        if self.part is None:
            return True
        query = f"SELECT 1 FROM {self.part.table} WHERE {self.part.key} = ?"
        return store.metadata.one(query, self.key) is not None


def _rows(store: Store, _checks: StoreChecks) -> Iterator[_Checked]:
    for wrong in wrong_rows(store.metadata):
        if "refers to nothing" not in wrong.reason:  # SQLite has found those
            yield _Checked(f"table {wrong.table}: {wrong.reason} in {wrong.rows} rows", objects=0)


def _blobs(store: Store, checks: StoreChecks) -> Iterator[_Checked]:
    for (text,) in store.metadata.all("SELECT digest FROM blobs ORDER BY digest"):
        yield _Checked(checks.blob(Digest.parse(str(text))), BLOBS, str(text))


def _changesets(store: Store, checks: StoreChecks) -> Iterator[_Checked]:
    for (text,) in store.metadata.all("SELECT id FROM changesets ORDER BY id"):
        changeset = str(text)
        yield _Checked(_changeset_problem(store, checks, changeset), CHANGESETS, changeset)


def _changeset_problem(store: Store, checks: StoreChecks, changeset: str) -> str:
    if store.changesets.unread(changeset) is not None:
        problem = checks.claim(changeset)
    elif problem := checks.toc(changeset):
        if changeset in problem:
            return problem
    elif problem := checks.forms(changeset):
        return f"changeset {changeset} {problem}"
    else:
        problems = (checks.layer(changeset, blob, clamp) for blob, clamp in store.changesets.tars(changeset))
        problem = next(filter(None, problems), "")
    return problem and f"changeset {changeset}: {problem}"


def _trees(store: Store, checks: StoreChecks) -> Iterator[_Checked]:
    for name, changeset, id_map in store.metadata.all("SELECT id, changeset, id_map FROM trees ORDER BY id"):
        problem = checks.tree(str(name), str(changeset), str(id_map))
        tree = f"tree {name} of changeset {changeset}"
        shown = f"{tree} is missing" if problem == "is missing" else problem and f"{tree}: {problem}"
        yield _Checked(shown, TREES, str(name))


def _cache_mounts(store: Store, _checks: StoreChecks) -> Iterator[_Checked]:
    for mount in store.cache_mounts.all():
        missing = not os.path.isdir(store.cache_mounts.tree_path(mount.id))
        problem = f"cache mount {mount.name} ({mount.id}) is missing" if missing else ""
        yield _Checked(problem, CACHE_MOUNTS, mount.id)


def _images(store: Store, checks: StoreChecks) -> Iterator[_Checked]:
    for manifest, config in store.metadata.all("SELECT manifest, config FROM images ORDER BY manifest"):
        problem = checks.image(str(manifest), str(config))
        yield _Checked(problem and f"image {manifest}: {problem}", IMAGES, str(manifest))
    for tag in store.images.tags():
        known = store.metadata.one("SELECT 1 FROM images WHERE manifest = ?", str(tag.manifest))
        problem = f"tag {tag.name} refers to {tag.manifest}, which is not an image of the store"
        yield _Checked(problem if not known and tag in store.images.tags() else "")
    yield from _indexes(store, checks)


def _indexes(store: Store, checks: StoreChecks) -> Iterator[_Checked]:
    """The indexes that names stand for."""
    for index in {tag.part_of: None for tag in store.images.tags() if tag.part_of is not None}:
        problem = checks.index(index)
        still = problem and any(tag.part_of == index for tag in store.images.tags())
        yield _Checked(f"index {index}: {problem}" if still else "")


def _garbage(store: Store) -> Iterator[str]:
    """The paths, below the store, of files without a row and of memos that cannot be read."""
    found = any(orphans.names for orphans in find_orphans(store))
    # A file gets its name in the transaction that writes its row. Inside a transaction of our own there is no such one.
    with store.metadata.transaction() if found and store.obstacle is None else nullcontext():
        for orphans in find_orphans(store) if found else ():
            for name in orphans.names:
                yield f"{orphans.directory}/{name}"
    for path, _ in memos(store.memos):
        if not is_whole(path):
            yield f"{MEMOS.directory}/{os.path.basename(path)}"
