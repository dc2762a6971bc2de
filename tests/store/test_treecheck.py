"""What can happen to a tree on its way to the disk, and that it is seen."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from store.extract import read_layer
from store.toc import Entry, Kind, Toc, sort_key
from store.treecheck import is_whole
from store.trees import OPAQUE, make_tree
from store.view import View
from store.whiteout import marker
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
LOWER = tar(directory(b"hidden/"), entry(b"hidden/old", data=b"x"), entry(b"removed", data=b"x"))
LAYER = tar(
    directory(b"./", mode=0o755),
    directory(b"d/", mode=0o750, uid=5),
    entry(b"d/a", data=b"aaa", mtime=1_000_000_000),
    hardlink(b"d/b", b"d/a"),
    entry(b"empty"),
    directory(b"hidden/"),
    entry(b"hidden/.wh..wh..opq"),
    entry(b"hidden/new", data=b"y"),
    symlink(b"l", b"d/a"),
    entry(b"ping", data=b"x", xattrs=((b"security.capability", CAPABILITY),)),
    entry(marker(b"removed")),
)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Path, int, Toc]]:
    """A tree, open, and its table of contents, in which what is hidden is a removal, as in a layer of a RUN."""
    place = tmp_path / "tree"
    place.mkdir()
    lower = Toc.of(read_layer(io.BytesIO(LOWER), View([])))
    entries = read_layer(io.BytesIO(LAYER), View([lower]))
    fd = os.open(place, os.O_RDONLY)
    try:
        make_tree(entries, io.BytesIO(LAYER), fd)
        rows = [row._replace(opaque=False) for row in entries] + [Entry(b"hidden/old", Kind.WHITEOUT)]
        yield place, fd, Toc.of(sorted(rows, key=lambda row: sort_key(row.path)))
    finally:
        os.close(fd)


def test_a_whole_tree(made: tuple[Path, int, Toc]) -> None:
    _, fd, toc = made
    assert {os.fsdecode(row.path) for row in toc} >= {"d/a", "d/b", "empty", "hidden/new", "l", "ping", "removed"}
    assert is_whole(fd, toc)


def another(path: Path, data: bytes) -> None:
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def apart(path: Path) -> None:
    data, status = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file is gone": lambda tree: (tree / "empty").unlink(),
    "a file is empty": lambda tree: os.truncate(tree / "d/a", 0),
    "a file holds zeros": lambda tree: another(tree / "d/a", bytes(3)),
    "a directory is gone": lambda tree: ((tree / "hidden/new").unlink(), (tree / "hidden").rmdir()),
    "a mode": lambda tree: (tree / "empty").chmod(0o600),
    "the mode of a directory": lambda tree: (tree / "d").chmod(0o700),
    "an owner": lambda tree: os.chown(tree / "d", 0, 0),
    "a time": lambda tree: os.utime(tree / "d/a", (1, 1)),
    "a link is a file": lambda tree: ((tree / "l").unlink(), (tree / "l").touch()),
    "a link leads elsewhere": lambda tree: ((tree / "l").unlink(), (tree / "l").symlink_to("d/b")),
    "two names are two files": lambda tree: apart(tree / "d/b"),
    "a capability": lambda tree: os.removexattr(tree / "ping", "security.capability"),
    "a removal": lambda tree: (tree / "removed").unlink(),
    "the mark of a directory that hides": lambda tree: os.removexattr(tree / "hidden", OPAQUE),
    "the mode of the root": lambda tree: tree.chmod(0o700),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen(made: tuple[Path, int, Toc], damage: Callable[[Path], object]) -> None:
    place, fd, toc = made
    damage(place)
    assert not is_whole(fd, toc)
