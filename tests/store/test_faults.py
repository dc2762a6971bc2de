"""Power cuts, kill -9, full disks, I/O errors, damaged files: the store stays intact, or reports the damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.store import store
from pybuild.store.errors import InvalidImage, NoSpace, NotFound, StoreBusy, StoreError
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.importing.archive import import_archive
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.repair import repair
from pybuild.store.maintenance.reset import reset
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.database import LOG_LIMIT, Metadata
from pybuild.store.objects.ingest import Ingest, sweep
from pybuild.store.objects.records import KeyKind
from pybuild.store.objects.schema import VERSION
from pybuild.store.store import Store
from pybuild.store.system.files import file_size
from tests.support.archives import Archive
from tests.support.limits import at_most
from tests.support.overlays import in_private_mounts, mount_tmpfs
from tests.support.stored import collect_in, new_tree
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parent.parent.parent
NAME = Reference.parse("test:1")


def archive(tmp_path: Path, *layers: bytes) -> str:
    path = tmp_path / "archive.tar"
    path.write_bytes(Archive(layers=list(layers) or [tar(entry(b"f", data=b"hello")), tar(entry(b"g"))]).data())
    return str(path)


def python(code: str, *arguments: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=CHECKOUT
    )


def damage(root: str) -> tuple[str, ...]:
    with Store(root) as opened:
        return fsck.check(opened).damage


# -- sealing


def make_layer(opened: Store, parent: int | None = None) -> int:
    changeset = opened.changesets.add([Entry(b"f", Kind.FILE)], opened.ingest.new_path())
    digest = opened.blobs.put(os.urandom(20), opened.ingest.new_path())
    opened.changesets.add_tar(changeset, None, LayerBlob(digest, digest, 20, Compression.UNCOMPRESSED))
    return opened.snapshots.add(parent, changeset)


def test_objects_lost_in_a_power_cut_are_dropped_at_the_next_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        kept = make_layer(opened)
        opened.records.add({"key": KeyKind.DEFINITION}, kept, None, "c", "{}", 1)
        opened.seal()
        lost = make_layer(opened, kept)
        opened.records.add({"lost": KeyKind.DEFINITION}, lost, kept, "c", "{}", 1)
        os.truncate(opened.changesets.toc_path(opened.snapshots.changesets(lost)[0]), 0)
    with Store(root) as opened:
        assert len(opened.snapshots.changesets(lost)) == 2  # the same boot: nothing can have been lost
    monkeypatch.setattr(store, "_boot_id", lambda: "another boot")
    with Store(root) as opened:
        assert len(opened.snapshots.changesets(kept)) == 1
        with pytest.raises(NotFound):
            opened.snapshots.parent(lost)
        assert opened.records.find("key", None) is not None
        assert opened.records.find("lost", kept) is None
        report = fsck.check(opened)
        assert report.damage == ()
        assert len(report.garbage) == 1


def test_a_tagged_image_survives_another_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        import_archive(opened, archive(tmp_path), None, 1)
    monkeypatch.setattr(store, "_boot_id", lambda: "another boot")
    with Store(root) as opened:
        image = opened.images.find("test:1")
        assert len(opened.snapshots.changesets(image.snapshot)) == 2
        assert fsck.check(opened) == fsck.Report(fsck.check(opened).checked, (), ())


def tree_of(opened: Store, snapshot: int) -> str | None:
    (changeset, *_) = opened.snapshots.changesets(snapshot)
    return opened.changesets.tree_name(changeset, "identity")


def make_tree(opened: Store, snapshot: int) -> None:
    (changeset, *_) = opened.snapshots.changesets(snapshot)
    entries = [entry._replace(offset=0) for entry in opened.changesets.toc(changeset)]
    opened.changesets.adopt_tree(changeset, "identity", new_tree(opened, entries))


@pytest.mark.parametrize("layers", [1, 20])
def test_a_seal_waits_for_trees_only_if_there_is_much_to_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        snapshot = make_layer(opened)
        for _ in range(layers - 1):
            snapshot = make_layer(opened, snapshot)
        make_tree(opened, snapshot)
        opened.seal()
    monkeypatch.setattr(store, "_boot_id", lambda: "another boot")
    with Store(root) as opened:
        assert len(opened.snapshots.changesets(snapshot)) == layers
        assert (tree_of(opened, snapshot) is None) == (layers == 1)
        assert fsck.check(opened).damage == ()


@pytest.mark.parametrize("lost", ["nothing", "blobs", "tocs", "both"])
def test_the_next_boot_drops_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        kept = make_layer(opened)
        opened.records.add({"key": KeyKind.DEFINITION}, kept, None, "c", "{}", 1)
        before = {part: set(os.listdir(f"{root}/{part}")) for part in ("blobs/sha256", "tocs")}
        snapshot = make_layer(opened, kept)
        make_tree(opened, snapshot)
        opened.records.add({"new": KeyKind.DEFINITION}, snapshot, kept, "c", "{}", 1)
    for part, name in (("blobs", "blobs/sha256"), ("tocs", "tocs")):
        if lost in (part, "both"):
            (path,) = set(os.listdir(f"{root}/{name}")) - before[name]
            os.chmod(f"{root}/{name}/{path}", 0o600)
            os.truncate(f"{root}/{name}/{path}", 10)
    monkeypatch.setattr(store, "_boot_id", lambda: "another boot")
    with Store(root) as opened:
        assert opened.records.find("key", None) is not None
        assert (opened.records.find("new", kept) is not None) == (lost == "nothing")
        assert fsck.check(opened).damage == ()
        if lost == "nothing":
            assert tree_of(opened, snapshot) is None  # an unsealed tree cannot be checked
    monkeypatch.setattr(store, "_boot_id", lambda: "a third one")
    with Store(root) as opened:
        assert (opened.records.find("new", kept) is not None) == (lost == "nothing")


def only_tree(opened: Store) -> str:
    """A changeset that has a tree and no tar."""
    return opened.changesets.adopt_with_tree(Toc.write(opened.ingest.new_path(), []), "identity", new_tree(opened, []))


@pytest.mark.parametrize("sealed", [False, True])
def test_a_seal_waits_for_a_tree_that_cannot_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        below = make_layer(opened)
        snapshot = opened.snapshots.add(below, only_tree(opened))
        opened.records.add({"key": KeyKind.DEFINITION}, snapshot, below, "c", "{}", 1)
        if sealed:
            opened.seal()
    for boot in ("another boot", "a third one"):
        monkeypatch.setattr(store, "_boot_id", lambda boot=boot: boot)
        with Store(root) as opened:
            assert (opened.records.find("key", below) is not None) == sealed
            assert (tree_of(opened, below) is None) and fsck.check(opened).damage == ()
            if sealed:
                assert opened.snapshots.required_id_maps(snapshot) == frozenset({"identity"})


def test_losing_a_tar_that_was_made_from_a_tree_loses_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        snapshot = opened.snapshots.add(None, only_tree(opened))
        opened.seal()
        digest = opened.blobs.put(b"a tar", opened.ingest.new_path())
        blob = LayerBlob(digest, digest, 5, Compression.UNCOMPRESSED)
        opened.changesets.add_tar(opened.snapshots.changesets(snapshot)[0], None, blob)
        assert opened.snapshots.required_id_maps(snapshot) is None
        os.chmod(opened.blobs.path(digest), 0o600)
        os.truncate(opened.blobs.path(digest), 0)
    monkeypatch.setattr(store, "_boot_id", lambda: "another boot")
    with Store(root) as opened:
        assert opened.snapshots.required_id_maps(snapshot) == frozenset({"identity"})
        assert fsck.check(opened).damage == ()


def test_a_table_of_contents_is_not_sealed_before_a_snapshot_stands_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sync of a file and the mark another process can replace the file."""
    root = str(tmp_path / "s")
    with Store(root) as opened:
        changeset = only_tree(opened)
        opened.seal()
        opened.changesets.replace_toc(changeset, Toc.write(opened.ingest.new_path(), [Entry(b"f", Kind.FILE)]))
        assert [entry.path for entry in opened.changesets.toc(changeset)] == [b"f"]
        opened.seal_if_due()
        os.truncate(opened.changesets.toc_path(changeset), 10)  # its bytes were never written to the disk
    monkeypatch.setattr(store, "_boot_id", lambda: "another boot")
    with Store(root) as opened:
        assert opened.metadata.one("SELECT 1 FROM changesets WHERE id = ?", changeset) is None
        assert fsck.check(opened).damage == ()


# -- kill -9

KILLED = """
import os, signal, sys
from pybuild.store.store import Store
from pybuild.store.importing.archive import import_archive
root, path, function, count = sys.argv[1:]
left = int(count)
def before(real):
    def call(*arguments, **options):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments, **options)
    return call
setattr(os, function, before(getattr(os, function)))
with Store(root) as store:
    import_archive(store, path, None, 1)
print("done")
"""


@pytest.mark.parametrize("function", ["rename", "chmod", "mkdir"])
def test_a_process_killed_at_any_point_loses_only_its_own_work(tmp_path: Path, function: str) -> None:
    path, root = archive(tmp_path), str(tmp_path / "s")
    with Store(root) as opened:
        before = make_layer(opened)
        opened.seal()
    for count in range(20):
        done = python(KILLED, root, path, function, str(count))
        with Store(root) as opened:
            assert os.listdir(f"{root}/ingest") == [os.path.basename(opened.ingest.path)]
            assert fsck.check(opened).damage == ()
            assert len(opened.snapshots.changesets(before)) == 1
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    assert done.stdout == "done\n"
    with Store(root) as opened:
        assert len(opened.snapshots.changesets(opened.images.find("test:1").snapshot)) == 2


def test_work_in_progress_is_removed_after_its_process_ends(tmp_path: Path) -> None:
    parent = str(tmp_path)
    alive = Ingest(parent)
    code = "import os, sys; from pybuild.store.objects.ingest import Ingest; i = Ingest(sys.argv[1]); d = i.new_directory(); open(d + '/f', 'w'); os.chmod(d, 0); os._exit(0)"
    assert python(code, parent).returncode == 0
    assert len(os.listdir(parent)) == 2
    assert sweep(parent) == []
    assert os.listdir(parent) == [os.path.basename(alive.path)]
    assert sweep(parent) == []
    alive.close()
    alive.close()
    assert os.listdir(parent) == []


# -- a full disk, a broken disk

IMPORT = """
import sys
from pybuild.store.store import Store
from pybuild.store.errors import StoreError
from pybuild.store.importing.archive import import_archive
try:
    with Store(sys.argv[1]) as store:
        import_archive(store, sys.argv[2], None, 1)
except (StoreError, OSError) as error:
    print(type(error).__name__, error)
    sys.exit(7)
"""


@pytest.mark.parametrize(
    "options", ["size=300k", "size=600k", "size=1m", "size=1600k", "nr_inodes=6", "nr_inodes=12", "nr_inodes=18"]
)
def test_a_full_disk_is_reported_and_the_store_stays_intact(tmp_path: Path, options: str) -> None:
    path = archive(tmp_path, tar(entry(b"small")), tar(entry(b"noise", data=os.urandom(1_500_000))))
    place = tmp_path / "disk"
    place.mkdir()

    def fill() -> object:
        mount_tmpfs(str(place), options)
        root = f"{place}/s"
        try:
            with Store(root) as opened:
                import_archive(opened, path, None, 1)
            return "no error"
        except NoSpace as error:
            said = str(error)
        subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=0", place], check=True)
        with Store(root) as opened:
            whole = fsck.check(opened).damage
            images = len(opened.images.all())
            import_archive(opened, path, None, 1)
            return (said, whole, images, fsck.check(opened).damage, len(opened.images.all()))

    found = in_private_mounts(fill)
    assert isinstance(found, tuple), found
    assert "space" in found[0]
    assert found[1:] == ((), 0, (), 1)


def directory_was_synced(line: str, trace: str) -> bool:
    """Whether a line of a trace is the fdatasync of a descriptor that was last opened for the store's directory."""
    fd = line.partition("fdatasync(")[2].partition(")")[0]
    opened = [found for found in trace[: trace.index(line)].splitlines() if found.endswith(f"= {fd}") and "openat" in found]
    return bool(fd) and bool(opened) and '/s", O_RDONLY' in opened[-1]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("write", "ENOSPC"),
        ("write", "EDQUOT"),
        ("write", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EDQUOT"),
        ("pwrite64", "EIO"),
        ("rename", "EIO"),
        ("syncfs", "EIO"),
        ("fsync,fdatasync", "EIO"),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_disk_error_is_reported_and_the_store_stays_intact(
    tmp_path: Path, call: str, error: str, number: int
) -> None:
    path, root = archive(tmp_path), str(tmp_path / "s")
    with Store(root) as opened:
        make_layer(opened)
        opened.seal()
    trace = ("strace", "-f", "-o", str(tmp_path / "trace"), "-e", f"inject={call}:error={error}:when={number}")
    done = python(IMPORT, root, path, command=trace)
    trace_text = (tmp_path / "trace").read_text()
    injected = [line for line in trace_text.splitlines() if "(INJECTED)" in line]
    # SQLite ignores an error when it syncs the directory of its log: the next commit syncs the file itself.
    minded = [line for line in injected if not directory_was_synced(line, trace_text)]
    assert "Traceback" not in done.stderr
    if minded:
        assert done.returncode == 7, done.stdout + done.stderr
        # SQLite hides EDQUOT, and any error of enlarging the index of its log: what is said then is found by trying, and
        # this disk is not full.
        hidden = "SQLITE_IOERR_SHMSIZE" in done.stdout
        if done.stdout and not hidden and (error == "ENOSPC" or (call, error) == ("write", "EDQUOT")):
            assert done.stdout.startswith("NoSpace ")
    else:
        assert done.returncode == 0
    assert damage(root) == ()
    with Store(root) as opened:
        import_archive(opened, path, None, 1)
        assert fsck.check(opened).damage == ()


# -- fsck


def blob(root: str) -> str:
    return max((str(path) for path in Path(root, "blobs/sha256").iterdir()), key=os.path.getsize)


def any_toc(root: str) -> str:
    return str(sorted(Path(root, "tocs").iterdir())[0])


def flip(path: str) -> None:
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 1,)))


DAMAGE: dict[str, tuple[Callable[[str], object], str]] = {
    "a flipped bit in a blob": (lambda root: flip(blob(root)), "do not match the digest"),
    "a truncated blob": (lambda root: os.truncate(blob(root), 10), "do not match the digest"),
    "a longer blob": (lambda root: os.truncate(blob(root), 1 << 20), "do not match the digest"),
    "a missing blob": (lambda root: os.unlink(blob(root)), "missing on the disk"),
    "a flipped bit in a table of contents": (lambda root: flip(any_toc(root)), "damaged table of contents"),
    "a truncated table of contents": (lambda root: os.truncate(any_toc(root), 30), "damaged table of contents"),
    "an empty table of contents": (lambda root: os.truncate(any_toc(root), 0), "damaged table of contents"),
    "a missing table of contents": (lambda root: os.unlink(any_toc(root)), "is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_fsck_finds_damage(tmp_path: Path, harm: Callable[[str], object], message: str) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        import_archive(opened, archive(tmp_path, tar(entry(b"noise", data=os.urandom(5000)))), None, 1)
    assert damage(root) == ()
    harm(root)
    found = damage(root)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize("harm", [harm for harm, _ in DAMAGE.values()], ids=DAMAGE.keys())
def test_a_repaired_store_has_no_damage_and_takes_the_image_again(tmp_path: Path, harm: Callable[[str], object]) -> None:
    root = str(tmp_path / "s")
    data = archive(tmp_path, tar(entry(b"noise", data=os.urandom(5000))))
    with Store(root) as opened:
        ((digest, _),) = import_archive(opened, data, None, 1)
    harm(root)
    with Store(root) as opened:
        assert len(repair(opened)) >= 1
        assert fsck.check(opened).damage == ()
        assert repair(opened) == []
        assert import_archive(opened, data, None, 2)[0][0] == digest
        layer = opened.images.find(str(digest)).manifest.layers[0]
        assert opened.blobs.read(layer.digest, at_most(1 << 20))
        assert fsck.check(opened).damage == ()


def test_a_damaged_table_of_contents_is_read_again_from_its_blob(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        ((digest, _),) = import_archive(opened, archive(tmp_path, tar(entry(b"f"))), None, 1)
        os.truncate(any_toc(root), 0)
        (line,) = repair(opened)
        assert line.endswith("will be read again from its blob")
        assert opened.images.all() == [digest]


def test_repair_wants_the_store_for_itself(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened, Store(root):
        with pytest.raises(StoreBusy):
            repair(opened)
        with Store(root):
            pass  # the shared lock is still held, and others can share it


def test_repair_mends_what_a_kill_between_two_commits_left_in_older_stores(tmp_path: Path) -> None:
    """A changeset with neither a tar nor a tree, a tar without a blob, and a name without an image."""
    with Store(str(tmp_path / "s")) as opened:
        import_archive(opened, archive(tmp_path), None, 1)
        lost = opened.changesets.add([], opened.ingest.new_path())
        opened.snapshots.add(None, lost)
        with opened.metadata.transaction() as db:
            db.execute("INSERT INTO tars SELECT id, 5, ? FROM changesets LIMIT 1", (str(Digest.of(b"gone")),))
            db.execute("DELETE FROM images")
        assert len(fsck.check(opened).damage) == 2
        assert [line.split(":")[0] for line in repair(opened)] == [f"layer {lost}", "name docker.io/library/test"]
        assert fsck.check(opened).damage == ()
        assert opened.metadata.one("SELECT count(*) FROM tars WHERE clamp = 5") == (0,)


def test_fsck_finds_rows_that_refer_to_nothing(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        import_archive(opened, archive(tmp_path), None, 1)
        (digest,) = opened.images.all()
        with opened.metadata.transaction() as db:
            db.execute("DELETE FROM images")
        assert fsck.check(opened).damage == (
            f"tag docker.io/library/test:1 refers to {digest}, which is not an image of the store",
        )
        changeset = opened.changesets.add([], opened.ingest.new_path())
        opened.changesets.adopt_tree(changeset, "map", new_tree(opened, []))
        name = opened.changesets.tree_name(changeset, "map")
        os.rename(f"{root}/trees/{name}", tmp_path / "elsewhere")
        assert f"tree {name} of changeset {changeset} is missing" in fsck.check(opened).damage


@pytest.mark.parametrize("place", ["blobs/sha256/" + "0" * 64, "blobs/sha512/" + "0" * 128, "tocs/x", "trees/x"])
def test_fsck_lists_files_without_a_row(tmp_path: Path, place: str) -> None:
    with Store(str(tmp_path / "s")) as opened:
        path = tmp_path / "s" / place
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        assert fsck.check(opened) == fsck.Report(0, (), (place,))


def test_a_file_without_a_row_is_replaced_and_not_trusted(tmp_path: Path) -> None:
    with Store(str(tmp_path / "s")) as opened:
        path = opened.blobs.path(Digest.of(b"hello"))
        os.makedirs(os.path.dirname(path))
        Path(path).write_bytes(b"jello")
        assert opened.blobs.read(opened.blobs.put(b"hello", opened.ingest.new_path()), at_most(9)) == b"hello"
        assert fsck.check(opened).damage == ()


# -- opening


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    root = tmp_path / "s"
    Store(str(root)).close()
    (root / "metadata.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="not a database"):
        Store(str(root))


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "s"
    with Store(str(root)) as opened, opened.metadata.transaction() as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreError, match=f"version {VERSION + 1}"):
        Store(str(root))


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    tables = Metadata(str(tmp_path / "db"), "boot")
    with pytest.raises(KeyError), tables.transaction() as db:
        db.execute("INSERT INTO parses VALUES ('a', 'b')")
        raise KeyError
    assert tables.all("SELECT * FROM parses") == []
    with tables.durable_transaction() as db:
        db.execute("INSERT INTO parses VALUES ('a', 'b')")
    assert len(tables.all("SELECT * FROM parses")) == 1
    with pytest.raises(StoreError, match="no such table"):
        tables.all("SELECT * FROM absent")
    tables.close()


def test_a_directory_that_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(StoreError, match="is not a store: it holds 'precious'"):
        Store(str(tmp_path))
    with pytest.raises(StoreError, match="is not a store"):
        reset(str(tmp_path))
    assert os.listdir(tmp_path) == ["precious"]


def test_a_store_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "s"
    Store(str(root)).close()
    root.chmod(0o777)
    with pytest.raises(StoreError, match="can be written by others"):
        Store(str(root))
    root.chmod(0o700)
    os.chown(root, 1, 1)
    with pytest.raises(StoreError, match="belongs to user 1"):
        Store(str(root))


def test_a_store_in_use_is_not_reset_and_an_unused_one_is_removed_completely(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        import_archive(opened, archive(tmp_path), None, 1)
        with Store(root):
            pass  # several processes can use it at the same time
        with pytest.raises(StoreBusy):
            reset(root)
    reset(root)
    assert not os.path.exists(root)
    reset(root)


# -- SQLite's log at the end of a process

ONE_COMMAND = """
import os, sys
from pybuild.store.importing.archive import import_archive
from pybuild.store.store import Access, Store
from pybuild.store.system import process_end
process_end.at_once = True
with Store(sys.argv[1], Access[sys.argv[3]]) as store:
    import_archive(store, sys.argv[2], None, 1)
    if sys.argv[4:]:
        with store.metadata.transaction() as db:
            db.execute("INSERT INTO parses VALUES ('key', zeroblob(?))", (int(sys.argv[4]),))
os._exit(0)
"""


def run_command(root: str, tmp_path: Path, access: str = "WRITE", size: int = 0) -> None:
    done = python(ONE_COMMAND, root, archive(tmp_path), access, *([str(size)] if size else []))
    assert done.returncode == 0, done.stderr


def log_size(root: str) -> int:
    return file_size(f"{root}/metadata.db-wal")


def images(root: str) -> int:
    with Store(root) as opened:
        assert fsck.check(opened).damage == ()
        return len(opened.images.all())


def test_the_end_of_a_process_leaves_the_log_and_the_next_one_reads_it(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    run_command(root, tmp_path)
    assert log_size(root) > os.path.getsize(f"{root}/metadata.db")
    assert images(root) == 1
    assert log_size(root) == 0  # a program that goes on closes the tables


def test_the_log_of_processes_is_bounded(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    run_command(root, tmp_path, size=LOG_LIMIT)
    assert log_size(root) == 0
    assert images(root) == 1


def test_what_frees_space_leaves_no_log(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    run_command(root, tmp_path, "FREE")
    assert log_size(root) == 0


def test_the_log_stays_while_another_process_has_the_store_open(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    with Store(root) as opened:
        run_command(root, tmp_path, size=LOG_LIMIT)
        assert log_size(root) > LOG_LIMIT
        assert len(opened.images.all()) == 1
    assert log_size(root) == 0


def test_a_copy_of_a_store_has_what_is_in_the_log(tmp_path: Path) -> None:
    root, copy = str(tmp_path / "s"), tmp_path / "copy"
    run_command(root, tmp_path)
    copy.mkdir()
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as process:
        subprocess.run(["tar", "-C", copy, "-x"], stdin=process.stdout, check=True)
    subprocess.run(["cp", "-r", copy, tmp_path / "again"], check=True)
    (tmp_path / "again/metadata.db-shm").unlink()
    assert [images(str(place)) for place in (copy, tmp_path / "again", root)] == [1, 1, 1]


def test_a_copy_without_the_log_says_that_the_tables_are_lost(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    run_command(root, tmp_path)
    os.unlink(f"{root}/metadata.db-wal")
    with pytest.raises(StoreError, match="tables are lost"):
        Store(root)


def test_a_reset_that_is_killed_leaves_no_rows_of_the_log(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    run_command(root, tmp_path)

    def killed(_parent: str, _name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reset(root, killed)
    assert log_size(root)
    with Store(root) as opened:
        assert opened.images.all() == []
        collect_in(opened)
        assert fsck.check(opened).garbage == ()


def test_deep_and_wide_trees_are_removed(tmp_path: Path) -> None:
    ingest = Ingest(str(tmp_path))
    fd = os.open(ingest.new_directory(), os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=fd)
        os.mkdir("e", 0, dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    for i in range(1500):
        os.mkdir(f"w{i}", dir_fd=fd)
        os.mkdir(f"w{i}/x", dir_fd=fd)
        os.symlink("/", f"w{i}/x/root", dir_fd=fd)
    os.close(fd)
    ingest.close()
    assert os.listdir(tmp_path) == []


def test_a_record_serves_on_its_own_parent_only_and_the_first_one_wins(tmp_path: Path) -> None:
    with Store(str(tmp_path / "s")) as opened:
        base, other = make_layer(opened), make_layer(opened)
        one, two = make_layer(opened, base), make_layer(opened, base)
        first = opened.records.add({"k": KeyKind.DEFINITION, "t": KeyKind.TEXT}, one, base, "c", "{}", 1)
        assert opened.records.add({"k": KeyKind.DEFINITION, "k2": KeyKind.CONTENT}, two, base, "c", "{}", 2) == first
        assert opened.records.find("k", base) == first == opened.records.find("k2", base)
        assert opened.records.find("k", other) is None
        assert opened.records.find("t", base) is None and opened.records.has_key("t")
        assert not opened.records.has_key("never")
        again = opened.records.add({"k": KeyKind.DEFINITION}, two, base, "c", "{}", 3, replace=True)
        assert opened.records.find("k", base) == again != first
        opened.records.add_key("more", KeyKind.DEFINITION, first)
        assert opened.records.find("more", base) == first
        opened.records.mark_used([first, again], 9)
        assert {row[0] for row in opened.metadata.all("SELECT last_used FROM records")} == {9}


def test_the_first_tree_of_a_changeset_counts(tmp_path: Path) -> None:
    with Store(str(tmp_path / "s")) as opened:
        changeset = opened.changesets.add([], opened.ingest.new_path())
        mine, theirs = new_tree(opened, []), new_tree(opened, [])
        winner = opened.changesets.adopt_tree(changeset, "m", mine)
        assert opened.changesets.adopt_tree(changeset, "m", theirs) == winner
        assert opened.changesets.adopt_tree(changeset, "other map", theirs) != winner
        assert fsck.check(opened).garbage == ()
        with pytest.raises(InvalidImage):
            opened.images.find("Not A Name")
