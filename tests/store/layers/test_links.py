"""Hard links across layers, in real overlays: which names of a merged root are one file."""

# A lambda with several calls lists them in a tuple.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import io
import os
import shutil
import stat
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Kind, Toc
from pybuild.store.layers import tree
from pybuild.store.layers.changes import changes
from pybuild.store.layers.compare import tree_difference
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.view import View
from pybuild.store.layers.write import write_layer
from tests.support.file_operations import OLD, VERBS, Operation, operations, perform
from tests.support.overlays import overlaid
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

Partition = frozenset[frozenset[str]]
# Two equal files, a file with two names, and a symbolic link.
BASE = tar(
    directory(b"./", mtime=OLD),
    entry(b"a", data=b"x", mtime=OLD),
    entry(b"b", data=b"x", mtime=OLD),
    directory(b"d/", mtime=OLD),
    entry(b"d/f", data=b"long", mtime=OLD),
    hardlink(b"d/g", b"d/f"),
    symlink(b"l", b"a", mtime=OLD),
)


class Overlays:
    """A stack of layers whose trees are the upper directories of real overlays. The first is made from BASE."""

    def __init__(self, place: Path) -> None:
        self._place = place
        entries = read_layer(io.BytesIO(BASE), View([]))
        base = place / "base"
        base.mkdir()
        with _Opened(base) as fd:
            tree.make_tree(entries, io.BytesIO(BASE), fd)
        self.tocs = [Toc.of(entries)]
        self._lowers = [str(base)]

    def step(self, action: Callable[[Path], object]) -> None:
        """Run `action` on top, and add the layer that it makes."""
        upper = self._place / f"upper{len(self.tocs)}"
        upper.mkdir()
        overlaid(self._lowers, str(upper), self._mount(), lambda merged: action(Path(merged)))
        with _Opened(upper) as fd, TreeContent(fd) as content:
            found = changes(fd, View(self.tocs), Toc.of([]))
            layer = write_layer(found.entries, content, io.BytesIO(), Compression.UNCOMPRESSED)
            assert tree_difference(fd, layer.entries, lambda: View(self.tocs), content=True) == ""
        self.tocs.insert(0, Toc.of(layer.entries, found.links))
        self._lowers.insert(0, str(upper))

    def rows(self) -> dict[str, tuple[object, ...]]:
        """What the kernel shows: path -> its row, which ends with the first path of its inode."""
        seen = overlaid(self._lowers, None, self._mount())
        return {path: (*row[:6], row[7]) for path, row in seen.items() if row[0] != stat.S_IFDIR}

    def _mount(self) -> str:
        return str(self._place / f"mount{len(os.listdir(self._place))}")


class _Opened:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def partition(pairs: Iterable[tuple[str, Hashable]]) -> Partition:
    """The groups of paths that have the same value, without those of one path."""
    groups: defaultdict[Hashable, set[str]] = defaultdict(set)
    for path, value in pairs:
        groups[value].add(path)
    return frozenset(frozenset(group) for group in groups.values() if len(group) > 1)


def linked(view: View) -> Partition:
    """The paths of a view that are one file."""
    found = []
    for item in view.walk(b""):
        located = view.locate(item.path)
        assert located is not None
        if item.kind is not Kind.DIRECTORY:
            found.append((os.fsdecode(item.path), view.file_of(*located)))
    return partition(found)


def groups(*texts: str) -> Partition:
    return frozenset(frozenset(text.split()) for text in texts)


def relink(root: Path, source: str, *names: str) -> None:
    for name in names:
        (root / name).unlink(missing_ok=True)
        os.link(root / source, root / name, follow_symlinks=False)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


Steps = list["Callable[[Path], object]"]
CASES: dict[str, tuple[Steps, Partition]] = {
    "the names of one layer": ([], groups("d/f d/g")),
    "a new name": ([lambda r: relink(r, "a", "n")], groups("a n", "d/f d/g")),
    "two new names": ([lambda r: relink(r, "a", "n", "d/n")], groups("a n d/n", "d/f d/g")),
    "names made by two steps": ([lambda r: relink(r, "a", "n"), lambda r: relink(r, "n", "m")], groups("a n m", "d/f d/g")),
    "both steps begin with the old name": ([lambda r: relink(r, "a", "n"), lambda r: relink(r, "a", "m")], groups("a n m", "d/f d/g")),
    "a further name of a file that has two": ([lambda r: relink(r, "d/g", "n")], groups("d/f d/g n")),
    "a name of a symbolic link": ([lambda r: relink(r, "l", "n")], groups("l n", "d/f d/g")),
    "equal files that become one": ([lambda r: relink(r, "a", "b")], groups("a b", "d/f d/g")),
    "equal files that become one, with a new name": ([lambda r: relink(r, "a", "b", "n")], groups("a b n", "d/f d/g")),
    "another file becomes a name": ([lambda r: relink(r, "a", "d/f")], groups("a d/f")),
    "the old name is changed later": ([lambda r: relink(r, "a", "n"), lambda r: write(r / "a", b"new")], groups("d/f d/g")),
    "the new name is changed later": ([lambda r: relink(r, "a", "n"), lambda r: write(r / "n", b"new")], groups("d/f d/g")),
    "the old name is removed later": ([lambda r: relink(r, "a", "n", "m"), lambda r: (r / "a").unlink()], groups("n m", "d/f d/g")),
    "the old name is moved": ([lambda r: relink(r, "a", "n"), lambda r: (r / "a").rename(r / "m")], groups("d/f d/g")),
    "the old name comes back as it was": (
        [lambda r: relink(r, "a", "n"), lambda r: (r / "a").unlink(), lambda r: shutil.copy2(r / "b", r / "a")],
        groups("d/f d/g"),
    ),
    "the directory of the old name is removed": (
        [lambda r: relink(r, "d/f", "n"), lambda r: shutil.rmtree(r / "d"), lambda r: (r / "d").mkdir()], groups()
    ),
    "a copy is not a link": ([lambda r: shutil.copy2(r / "a", r / "n")], groups("d/f d/g")),
    "changed by the step that links it": ([lambda r: (relink(r, "a", "n"), write(r / "a", b"new"))], groups("a n", "d/f d/g")),
    "opened for writing": ([lambda r: relink(r, "a", "n"), lambda r: (r / "a").open("ab").close()], groups("a n", "d/f d/g")),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "expected"), CASES.values(), ids=CASES.keys())
def test_names_of_one_file_are_known_across_layers(steps: Steps, expected: Partition, tmp_path: Path) -> None:
    stack = Overlays(tmp_path)
    for step in steps:
        stack.step(step)
    assert linked(View(stack.tocs)) == expected


def test_the_layer_itself_does_not_hold_the_old_name(tmp_path: Path) -> None:
    stack = Overlays(tmp_path)
    stack.step(lambda root: relink(root, "a", "n"))
    assert [row.path for row in stack.tocs[0]] == [b"n"]
    assert stack.tocs[0].links == ((b"a", b"n"),)


NAMES = st.sampled_from(["a", "b", "c", "d", "d/f", "d/g", "l"])
STEP = operations([*VERBS, "link", "link", "link", "touch"], NAMES)


@given(steps=st.lists(STEP, min_size=1, max_size=4))
@example(steps=[[("remove", "b", "", 0), ("link", "a", "b", 0)], [("link", "b", "c", 0), ("touch", "a", "", 1)]])
@settings(max_examples=40)
def test_links_are_those_that_the_kernel_has_shown(
    steps: list[list[Operation]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A model made of what overlays show: names that were one inode are one file until a step changes one of them.

    The kernel itself separates such names when it copies one of them up; that alone changes nothing that a layer holds.
    """
    place = tmp_path_factory.mktemp("links")
    try:
        stack = Overlays(place)
        before = stack.rows()
        model = {path: row[-1] for path, row in before.items()}
        for number, step in enumerate(steps):
            stack.step(lambda root, step=step: perform(root, step))  # type: ignore[misc]
            rows = stack.rows()
            kept = {path: model[path] for path in rows if path in before and rows[path][:-1] == before[path][:-1]}
            model = {path: kept.get(path, f"{number} {path}") for path in rows}
            for path, row in rows.items():  # the names of one inode are one file from now on
                first, other = model[str(row[-1])], model[path]
                model = {name: first if value == other else value for name, value in model.items()}
            assert linked(View(stack.tocs)) == partition(model.items())
            before = rows
    finally:
        shutil.rmtree(place)
