"""The changes of a step in real overlays: upper directory -> entries -> tar -> tree, which shows the same files."""

# A lambda with several calls lists them in a tuple.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, UnsafePath
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.tar import BLOCK_DEVICE, CHAR
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers import tree
from pybuild.store.layers.changes import changes
from pybuild.store.layers.compare import tree_difference
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.view import View
from pybuild.store.layers.write import WrittenLayer, write_layer
from tests.support.file_operations import OLD, OPERATIONS, Operation, perform, rewrite
from tests.support.overlays import overlaid
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
BASE = tar(
    directory(b"./", mtime=OLD),
    directory(b"d/", mode=0o750, uid=5, mtime=OLD),
    entry(b"d/a", data=b"aaa", mtime=OLD),
    entry(b"d/b", data=b"bbb", mtime=OLD),
    directory(b"d/sub/", mtime=OLD),
    entry(b"d/sub/c", data=b"ccc", mtime=OLD),
    entry(b"dev", CHAR, device=(1, 3), mode=0o666, mtime=OLD),
    entry(b"disk", BLOCK_DEVICE, device=(8, 1), mtime=OLD),
    entry(b"f", data=b"fff", mtime=OLD),
    hardlink(b"g", b"f"),
    symlink(b"l", b"f", mtime=OLD),
    entry(b"ping", data=b"x", mtime=OLD, xattrs=((b"security.capability", CAPABILITY),)),
)


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


@dataclass
class Stack:
    """A stack of layers, each as table of contents and as tree."""

    place: Path
    tocs: list[Toc]
    lowers: list[str]

    def add(self, data: bytes) -> list[Entry]:
        entries = read_layer(io.BytesIO(data), View(self.tocs))
        root = self.place / f"tree{len(self.tocs)}"
        root.mkdir()
        fd = opened(root)
        tree.make_tree(entries, io.BytesIO(data), fd)
        assert tree_difference(fd, entries, lambda: View(self.tocs), content=True) == ""
        os.close(fd)
        self.tocs.insert(0, Toc.of(entries))
        self.lowers.insert(0, str(root))
        return entries

    def step(
        self, action: Callable[[Path], object], scaffold: Toc | None = None
    ) -> tuple[WrittenLayer, bytes, dict[str, tuple[object, ...]]]:
        """Run `action` on top; return the layer, its tar, and the files that were visible in the end."""
        upper = self.place / f"upper{len(self.tocs)}"
        upper.mkdir()
        root = View(self.tocs).lookup(b"")
        assert root is not None
        os.chown(upper, root.uid, root.gid)
        upper.chmod(root.mode)
        seen = overlaid(
            self.lowers, str(upper), str(self.place / f"mount{len(self.tocs)}"), lambda merged: action(Path(merged))
        )
        fd = opened(upper)
        try:
            out = io.BytesIO()
            entries, _ = changes(fd, View(self.tocs), scaffold or Toc.of([]))
            with TreeContent(fd) as content:
                layer = write_layer(entries, content, out, Compression.UNCOMPRESSED)
            if scaffold is None:
                assert tree_difference(fd, layer.entries, lambda: View(self.tocs), content=True) == ""
        finally:
            os.close(fd)
        return layer, out.getvalue(), seen


@pytest.fixture
def base(tmp_path: Path) -> Stack:
    stack = Stack(tmp_path, [], [])
    stack.add(BASE)
    return stack


def described(layer: WrittenLayer) -> list[str]:
    """The paths of a layer: whiteouts with a minus, directories with a slash, hard links with "=" and their file."""
    return [
        ("-" if e.kind is Kind.WHITEOUT else "")
        + (os.fsdecode(e.path) or ".")
        + ("/" if e.kind is Kind.DIRECTORY else "")
        + (f"={os.fsdecode(e.hardlink)}" if e.hardlink else "")
        for e in layer.entries
    ]


def comparable(seen: dict[str, tuple[Any, ...]]) -> dict[str, tuple[object, ...]]:
    """Without the times of directories, which alone are not a change, and without hard links across layers."""
    return {
        path: (
            *row[:4],
            None if row[0] == stat.S_IFDIR else row[4],
            *row[5:6],
            {k: v for k, v in row[6].items() if not k.startswith("user.overlay.")},
        )
        for path, row in seen.items()
    }


def there_and_back(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o700)
    path.chmod(mode)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def replace(path: Path, make: Callable[[Path], object]) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


CASES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda r: None, []),
    "E58-a file opened for writing": (lambda r: (r / "f").open("ab").close(), []),
    "the same content, the same time": (lambda r: rewrite(r / "f", b"fff"), []),
    "E58-the same content, another time": (lambda r: rewrite(r / "f", b"fff", OLD + 1), ["f"]),
    "E58-other content, the same time": (lambda r: rewrite(r / "f", b"ggg"), ["f"]),
    "E58-touch": (lambda r: os.utime(r / "f", (OLD, OLD + 5)), ["f"]),
    "E58-touch of a fraction of a second": (lambda r: os.utime(r / "f", ns=(OLD * 10**9, OLD * 10**9 + 5)), []),
    "E58-touch of a directory": (lambda r: os.utime(r / "d", (1, 1)), []),
    "chmod there and back": (lambda r: there_and_back(r / "d/a"), []),
    "E58-chmod of a directory there and back": (lambda r: there_and_back(r / "d"), []),
    "E58-chmod": (lambda r: (r / "d/a").chmod(0o600), ["d/", "d/a"]),
    "E58-chmod of a directory": (lambda r: (r / "d").chmod(0o700), ["d/"]),
    "chown": (lambda r: os.chown(r / "f", 1, 2), ["f"]),
    "chown of a link": (lambda r: os.lchown(r / "l", 1, 2), ["l"]),
    "E57-a file made and removed": (lambda r: ((r / "n").touch(), (r / "n").unlink()), []),
    "E57-a file removed": (lambda r: (r / "d/a").unlink(), ["d/", "-d/a"]),
    "a file removed and made anew the same": (lambda r: replace(r / "d/a", lambda p: rewrite(p, b"aaa")), []),
    "E57-a directory removed": (lambda r: shutil.rmtree(r / "d"), ["-d"]),
    "E57-a directory emptied": (lambda r: replace(r / "d/sub", Path.mkdir), ["d/", "d/sub/", "-d/sub/c"]),
    "E57-a directory made anew with one file": (
        lambda r: replace(r / "d", lambda p: (p.mkdir(), os.chown(p, 5, 0), p.chmod(0o750), rewrite(p / "a", b"new"))),
        ["d/", "d/a", "-d/b", "-d/sub"],
    ),
    "E57-a directory turned into a file": (lambda r: replace(r / "d", Path.touch), ["d"]),
    "a file turned into a directory": (lambda r: replace(r / "f", lambda p: (p.mkdir(), (p / "x").touch())), ["f/", "f/x"]),
    "E57-a directory moved": (lambda r: _move(r / "d/sub", r / "moved"), ["d/", "-d/sub", "moved/", "moved/c"]),
    "E57-a file moved": (lambda r: (r / "d/a").rename(r / "m"), ["d/", "-d/a", "m"]),
    "hard links made": (lambda r: ((r / "z").touch(), os.link(r / "z", r / "d/y")), ["d/", "d/y", "z=d/y"]),
    "a hard link to a file of the image": (lambda r: os.link(r / "d/a", r / "h"), ["h"]),
    "hard links of a symbolic link": (
        lambda r: (os.symlink("t", r / "s1"), os.link(r / "s1", r / "s2", follow_symlinks=False)), ["s1", "s2=s1"]
    ),
    "a socket": (lambda r: make_socket(r / "s"), []),
    "E57-a socket in the place of a file": (lambda r: replace(r / "f", make_socket), ["-f"]),
    "a fifo": (lambda r: os.mkfifo(r / "p"), ["p"]),
    "E58-the root's mode": (lambda r: r.chmod(0o700), ["./"]),
    "the root's owner": (lambda r: os.chown(r, 3, 4), ["./"]),
    "E58-attributes other than capabilities": (lambda r: os.setxattr(r / "f", "user.x", b"1"), []),
    "E58-capabilities": (lambda r: os.setxattr(r / "d/a", "security.capability", CAPABILITY), ["d/", "d/a"]),
    "capabilities removed": (lambda r: os.removexattr(r / "ping", "security.capability"), ["ping"]),
    "capabilities set anew": (lambda r: os.setxattr(r / "ping", "security.capability", CAPABILITY), []),
    "E59-an unwritten device": (lambda r: there_and_back(r / "dev"), []),
    "names of all bytes": (lambda r: [Path(os.fsdecode(os.fsencode(r) + b"/" + n)).touch() for n in (b"\xff", b"a\nb", b"x" * 255)], ["a\nb", "x" * 255, "\udcff"]),
}  # fmt: skip


def _move(source: Path, target: Path) -> None:
    shutil.move(source, target)  # overlayfs answers EXDEV for directories of the image, as mv(1) expects


@pytest.mark.parametrize(("action", "expected"), CASES.values(), ids=CASES.keys())
def test_a_layer_holds_what_changed(base: Stack, action: Callable[[Path], object], expected: list[str]) -> None:
    layer, data, seen = base.step(action)
    assert described(layer) == expected
    # The tar has the same entries as the table of contents.
    assert read_layer(io.BytesIO(data), View(base.tocs)) == list(layer.entries)
    # On the layers below it gives the files that the step saw, for overlayfs and for the View.
    base.add(data)
    again = overlaid(base.lowers, None, str(base.place / "again"))
    sockets = {path for path, row in seen.items() if row[0] == stat.S_IFSOCK}
    expected_rows = {path: row for path, row in comparable(seen).items() if path not in sockets}
    got = comparable(again)
    for rows in (expected_rows, got):
        for row in rows.values():
            row[6].pop("user.x", None)  # type: ignore[attr-defined]
    assert got == expected_rows
    assert {""} | {os.fsdecode(e.path) for e in View(base.tocs).walk(b"")} == set(expected_rows)


@pytest.mark.parametrize(
    ("action", "mode", "uid"), [(lambda p: p.chmod(0o600), 0o600, 0), (lambda p: os.chown(p, 9, 9), 0o666, 9)]
)
def test_a_device_is_still_a_device_after_chmod_or_chown(
    base: Stack, action: Callable[[Path], object], mode: int, uid: int
) -> None:
    layer, data, _ = base.step(lambda r: action(r / "dev"))
    (found,) = layer.entries
    assert (found.kind, found.rdev, found.mode, found.uid) == (Kind.CHAR, os.makedev(1, 3), mode, uid)
    assert read_layer(io.BytesIO(data), View([])) == [found]


def test_a_device_placeholder_that_was_written_to_is_a_file(base: Stack) -> None:
    layer, _, _ = base.step(lambda r: (r / "dev").write_bytes(b"data"))
    assert [(e.kind, e.size) for e in layer.entries] == [(Kind.FILE, 4)]


def test_an_empty_file_that_replaces_a_device_is_a_file(base: Stack) -> None:
    layer, _, _ = base.step(lambda r: replace(r / "dev", Path.touch))
    assert [e.kind for e in layer.entries] == [Kind.FILE]


@pytest.mark.parametrize("name", [".wh.bin", "d/.wh.a", ".wh..wh..opq", ".wh."])
def test_a_file_with_the_name_of_a_whiteout_is_refused(base: Stack, name: str) -> None:
    with pytest.raises(UnsafePath, match=r"\.wh\. cannot be stored") as caught:
        base.step(lambda r: (r / name).touch())
    assert f'"{name}"' in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("user.overlay.redirect", id="E59-a directory that was moved by name"),
        pytest.param("user.overlay.metacopy", id="E59-a file without its content"),
    ],
)
def test_overlay_features_that_would_lose_content_are_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "u/d").mkdir(parents=True)
    os.setxattr(tmp_path / "u/d", key, b"/x")
    fd = opened(tmp_path / "u")
    with pytest.raises(InvalidImage, match=key):
        changes(fd, View([]), Toc.of([]))
    os.close(fd)


def test_mount_points_of_the_scaffold_are_not_in_the_layer(base: Stack) -> None:
    scaffold = tar(directory(b"proc/", mtime=OLD), entry(b"etc/resolv.conf", mtime=OLD))
    entries = read_layer(io.BytesIO(scaffold), View(base.tocs))
    before = list(base.tocs)
    base.add(scaffold)
    base.tocs = before

    def action(root: Path) -> None:
        there_and_back(root / "proc")
        (root / "etc/resolv.conf").unlink()
        (root / "etc").rmdir()
        (root / "f").unlink()

    layer, _, _ = base.step(action, Toc.of(entries))
    assert described(layer) == ["-f"]


def test_a_tar_depends_only_on_entries_and_clamp(base: Stack) -> None:
    """An upper directory and the tree of its layer give the same digest; so does a clamp that changes no time."""

    def action(root: Path) -> None:
        for name in ("n2", "n1", "d/n3"):
            rewrite(root / name, b"x", OLD + 7)
        os.utime(root / "d", (OLD, OLD))

    layer, data, _ = base.step(action)

    def written(stack: Stack, clamp: int | None) -> WrittenLayer:
        fd = opened(Path(stack.lowers[0]))
        try:
            with TreeContent(fd) as content:
                return write_layer(stack.tocs[0], content, io.BytesIO(), Compression.GZIP, clamp=clamp)
        finally:
            os.close(fd)

    base.add(data)
    assert written(base, None).diff_id == layer.diff_id == written(base, OLD + 7).diff_id
    clamped = written(base, OLD)
    assert clamped.diff_id != layer.diff_id
    assert [e.offset for e in clamped.entries] == [e.offset for e in layer.entries]
    assert written(base, OLD).digest == clamped.digest


def test_a_file_that_shrinks_or_grows_while_it_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    fd = opened(tmp_path)
    for size in (4, 6):
        with TreeContent(fd) as content, pytest.raises(InvalidImage, match='"f": changed while it was read'):
            write_layer([Entry(b"f", Kind.FILE, 0o644, size=size)], content, io.BytesIO(), Compression.GZIP)
    os.close(fd)


# -- arbitrary changes

@given(steps=st.lists(OPERATIONS, min_size=2, max_size=3))
@settings(max_examples=50)
def test_a_layer_applied_to_the_layers_below_gives_the_tree_of_the_step(
    steps: list[list[Operation]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stack = Stack(tmp_path_factory.mktemp("any"), [], [])
    try:
        stack.add(tar(directory(b"./", mtime=OLD)))
        for operations in steps:
            layer, data, seen = stack.step(lambda root, operations=operations: perform(root, operations))  # type: ignore[misc]
            assert read_layer(io.BytesIO(data), View(stack.tocs)) == list(layer.entries)
            stack.add(data)
            assert comparable(overlaid(stack.lowers, None, f"{stack.place}/again{len(stack.tocs)}")) == comparable(seen)
            view = View(stack.tocs)
            for path, row in seen.items():
                found = view.lookup(os.fsencode(path))
                assert found is not None
                assert (found.uid, found.gid) == row[2:4]
                if row[0] == stat.S_IFREG:
                    assert (found.kind, found.size, found.mode) == (Kind.FILE, len(row[5]), row[1])  # type: ignore[arg-type]
            assert len(list(view.walk(b""))) == len(seen) - 1
    finally:
        shutil.rmtree(stack.place)
