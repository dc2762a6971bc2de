"""gc beside another gc and beside processes that come and go between its transactions."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.store.formats.reference import Reference
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.checks import StoreChecks
from pybuild.store.objects.records import KeyKind
from pybuild.store.store import Store
from tests.support.stored import add_image, add_layer, add_record, collect_in, is_whole

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pybuild.store.maintenance.gc import Freed

APP = Reference.parse("app:1")


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(str(tmp_path_factory.mktemp("s") / "s")) as opened:
        yield opened


def between_transactions(store: Store, action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `action` happen before the second transaction that begins in this store from now on."""
    begin, count = store.metadata.transaction, 0

    @contextmanager
    def transaction() -> Iterator[sqlite3.Connection]:
        nonlocal count
        count += 1
        if count == 2:
            action()
        with begin() as db:
            yield db

    monkeypatch.setattr(store.metadata, "transaction", transaction)


def test_a_gc_does_not_end_the_wait_of_another_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a second gc has condemned in the middle of the first one is needed by a build that came in between."""
    snapshot = add_record(store, "key", None, 1)
    builds: list[Store] = []

    def a_build_and_another_gc() -> None:
        builds.append(Store(store.root))
        assert builds[0].records.find("key", None) is not None
        with Store(store.root) as other:
            assert collect_in(other, 0).waiting

    collect_in(store)  # measures the trees, which is a transaction of its own
    between_transactions(store, a_build_and_another_gc, monkeypatch)
    collect_in(store)
    with builds[0] as build:
        assert build.snapshots.parent(snapshot) is None


def test_what_an_image_reaches_is_condemned_anew(store: Store) -> None:
    """A process that found the image does not wait for the processes of an older condemnation to end."""
    with Store(store.root) as pulling:
        digest = add_image(pulling, snapshot := add_layer(pulling))
        image = pulling.images.get(digest)
        pulling.images.untag([], digest, 1)
        collect_in(store)  # condemns all of it, and waits for `pulling`
        pulling.images.tag([APP], image, 2)
    with Store(store.root) as build:
        assert build.images.find("app:1").snapshot == snapshot
        store.images.untag([APP], digest, 3)
        assert collect_in(store).layers == 0
        assert build.snapshots.parent(snapshot) is None
        build.images.tag([APP], image, 4)
    assert is_whole(store)


def test_a_record_spares_what_it_reaches(store: Store) -> None:
    with Store(store.root) as making:
        snapshot = add_layer(making, below := add_layer(making))
        collect_in(store)
        making.records.add({"key": KeyKind.DEFINITION}, snapshot, below, "key", "{}", 1)
    with Store(store.root) as build:
        assert build.records.find("key", below) is not None
        collect_in(store, 0)
        assert build.snapshots.parent(snapshot) == below
        assert len(build.snapshots.changesets(snapshot)) == 2


def test_a_name_makes_a_removed_image_an_image_again(store: Store) -> None:
    digest = add_image(store, add_layer(store), "app:1")
    image = store.images.find("app:1")
    with Store(store.root) as other:
        assert other.images.untag([APP], digest, 2)
        collect_in(other)
    store.images.tag([Reference.parse("other:1")], image, 3)
    assert store.images.find("other:1").manifest_digest == digest
    assert is_whole(store)


@pytest.mark.parametrize("check", ["blob", "toc", "tree"])
def test_what_gc_removes_while_fsck_reads_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    root = str(tmp_path / "s")
    with Store(root) as store:
        add_layer(store)
        add_layer(store)
        with Store(root):
            collect_in(store)  # condemns, and waits for the other one
    original = getattr(StoreChecks, check)
    freed: list[Freed] = []

    def check_later(self: StoreChecks, *arguments: Any) -> str:
        if not freed:
            with Store(root) as other:
                freed.append(collect_in(other))
        return str(original(self, *arguments))

    monkeypatch.setattr(StoreChecks, check, check_later)
    with Store(root) as store:
        report = fsck.check(store)
    assert freed[0].layers == 2
    assert report.damage == () and report.garbage == ()


def test_a_file_whose_row_is_about_to_be_written_is_not_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path / "s")
    renamed, written = threading.Event(), threading.Event()

    def write() -> None:
        with Store(root) as other, other.metadata.transaction():
            other.blobs.put(b"data", other.ingest.new_path())
            renamed.set()
            written.wait(30)

    with Store(root) as store:
        writer = threading.Thread(target=write)
        writer.start()
        renamed.wait(30)
        begin = store.metadata.transaction

        def transaction() -> AbstractContextManager[sqlite3.Connection]:
            written.set()  # the writer goes on when the check waits for it
            return begin()

        monkeypatch.setattr(store.metadata, "transaction", transaction)
        report = fsck.check(store)
        written.set()
        writer.join()
    assert report.garbage == ()
