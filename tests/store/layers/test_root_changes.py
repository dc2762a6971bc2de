"""The changes of a step in a real directory: the same layers as in an overlay, and the directory stays what the View says."""

# A lambda with several calls lists them in a tuple.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import io
import os
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import UnsafePath
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.changes import changes
from pybuild.store.layers.merged import merged
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.root_changes import RootChanges, not_on_disk, remember, root_changes
from pybuild.store.layers.root_directory import prepare_root, tidy_root
from pybuild.store.layers.root_facts import Facts, look, settle
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.view import View
from pybuild.store.layers.write import WrittenLayer, write_layer
from tests.store.layers.test_changes import BASE, CASES, Stack, opened, replace, there_and_back
from tests.support.file_operations import OLD, OPERATIONS, Operation, perform, rewrite
from tests.support.overlays import overlaid
from tests.support.tars import directory, entry, hardlink, listing, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pybuild.store.formats.toc import Links
    from pybuild.store.system.streams import Readable

CLAMP = OLD + 100  # what a step changes now has this time in its layer
NOTHING = Toc.of([])


@dataclass
class Layer:
    """A layer as `prepare_root` takes it, with a tree or with a tar."""

    toc: Toc
    tree: str | None
    data: bytes

    def tar(self) -> AbstractContextManager[Readable]:
        return self._opened()

    @contextmanager
    def _opened(self) -> Iterator[Readable]:
        yield io.BytesIO(self.data)


class Root:
    """A root in a real directory beside a stack of overlays."""

    def __init__(self, place: Path) -> None:
        self.stack = Stack(place, [], [])
        self.layers: list[Layer] = []  # topmost first
        self.root = place / "root"
        self.root.mkdir()
        self.fd = opened(self.root)
        self.scratch = opened(place)
        self.facts: Facts | None = None
        self.new: list[Layer] = []
        self.separate: set[bytes] = set()

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.scratch)

    def add(self, data: bytes, *, tree: bool) -> None:
        self.stack.add(data)
        layer = Layer(self.stack.tocs[0], self.stack.lowers[0] if tree else None, data)
        self.layers.insert(0, layer)
        self.new.insert(0, layer)

    def prepare(self, scaffold: Toc = NOTHING) -> None:
        view = View(self.stack.tocs)
        self.facts = prepare_root(self.fd, self.new, self.facts, scaffold, view, self.scratch, self.separate)
        self.facts = Facts.decode(self.facts.encode())
        self.new = []

    def renew(self, separate: list[bytes]) -> None:
        """Begin with an empty root, in which these names have files of their own."""
        assert not self.separate & set(separate)
        self.separate |= set(separate)
        os.close(self.fd)
        shutil.rmtree(self.root)
        self.root.mkdir()
        self.fd = opened(self.root)
        self.facts, self.new = None, list(self.layers)

    def compare(self, scaffold: Toc = NOTHING) -> RootChanges:
        assert self.facts is not None
        return root_changes(self.fd, View(self.stack.tocs), self.facts, scaffold)

    def step(self, action: Callable[[Path], object], scaffold: Toc = NOTHING) -> tuple[WrittenLayer, bytes, RootChanges]:
        """Run `action` in the root; return the layer, its tar, and what was found."""
        self.prepare(scaffold)
        action(self.root)
        found = self.compare(scaffold)
        if found.shared:  # as the builder does: again, in a new root
            self.renew(found.shared)
            return self.step(action, scaffold)
        out = io.BytesIO()
        with TreeContent(self.fd) as content:
            layer = write_layer(found.changes.entries, content, out, Compression.UNCOMPRESSED, clamp=CLAMP)
        assert self.facts is not None
        self.facts = tidy_root(self.fd, found, self.facts, scaffold, View(self.stack.tocs))
        assert self.facts.files == look(self.fd)
        return layer, out.getvalue(), found


def in_overlay(stack: Stack, action: Callable[[Path], object], scaffold: Toc = NOTHING) -> tuple[WrittenLayer, Links]:
    """The layer of the same action in an overlay, and its links."""
    place = stack.place / f"upper{len(os.listdir(stack.place))}"
    place.mkdir()
    root = View(stack.tocs).lookup(b"")
    assert root is not None
    os.chown(place, root.uid, root.gid)
    place.chmod(root.mode)
    os.utime(place, (root.mtime, root.mtime))
    overlaid(stack.lowers, str(place), f"{place}-mount", lambda merged: action(Path(merged)))
    fd = opened(place)
    try:
        entries, links = changes(fd, View(stack.tocs), scaffold)
        with TreeContent(fd) as content:
            return write_layer(entries, content, io.BytesIO(), Compression.UNCOMPRESSED, clamp=CLAMP), links
    finally:
        os.close(fd)


def clamped(entries: tuple[Entry, ...]) -> list[Entry]:
    return [entry._replace(mtime=min(entry.mtime, CLAMP)) for entry in entries]


def without_times(path: Path | str) -> dict[str, tuple[object, ...]]:
    """What is in a directory, without times of what is new, hard links, and attributes that no layer holds."""
    return {
        name: (*row[:4], row[4] if row[4] <= CLAMP else CLAMP, row[5], row[6].get("security.capability"))  # type: ignore[operator,attr-defined]
        for name, row in listing(path).items()
    }


def assert_is_what_the_view_says(root: Root) -> None:
    """A root that is made anew from the layers is the same."""
    anew = root.stack.place / f"anew{len(os.listdir(root.stack.place))}"
    anew.mkdir()
    fd = opened(anew)
    prepare_root(fd, root.layers, None, NOTHING, View(root.stack.tocs), root.scratch)
    os.close(fd)
    assert without_times(root.root) == without_times(anew)
    visible: dict[bytes, Any] = {path: e for path, (_, e) in merged(root.stack.tocs).entries.items() if path}
    assert visible == {e.path: e for e in View(root.stack.tocs).walk(b"")}


@pytest.fixture(params=["tree", "tar"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Root]:
    made = Root(tmp_path)
    made.add(BASE, tree=request.param == "tree")
    yield made
    made.close()


@pytest.mark.parametrize(("action", "expected"), CASES.values(), ids=CASES.keys())
def test_a_layer_is_that_of_an_overlay(root: Root, action: Callable[[Path], object], expected: list[str]) -> None:
    there, links = in_overlay(root.stack, action)
    here, data, found = root.step(action)
    assert clamped(here.entries) == clamped(there.entries)
    assert here.diff_id == there.diff_id
    # Here a file of the image keeps its other names, and in an overlay only the one that was used.
    here_links = [set(group) for group in found.changes.links]
    assert len(here_links) == len(links)
    assert all(set(group) <= more for group, more in zip(links, here_links, strict=True))
    root.add(data, tree=False)
    root.new = []  # it is there
    assert_is_what_the_view_says(root)


MORE_CASES: dict[str, Callable[[Path], object]] = {
    "the mode of a device": lambda r: (r / "dev").chmod(0o600),
    "a device written to": lambda r: (r / "dev").write_bytes(b"data"),
    "a device replaced": lambda r: replace(r / "dev", Path.touch),
    "a device moved": lambda r: (r / "dev").rename(r / "null"),
    "another name of a device": lambda r: os.link(r / "dev", r / "null"),
    "one of two names written": lambda r: rewrite(r / "g", b"G"),
    "both names written": lambda r: [rewrite(r / name, b"G") for name in "fg"],
    "both names given away": lambda r: [os.chown(r / name, 7, 7) for name in "fg"],
    "one of two names removed": lambda r: (r / "f").unlink(),
    "a name more": lambda r: os.link(r / "g", r / "d/g"),
    "a link swapped with a directory": lambda r: (
        replace(r / "l", lambda p: (p.mkdir(), rewrite(p / "a", b"aaa"))), replace(r / "d", lambda p: p.symlink_to("l"))
    ),
    "a hole": lambda r: os.truncate(r / "f", 300_000),
    "a large file": lambda r: rewrite(r / "large", bytes(range(256)) * 5000),
    "everything removed": lambda r: [replace(p, lambda p: None) for p in r.iterdir()],
    "a directory without permissions": lambda r: ((r / "n").mkdir(), (r / "n/x").touch(), (r / "n").chmod(0)),
    "content replaced by a link to it": lambda r: replace(r / "f", lambda p: p.symlink_to("g")),
    "size and time kept, content not": lambda r: rewrite(r / "d/b", b"BBB"),
}  # fmt: skip


@pytest.mark.parametrize("action", MORE_CASES.values(), ids=MORE_CASES.keys())
def test_more_layers_are_those_of_an_overlay(root: Root, action: Callable[[Path], object]) -> None:
    test_a_layer_is_that_of_an_overlay(root, action, [])


@pytest.mark.parametrize("name", [".wh.bin", "d/.wh.a"])
def test_a_file_with_the_name_of_a_whiteout_is_refused(root: Root, name: str) -> None:
    root.prepare()
    (root.root / name).touch()
    with pytest.raises(UnsafePath, match=r"\.wh\. cannot be stored"):
        root.compare()


def test_mount_points_come_and_go(root: Root) -> None:
    scaffold = Toc.of(read_layer(io.BytesIO(
        tar(directory(b"./", mtime=OLD), directory(b"d/sub/x/", mtime=OLD), directory(b"proc/", mtime=OLD),
            directory(b"run/", mtime=OLD), entry(b"etc/resolv.conf", mtime=OLD))
    ), View(root.stack.tocs)))  # fmt: skip

    def action(path: Path) -> None:
        assert (path / "proc").is_dir()
        assert (path / "etc/resolv.conf").read_bytes() == b""
        assert {path.stat().st_mtime_ns, (path / "d/sub").stat().st_mtime_ns} == {OLD * 10**9}
        there_and_back(path / "proc")
        (path / "run/new").touch()
        (path / "f").unlink()

    layer, data, _ = root.step(action, scaffold)
    assert [(e.path, e.kind) for e in layer.entries] == [
        (b"f", Kind.WHITEOUT), (b"run", Kind.DIRECTORY), (b"run/new", Kind.FILE)
    ]  # fmt: skip
    assert not (root.root / "proc").exists()
    assert not (root.root / "etc").exists()
    root.add(data, tree=False)
    root.new = []
    assert_is_what_the_view_says(root)
    layer, _, _ = root.step(lambda path: shutil.rmtree(path / "etc"), scaffold)
    assert layer.entries == ()


def test_a_change_in_the_tick_of_the_facts_is_found(root: Root) -> None:
    """Facts that were not settled prove nothing of a file that is as new as they are, whatever the clock says."""
    root.prepare()
    assert root.facts is not None
    began = max(fact[-1] for fact in root.facts.files.values())
    unsettled = Facts(root.facts.files, root.facts.births, began)
    found = root_changes(root.fd, View(root.stack.tocs), unsettled, NOTHING)
    newest = [path for path, fact in root.facts.files.items() if fact[-1] == began]
    assert newest
    assert set(newest) <= set(found.looked_at)
    assert found.changes.entries == []
    assert root.facts.began > began


def test_facts_are_settled_by_the_clock_of_the_filesystem(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    fd = opened(tmp_path)
    facts = settle(Facts(look(fd)), fd)
    rewrite(tmp_path / "f", b"")
    os.close(fd)
    assert facts.began > facts.files[b"f"][-1]
    assert (tmp_path / "f").lstat().st_ctime_ns >= facts.began
    assert os.listdir(tmp_path) == ["f"]


def test_unchanged_files_are_not_read(root: Root) -> None:
    root.prepare()
    rewrite(root.root / "d/a", b"new")
    found = root.compare()
    assert found.looked_at == [b"d/a"]
    assert [entry.path for entry in found.changes.entries] == [b"d", b"d/a"]


def test_paths_to_leave_alone_are_neither_compared_nor_removed(tmp_path: Path) -> None:
    for name in ("mine/f", "mine/g", "yours/f", "d/yours/f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        rewrite(tmp_path / name, b"x")
    tmp_path.chmod(0o755)
    fd, scratch = opened(tmp_path), opened(tmp_path.parent)
    entries = [Entry(b"mine", Kind.DIRECTORY, 0o755), Entry(b"mine/f", Kind.FILE), Entry(b"mine/g", Kind.FILE)]
    alone = frozenset((b"yours", b"d/yours"))
    facts = settle(remember(fd, not_on_disk(entries), alone), scratch)
    assert set(facts.files) == {b"", b"mine", b"mine/f", b"mine/g", b"d"}
    shutil.rmtree(tmp_path / "yours")
    rewrite(tmp_path / "d/yours/f", b"changed")
    (tmp_path / "mine/g").unlink()
    found = root_changes(fd, View([Toc.of(entries)]), facts, NOTHING, alone)
    os.close(fd)
    os.close(scratch)
    assert [(e.path, e.kind) for e in found.changes.entries] == [
        (b"mine", Kind.DIRECTORY), (b"mine/g", Kind.WHITEOUT)
    ]  # fmt: skip


def test_a_layer_is_put_on_what_a_step_left(root: Root) -> None:
    _, data, _ = root.step(lambda path: (rewrite(path / "new", b"n"), shutil.rmtree(path / "d/sub"), os.mkdir(path / "x")))
    root.add(data, tree=False)
    root.new = []
    root.add(
        tar(
            directory(b"d/", mode=0o700, mtime=OLD), entry(b"d/.wh.a"), entry(b"d/sub", data=b"file", mtime=OLD),
            directory(b"new/", mtime=OLD), entry(b"new/f", data=b"f", mtime=OLD), hardlink(b"new/g", b"new/f"),
            entry(b".wh.dev"), symlink(b"x", b"new", mtime=OLD),
        ),
        tree=False,
    )  # fmt: skip
    root.add(tar(directory(b"d/"), entry(b"d/.wh..wh..opq"), entry(b"d/only", mtime=OLD)), tree=False)
    root.prepare()
    assert_is_what_the_view_says(root)
    assert sorted(os.listdir(root.root / "d")) == ["only"]
    assert (root.root / "new/f").stat().st_ino == (root.root / "new/g").stat().st_ino


def test_a_change_through_one_of_several_names_is_told(root: Root) -> None:
    for action, names in (
        (lambda p: rewrite(p / "g", b"G"), {b"f", b"g"}),
        (lambda p: os.chown(p / "g", 7, 7), {b"f", b"g"}),
        (lambda p: os.link(p / "g", p / "h"), set()),
        (lambda p: (p / "g").unlink(), set()),
        (lambda p: replace(p / "g", lambda g: rewrite(g, b"G")), set()),
    ):
        root.prepare()
        assert (root.root / "f").stat().st_nlink == 2
        action(root.root)
        assert set(root.compare().shared) == names
        root.renew([])


def test_names_of_one_file_can_be_separated(root: Root) -> None:
    big = b"z" * 300_000
    _, data, _ = root.step(lambda p: (rewrite(p / "a", big, OLD + 3), os.setxattr(p / "a", "user.x", b"1"),
                                      os.link(p / "a", p / "d/z"), os.mkfifo(p / "p", 0o640), os.link(p / "p", p / "q"),
                                      os.symlink("t", p / "s"), os.link(p / "s", p / "t", follow_symlinks=False)))  # fmt: skip
    root.add(data, tree=False)
    root.new = []
    before = {path: row[:7] for path, row in listing(root.root).items()}
    assert (root.root / "a").stat().st_nlink == 2
    root.separate = {b"a", b"d/z", b"p", b"q", b"s", b"t", b"f", b"g"}
    root.prepare()
    assert {path: row[:7] for path, row in listing(root.root).items()} == before
    assert all(p.lstat().st_nlink == 1 for p in root.root.rglob("*") if not p.is_dir() or p.is_symlink())
    test_a_layer_is_that_of_an_overlay(root, lambda p: (p / "a").chmod(0o600), [])


# -- arbitrary changes


def in_both(root: Path, operations: list[Operation]) -> None:
    """The operations without renames of directories, which an overlay refuses."""
    for operation in operations:
        source = root / operation[1]
        if operation[0] != "rename" or source.is_symlink() or not source.is_dir():
            perform(root, [operation])


@given(steps=st.lists(OPERATIONS, min_size=2, max_size=3), tree=st.booleans())
@settings(max_examples=25)
def test_any_steps_give_the_layers_of_overlays(
    steps: list[list[Operation]], tree: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = Root(tmp_path_factory.mktemp("any"))
    try:
        root.add(tar(directory(b"./", mtime=OLD)), tree=tree)
        for operations in steps:

            def action(path: Path, operations: list[Operation] = operations) -> None:
                in_both(path, operations)

            there, _ = in_overlay(root.stack, action)
            here, data, _ = root.step(action)
            assert clamped(here.entries) == clamped(there.entries)
            root.add(data, tree=tree)
            root.new = []
            assert_is_what_the_view_says(root)
    finally:
        root.close()
        shutil.rmtree(root.stack.place)


def test_a_directory_removed_and_made_anew_is_another_one(root: Root) -> None:
    """Its inode can be used again: the time of birth tells."""
    status = os.stat(root.root)
    assert stat.S_ISDIR(status.st_mode)
    root.prepare()
    facts = root.facts
    assert facts is not None
    assert set(facts.births) == {b"dev", b"disk"}
    inode = (root.root / "dev").stat().st_ino
    for _ in range(50):
        replace(root.root / "dev", Path.touch)
        if (root.root / "dev").stat().st_ino == inode:
            break
    assert [(e.path, e.kind) for e in root.compare().changes.entries] == [(b"dev", Kind.FILE)]
