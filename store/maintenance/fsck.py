"""fsck compares the tables of a store with its files, and the forms of each object with each other. It changes nothing.

checks.py says what is compared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.maintenance.checks import StoreChecks
from pybuild.store.maintenance.orphans import find_orphans
from pybuild.store.maintenance.rows import wrong_rows
from pybuild.store.maintenance.trees import TreesHere
from pybuild.store.objects.context_memo import is_whole, memos
from pybuild.store.objects.parts import MEMOS
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.maintenance.trees import Trees
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
            for count, problem in check_objects(store, checks):
                checked += count
                if problem:
                    damage.append(problem)
        except StoreError as error:
            damage.append(str(error))
    try:
        garbage = tuple(_garbage(store))
    except StoreError as error:
        garbage = ()
        damage.append(str(error))
    return Report(checked, tuple(dict.fromkeys(damage)), garbage, checks.not_compared)


# Each check yields, for each object, 1 and what is wrong with it, or "".


def _rows(store: Store, _checks: StoreChecks) -> Iterator[tuple[int, str]]:
    for wrong in wrong_rows(store.metadata):
        if "refers to nothing" not in wrong.reason:  # SQLite has found those
            yield 0, f"table {wrong.table}: {wrong.reason} in {wrong.rows} rows"


def _blobs(store: Store, checks: StoreChecks) -> Iterator[tuple[int, str]]:
    for (text,) in store.metadata.all("SELECT digest FROM blobs ORDER BY digest"):
        yield 1, checks.blob(Digest.parse(str(text)))


def _changesets(store: Store, checks: StoreChecks) -> Iterator[tuple[int, str]]:
    for (text,) in store.metadata.all("SELECT id FROM changesets ORDER BY id"):
        changeset = str(text)
        if store.changesets.unread(changeset) is not None:
            problem = checks.claim(changeset)
            yield 1, problem and f"changeset {changeset}: {problem}"
        elif problem := checks.toc(changeset):
            yield 1, problem if changeset in problem else f"changeset {changeset}: {problem}"
        elif problem := checks.forms(changeset):
            yield 1, f"changeset {changeset} {problem}"
        else:
            problems = (checks.layer(changeset, blob, clamp) for blob, clamp in store.changesets.tars(changeset))
            problem = next(filter(None, problems), "")
            yield 1, problem and f"changeset {changeset}: {problem}"


def _trees(store: Store, checks: StoreChecks) -> Iterator[tuple[int, str]]:
    for name, changeset, id_map in store.metadata.all("SELECT id, changeset, id_map FROM trees ORDER BY id"):
        problem = checks.tree(str(name), str(changeset), str(id_map))
        tree = f"tree {name} of changeset {changeset}"
        yield 1, f"{tree} is missing" if problem == "is missing" else problem and f"{tree}: {problem}"


def _cache_mounts(store: Store, _checks: StoreChecks) -> Iterator[tuple[int, str]]:
    for mount in store.cache_mounts.all():
        missing = not os.path.isdir(store.cache_mounts.tree_path(mount.id))
        yield 1, f"cache mount {mount.name} ({mount.id}) is missing" if missing else ""


def _images(store: Store, checks: StoreChecks) -> Iterator[tuple[int, str]]:
    for manifest, config in store.metadata.all("SELECT manifest, config FROM images ORDER BY manifest"):
        problem = checks.image(str(manifest), str(config))
        yield 1, problem and f"image {manifest}: {problem}"
    for tag in store.images.tags():
        known = store.metadata.one("SELECT 1 FROM images WHERE manifest = ?", str(tag.manifest))
        yield 1, "" if known else f"tag {tag.name} refers to {tag.manifest}, which is not an image of the store"


def _garbage(store: Store) -> Iterator[str]:
    """The paths, below the store, of files without a row and of memos that cannot be read."""
    for orphans in find_orphans(store):
        for name in orphans.names:
            yield f"{orphans.directory}/{name}"
    for path, _ in memos(store.memos):
        if not is_whole(path):
            yield f"{MEMOS.directory}/{os.path.basename(path)}"
