"""fsck finds every kind of damage; after --repair the store is whole, and a build gives the digest that it gave before."""

# A lambda with several calls lists them in a tuple.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pybuild.store.objects.identity import identity_of
from pybuild.store.store import Store
from tests.support.cli import BASE, Pybuild, write_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.people import Person

EPOCH = {"SOURCE_DATE_EPOCH": "1600000000"}
RECIPE = f"""\
FROM {BASE} AS build
RUN mkdir -p /made/sub && echo tree-only > /made/sub/f && ln /made/sub/f /made/g
FROM {BASE}
RUN mkdir /dir && echo old > /dir/old && echo old > /dir/kept && echo f > /f && ln /f /g && ln -s f /l
RUN rm -r /dir && mkdir -m 750 /dir && echo new > /dir/new && (chown 5:6 /dir/new || true) && rm /l
COPY --from=build /made /made
RUN ls -R /dir /made > /listing && test ! -e /dir/old
"""


def build(pybuild: Pybuild, context: Path, *arguments: str) -> str:
    return pybuild.with_environment(EPOCH)("-q", "--network=none", "-t", "app", *arguments, context).out


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, store_with_base: Path
) -> Iterator[tuple[Path, Path, str]]:
    """A store with a build in it, the context of the build, and the digest of its image."""
    place = tmp_path_factory.mktemp("built")
    subprocess.run(["cp", "-a", store_with_base, place / "store"], check=True)
    context = write_context(place / "context", RECIPE)
    digest = build(Pybuild(place / "store"), context)
    yield place / "store", context, digest
    shutil.rmtree(place)


@pytest.fixture
def whole(built: tuple[Path, Path, str], tmp_path: Path) -> tuple[Pybuild, Path, str]:
    store, context, digest = built
    subprocess.run(["cp", "-a", store, tmp_path / "store"], check=True)
    return Pybuild(tmp_path / "store"), context, digest


def rows(root: Path, query: str) -> list[str]:
    with closing(sqlite3.connect(root / "metadata.db")) as db:
        return [str(row[0]) for row in db.execute(query)]


def trees_with(root: Path, name: str) -> list[Path]:
    return [path for path in sorted((root / "trees").glob(f"*/fs/{name}")) if path.exists()]


def keeping_time(path: Path, action: Callable[[], object]) -> None:
    status = path.stat()
    action()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path: Path) -> None:
    mode = path.stat().st_mode
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    keeping_time(path, lambda: path.write_bytes(data))
    path.chmod(mode)


def each_file(directory: str, action: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: [action(path) for path in sorted((root / directory).iterdir())]


HARM: dict[str, Callable[[Path], object]] = {
    "an opaque mark is lost": lambda root: [
        os.removexattr(path, "user.overlay.opaque")
        for path in trees_with(root, "dir")
        if "user.overlay.opaque" in os.listxattr(path)
    ],
    "an owner is lost": lambda root: [os.chown(path, 0, 0) for path in trees_with(root, "dir/new")],
    "a file of a tree is missing": lambda root: [
        keeping_time(path.parent, path.unlink) for path in trees_with(root, "dir/new")
    ],
    "a tree that has no tar lost a file": lambda root: [path.unlink() for path in trees_with(root, "made/g")],
    "all trees are missing": each_file("trees", shutil.rmtree),
    "all tables of contents are damaged": each_file("tocs", flip),
    "all tables of contents are missing": each_file("tocs", lambda path: path.unlink()),
    "all blobs are damaged": each_file("blobs/sha256", flip),
    "all blobs are missing": each_file("blobs/sha256", lambda path: path.unlink()),
    "all blobs are cut": each_file("blobs/sha256", lambda path: os.truncate(path, 3)),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_after_a_repair_the_store_is_whole_and_builds_the_same_image(
    whole: tuple[Pybuild, Path, str], base_archive: Path, harm: Callable[[Path], object]
) -> None:
    pybuild, context, digest = whole
    pybuild.assert_whole()
    assert harm(pybuild.root)
    found = pybuild.run("fsck")
    assert (found.status, found.out.count("damaged:") > 0) == (1, True)
    assert "hint: pybuild fsck --repair" in found.err
    repaired = pybuild("fsck", "--repair")
    assert repaired.out.startswith("repaired: ")
    assert ", 0 damaged," in pybuild("fsck", "--deep").out
    pybuild("import", base_archive)  # a lost base has to be fetched again
    assert build(pybuild, context) == digest
    pybuild("gc")
    pybuild.assert_whole()


def test_content_of_a_tree_is_compared_by_a_deep_fsck_only(whole: tuple[Pybuild, Path, str]) -> None:
    pybuild, context, digest = whole
    for file in trees_with(pybuild.root, "made/g"):
        flip(file)
    assert ", 0 damaged," in pybuild("fsck").out
    assert "does not match its digest" in pybuild.run("fsck", "--deep").out
    pybuild("fsck", "--repair", "--deep")
    assert ", 0 damaged," in pybuild("fsck", "--deep").out
    assert build(pybuild, context) == digest


def test_a_table_of_contents_that_is_not_that_of_its_blob_is_found_by_a_deep_fsck(
    whole: tuple[Pybuild, Path, str],
) -> None:
    pybuild, context, digest = whole
    (copied,) = rows(
        pybuild.root,
        "SELECT changeset FROM records JOIN snapshots ON snapshots.id = snapshot WHERE inputs LIKE '%\"COPY\"%'"
        " AND changeset NOT IN (SELECT changeset FROM trees)",
    ) or rows(pybuild.root, "SELECT changeset FROM records JOIN snapshots ON snapshots.id = snapshot WHERE inputs LIKE '%\"COPY\"%'")
    for tree in rows(pybuild.root, f"SELECT id FROM trees WHERE changeset = '{copied}'"):
        shutil.rmtree(pybuild.root / "trees" / tree)
    with closing(sqlite3.connect(pybuild.root / "metadata.db")) as db, db:
        db.execute("DELETE FROM trees WHERE changeset = ?", (copied,))
    tocs = pybuild.root / "tocs"
    base = max(tocs.iterdir(), key=lambda toc: toc.stat().st_size)  # that of the RUN in the other stage has the same files
    shutil.copy(base, tocs / copied)
    assert ", 0 damaged," in pybuild("fsck").out
    assert "is not what the tar says" in pybuild.run("fsck", "--deep").out
    assert f"table of contents {copied}: will be read again from its blob" in pybuild("fsck", "--repair", "--deep").out
    assert build(pybuild, context) == digest
    assert ", 0 damaged," in pybuild("fsck", "--deep").out


def test_a_blob_is_made_again_from_its_tree(whole: tuple[Pybuild, Path, str]) -> None:
    pybuild, context, digest = whole
    layers = rows(
        pybuild.root,
        "SELECT digest FROM records JOIN snapshots ON snapshots.id = snapshot JOIN tars USING (changeset)"
        " JOIN layer_blobs USING (diff_id) WHERE changeset IN (SELECT changeset FROM trees)",
    )
    assert layers
    for layer in layers:
        flip(pybuild.root / "blobs" / layer.replace(":", "/"))
    repaired = pybuild("fsck", "--repair").out
    for layer in layers:
        assert f"repaired: blob {layer}: made again from tree " in repaired
    assert "dropped" not in repaired
    assert ", 0 damaged," in pybuild("fsck", "--deep").out
    assert build(pybuild, context, "--require-cached") == digest


def test_trees_of_subordinate_ids_are_compared_in_their_namespace(person: Person) -> None:
    pybuild = person.pybuild()
    context = person.context("c", RECIPE)
    digest = build(pybuild, context)
    assert " 0 damaged," in pybuild("fsck", "--deep").out
    (tree,) = {path.parent for path in trees_with(person.home / "store", "dir/new")}
    (tree / "new").chmod(0o604)
    found = pybuild.run("fsck")
    assert '"dir/new": mode 604, not 644' in found.out
    assert "not compared" not in found.err
    pybuild("fsck", "--repair")
    assert build(pybuild, context) == digest
    pybuild("gc")
    pybuild.assert_whole()


def test_trees_of_other_ids_are_counted_and_not_called_damaged(whole: tuple[Pybuild, Path, str]) -> None:
    pybuild, _, _ = whole
    with closing(sqlite3.connect(pybuild.root / "metadata.db")) as db, db:
        db.execute("UPDATE trees SET id_map = 'range-0.1.1-0.1.1'")
    done = pybuild("fsck")
    assert ", 0 damaged," in done.out
    assert done.err.startswith("not compared: ")


# -- a store that was copied


COPIED = "note: the store was copied"


def moved(root: Path, how: str) -> None:
    """Replace a store by a copy of itself, as a CI cache does."""
    parent, old = root.parent, root.with_name("old")
    root.rename(old)
    subprocess.run(how.format(old=old, new=root, parent=parent), shell=True, check=True, cwd=parent, stderr=subprocess.DEVNULL)
    shutil.rmtree(old)


MOVES = {
    "tar": "tar -C {old} -cf - . | (mkdir -m 700 {new} && tar -C {new} -xf -)",
    "tar without owners": "tar -C {old} -cf - . | (mkdir -m 700 {new} && tar -C {new} --no-same-owner -xf -)",
    "cp -r": "cp -r {old} {new} && chmod 700 {new}",
    "cp -a": "cp -a {old} {new}",
}
AFTER = RECIPE + 'RUN find /dir /made /f /g | sort | xargs stat -c "%n %a %u %g" > /again && cat /listing && test ! -e /dir/old && test "$(stat -c %h /f)" = 2 && test ! -e /l\n'


@pytest.mark.parametrize("how", MOVES.values(), ids=MOVES.keys())
def test_a_copied_store_gives_the_same_images(
    whole: tuple[Pybuild, Path, str], tmp_path: Path, how: str
) -> None:
    pybuild, context, _ = whole
    longer = write_context(tmp_path / "longer", AFTER)
    expected = build(pybuild, longer)
    shutil.rmtree(pybuild.root)
    subprocess.run(["cp", "-a", context.parent / "store", pybuild.root], check=True)
    moved(pybuild.root, how)
    damaged = pybuild.run("fsck").status == 1
    assert damaged == (how.split()[0] == "tar" or how.startswith("cp -r"))
    done = pybuild.with_environment(EPOCH)("--progress=plain", "--network=none", longer)
    assert done.out == expected
    assert (COPIED in done.err) == damaged
    pybuild("fsck", "--repair")  # trees that the build did not need
    pybuild("gc")
    pybuild.assert_whole()
    again = pybuild.with_environment(EPOCH)("--progress=plain", "--network=none", "--no-cache", longer)
    assert COPIED not in again.err
    assert again.out == expected


def test_a_tree_without_a_tar_that_was_damaged_is_not_served_by_the_cache(whole: tuple[Pybuild, Path, str]) -> None:
    pybuild, context, digest = whole
    moved(pybuild.root, MOVES["cp -r"])
    recipe = (context / "Buildfile").read_text().replace("/made /made\n", "/made /elsewhere\n").replace("/dir /made", "/dir /elsewhere")
    other = write_context(pybuild.root.parent / "other", recipe)
    done = pybuild.with_environment(EPOCH)("--network=none", "--progress=json", other)
    assert not done.finished()["RUN mkdir -p /made/sub && echo tree-only > /made/sub/f && ln /made/sub/f /made/g"]
    assert build(pybuild, context) == digest


def test_no_build_leaves_a_suspect_tree(whole: tuple[Pybuild, Path, str]) -> None:
    """A tree that changed after it was stored would be compared in each build."""
    pybuild, context, _ = whole
    before = set(rows(pybuild.root, "SELECT id FROM trees"))
    build(pybuild, context, "--no-cache")
    with Store(str(pybuild.root)) as store:
        found = store.metadata.all("SELECT id, changeset, id_map FROM trees")
        new = [(str(changeset), str(id_map)) for name, changeset, id_map in found if name not in before]
        assert len(new) > 3
        assert [store.changesets.suspect_tree(*tree) for tree in new] == [None] * len(new)


def test_a_renamed_store_is_not_a_copy(person: Person) -> None:
    pybuild = person.pybuild()
    context = person.context("c", RECIPE)
    build(pybuild, context)
    (person.home / "store").rename(person.home / "renamed")
    renamed = replace(pybuild, root=person.home / "renamed")
    with closing(sqlite3.connect(renamed.root / "metadata.db")) as db:
        found = db.execute("SELECT id, identity FROM trees WHERE identity != ''").fetchall()
    assert found
    for tree, identity in found:
        assert identity_of(f"{renamed.root}/trees/{tree}/fs") == identity
    (person.home / "renamed").rename(person.home / "store")


CACHED = f"FROM {BASE}\nRUN --mount=type=cache,target=/cache ls /cache; echo $(( $(cat /cache/n || echo 0) + 1 )) > /cache/n; cp /cache/n /n # STEP\n"


def test_a_copied_cache_mount_starts_empty(pybuild: Pybuild, tmp_path: Path) -> None:
    def note_of(number: int) -> str:
        context = write_context(tmp_path / "c", CACHED.replace("STEP", str(number)))
        return pybuild("--progress=plain", "--network=none", "-o", f"type=local,dest={tmp_path}/out", context).err

    assert COPIED not in note_of(1) + note_of(2)
    assert (tmp_path / "out/n").read_text() == "2\n"
    pybuild.root.rename(tmp_path / "renamed")
    (tmp_path / "renamed").rename(pybuild.root)
    assert COPIED not in note_of(3)
    moved(pybuild.root, MOVES["cp -a"])
    assert f"{COPIED}: the cache mount /cache starts empty, because its owners may be wrong" in note_of(4)
    assert (tmp_path / "out/n").read_text() == "1\n"
    assert COPIED not in note_of(5)
    pybuild("gc")
    pybuild.assert_whole()
