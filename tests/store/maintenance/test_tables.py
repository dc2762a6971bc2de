"""Tables that SQLite cannot read: every command says so and names a way on, and fsck --repair keeps the images."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import StoreBusy, StoreError
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.repair import repair
from pybuild.store.maintenance.reset import reset
from pybuild.store.maintenance.tables import replace_damaged_tables, restore_images
from pybuild.store.objects import database
from pybuild.store.store import Store
from tests.support.archives import Archive
from tests.support.stored import collect_in
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cli import Pybuild

NAME = Reference.parse("test:1")


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store with a named image."""
    path = tmp_path / "archive.tar"
    path.write_bytes(Archive(layers=[tar(entry(b"f", data=b"hello"))]).data())
    with Store(str(tmp_path / "s")) as opened:
        import_archive(opened, str(path), None, 1)
    return str(tmp_path / "s")


def execute(root: str, statement: str) -> None:
    with closing(sqlite3.connect(f"{root}/metadata.db", isolation_level=None)) as db:
        db.execute(statement)


def overwrite(root: str, data: bytes, offset: int = 0) -> None:
    with open(f"{root}/metadata.db", "r+b") as file:
        file.seek(offset)
        file.write(data)


def scramble(root: str) -> None:
    """Random bytes in every page except the first: the schema can be read, the tables cannot."""
    size = os.path.getsize(f"{root}/metadata.db")
    overwrite(root, random.Random(1).randbytes(size - 4096), 4096)


def spoil_schema(root: str) -> None:
    """Bytes in the text of the schema that are not UTF-8, so that SQLite's message cannot be decoded."""
    with open(f"{root}/metadata.db", "rb") as file:
        position = file.read().index(b"CREATE TABLE blobs (") + len(b"CREATE TABLE blobs ")
    overwrite(root, b"\xcc", position)


HARM: dict[str, tuple[Callable[[str], object], str]] = {
    "not a database": (lambda root: overwrite(root, b"x" * 100), "not a database"),
    "scrambled": (scramble, "malformed"),
    "a schema that is not UTF-8": (spoil_schema, "damaged text"),
    "cut": (lambda root: os.truncate(f"{root}/metadata.db", 5000), "malformed"),
    "empty": (lambda root: os.truncate(f"{root}/metadata.db", 0), "tables are lost"),
    "missing": (lambda root: os.unlink(f"{root}/metadata.db"), "tables are lost"),
    "a table is missing": (lambda root: execute(root, "DROP TABLE tag_log"), "no such table"),
    "a column is missing": (lambda root: execute(root, "ALTER TABLE trees DROP COLUMN boot"), "no such column"),
}


@pytest.mark.parametrize(("harm", "message"), HARM.values(), ids=HARM.keys())
def test_damaged_tables_are_an_error_with_a_way_on(root: str, harm: Callable[[str], object], message: str) -> None:
    harm(root)
    with pytest.raises(StoreError, match=message) as caught, Store(root) as opened:
        opened.images.tags()
        opened.metadata.all("SELECT boot FROM trees")
    assert caught.value.hint == "pybuild fsck --repair makes new tables and keeps the images; pybuild reset removes the store"


@pytest.mark.parametrize("harm", [harm for harm, _ in HARM.values()], ids=HARM.keys())
def test_new_tables_have_the_images_again(root: str, harm: Callable[[str], object]) -> None:
    with Store(root) as opened:
        digest = opened.images.find("test:1").manifest_digest
    harm(root)
    old = replace_damaged_tables(root)
    assert old is not None
    with Store(root) as opened:
        lines = list(restore_images(opened, old))
        assert opened.images.all() == [digest]
        image = opened.images.find("test:1" if old.names else str(digest))
        assert image.manifest_digest == digest
        assert len(opened.snapshots.changesets(image.snapshot)) == 1
        assert "1 images found again" in lines[1]
        assert fsck.check(opened).damage == ()
        collect_in(opened)
        collect_in(opened)
        assert fsck.check(opened).garbage == ()
        assert opened.images.all() == [digest]
    assert replace_damaged_tables(root) is None
    reset(root)


def test_names_survive_where_their_table_can_be_read(root: str) -> None:
    execute(root, "DROP TABLE records")
    old = replace_damaged_tables(root)
    assert old is not None and list(old.names) == [str(NAME)]


def test_whole_tables_are_not_replaced(root: str, tmp_path: Path) -> None:
    assert replace_damaged_tables(root) is None
    assert replace_damaged_tables(str(tmp_path / "no store")) is None
    execute(root, "PRAGMA user_version = 1000")
    assert replace_damaged_tables(root) is None  # a later pybuild made it


def test_tables_of_a_store_in_use_are_not_replaced(root: str) -> None:
    with Store(root):
        execute(root, "DROP TABLE records")
        with pytest.raises(StoreBusy):
            replace_damaged_tables(root)


def test_blobs_that_do_not_match_their_names_are_not_taken(root: str) -> None:
    os.unlink(f"{root}/metadata.db")
    for name in os.listdir(f"{root}/blobs/sha256"):
        os.chmod(f"{root}/blobs/sha256/{name}", 0o600)
        with open(f"{root}/blobs/sha256/{name}", "ab") as file:
            file.write(b"x")
    old = replace_damaged_tables(root)
    assert old is not None
    with Store(root) as opened:
        assert list(restore_images(opened, old))[1] == "tables: 0 blobs and 0 images found again"


def test_a_column_of_another_type_is_damage_and_no_traceback(root: str) -> None:
    execute(root, "UPDATE blobs SET size = 'many'")
    with Store(root) as opened:
        with pytest.raises(StoreError, match="'many' is not a number"):
            opened.images.find("test:1")
        assert any("is not a number" in line for line in fsck.check(opened).damage)


WRONG = {
    "a number that is a text": "UPDATE blobs SET size = 'many'",
    "no digest": "UPDATE layer_blobs SET diff_id = replace(diff_id, 'sha', 'shb')",
    "no compression": "UPDATE layer_blobs SET compression = 'gzjp'",
    "a blob that is not there": "UPDATE layer_blobs SET digest = 'sha256:' || hex(zeroblob(32))",
    "a snapshot that is not there": "UPDATE images SET snapshot = 77",
    "a name without a digest": "UPDATE tag_log SET manifest = 'x'",
}


@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG.keys())
def test_rows_that_cannot_be_right_are_found_and_dropped(root: str, tmp_path: Path, statement: str) -> None:
    execute(root, statement)
    with Store(root) as opened:
        assert fsck.check(opened).damage
        assert repair(opened)
        assert fsck.check(opened).damage == ()
        import_archive(opened, str(tmp_path / "archive.tar"), NAME, 2)
        assert opened.images.find("test:1")
        assert fsck.check(opened).damage == ()


def test_fsck_repair_of_damaged_tables(pybuild: Pybuild) -> None:
    scramble(str(pybuild.root))
    for command in ("images", "df", "gc", "fsck"):
        done = pybuild.run(command)
        assert done.status == 1
        assert "fsck --repair" in done.err and "Traceback" not in done.err
    done = pybuild("fsck", "--repair")
    assert done.out.startswith("repaired: tables: they could not be read")
    assert ", 0 damaged," in done.out
    pybuild("gc")
    pybuild.assert_whole()
    assert len(pybuild("images", "--json").out.splitlines()) >= 1


def test_an_error_of_sqlite_names_the_kind_of_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    found = database._translate(error, str(tmp_path))
    assert str(found) == "the store's tables: disk I/O error (SQLITE_IOERR_FSYNC)"
    assert "dmesg" in str(found.hint)
