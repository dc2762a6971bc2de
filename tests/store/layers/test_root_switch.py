"""A root becomes what a View says, whatever it holds: from nothing, from any other root, and by the difference of two views."""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import RootOccupied
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.root_facts import look
from pybuild.store.layers.root_switch import Held, KnownRoot, switch_root
from pybuild.store.layers.view import View
from pybuild.store.system.directories import opened_directory
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTHING = Held(frozenset())


@dataclass
class Layer:
    toc: Toc
    data: bytes
    tree: str | None = None

    @contextmanager
    def tar(self) -> Iterator[io.BytesIO]:
        yield io.BytesIO(self.data)


def layers(*tars: bytes) -> list[Layer]:
    """The layers of these tars, the lowest first; returned topmost first."""
    found: list[Layer] = []
    for data in tars:
        read = read_layer(io.BytesIO(data), View([layer.toc for layer in found]))
        found.insert(0, Layer(Toc.of(read), data))
    return found


def view_of(found: list[Layer]) -> View:
    return View([layer.toc for layer in found])


BASE = tar(
    directory(b"d", mode=0o1777), entry(b"d/f", data=b"content", mode=0o4755), symlink(b"d/l", b"f"), hardlink(b"d/g", b"d/f"),
    directory(b"usr"), directory(b"usr/lib"), entry(b"usr/lib/a", data=b"a"), symlink(b"lib", b"usr/lib"),
)  # fmt: skip
ONE = tar(entry(b"one", data=b"1"), entry(b"d/.wh.f"), entry(b"lib", data=b"no link any more"))
TWO = tar(directory(b"two"), entry(b"two/x", data=b"x"), entry(b".wh.usr"), entry(b"d/l", data=b"a file now"))
THREE = tar(entry(b"d", data=b"no directory"), directory(b"lib"), entry(b"lib/b", data=b"b"))
STACKS = {"base": (BASE,), "one": (BASE, ONE), "two": (BASE, TWO), "three": (BASE, THREE), "both": (BASE, ONE, TWO), "none": ()}


def shown(root: Path) -> dict[str, tuple[object, ...]]:
    """Type, mode, owner, time, content or target of everything in a root."""
    found: dict[str, tuple[object, ...]] = {}
    for place, directories, files in os.walk(root):
        for name in (".", *directories, *files):
            path = os.path.normpath(os.path.join(place, name))
            status = os.lstat(path)
            is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
            content: object = os.readlink(path) if is_link else open(path, "rb").read() if is_file else b""
            fields = (status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), content)
            found[os.path.relpath(path, root)] = fields
    return found


def made(place: Path, name: str) -> Path:
    root = place / f"new-{name}"
    root.mkdir()
    found = layers(*STACKS[name])
    with opened_directory(str(root)) as fd:
        assert switch_root(fd, found, view_of(found), NOTHING).files == look(fd)
    return root


@pytest.mark.parametrize("after", STACKS)
@pytest.mark.parametrize("before", STACKS)
def test_a_root_becomes_any_other_one(tmp_path: Path, before: str, after: str) -> None:
    expected, root = shown(made(tmp_path, after)), made(tmp_path / ".", before) if before != after else tmp_path / f"new-{after}"
    old, new = layers(*STACKS[before]), layers(*STACKS[after])
    shared = min(len(old), len(new), 1)
    with opened_directory(str(root)) as fd:
        files = look(fd)
        known = KnownRoot(view_of(old), shared, files, frozenset())
        assert switch_root(fd, new, view_of(new), NOTHING, known).files == look(fd)
        assert shown(root) == expected
        (root / "left").mkdir()
        (root / "left" / "over").write_text("by a killed build")
        switch_root(fd, new, view_of(new), NOTHING)
    assert shown(root) == expected


def test_what_a_step_did_at_a_mount_is_made_right(tmp_path: Path) -> None:
    root, found = made(tmp_path, "base"), layers(BASE)
    expected = shown(root)
    with opened_directory(str(root)) as fd:
        files = look(fd)
        (root / "usr/lib/a").unlink()
        (root / "usr/lib/a").mkdir()
        (root / "usr/lib/a/cached").touch()
        known = KnownRoot(view_of(found), 1, files, frozenset((b"usr/lib/a",)))
        assert switch_root(fd, found, view_of(found), NOTHING, known).files == look(fd)
    assert shown(root) == expected


def test_what_is_held_stays_with_the_directories_above_it(tmp_path: Path) -> None:
    root = made(tmp_path, "none")
    (root / "usr/volume").mkdir(parents=True)
    (root / "usr/volume/mine").write_text("mine")
    held = Held(frozenset((b"usr/volume",)))
    with opened_directory(str(root)) as fd:
        for name in ("base", "two", "none", "both"):
            found = layers(*STACKS[name])
            files = switch_root(fd, found, view_of(found), held).files
            assert (root / "usr/volume/mine").read_text() == "mine"
            assert b"usr/volume" not in files
        blocked = layers(tar(entry(b"usr", data=b"a file")))
        with pytest.raises(RootOccupied, match='"/usr", which is not a directory'):
            switch_root(fd, blocked, view_of(blocked), held)


def test_links_in_the_old_root_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "lib").mkdir()
    (outside / "lib" / "a").write_text("not ours")
    root = made(tmp_path, "none")
    (root / "usr").symlink_to(outside)
    (root / "d").symlink_to(outside)
    found = layers(BASE)
    with opened_directory(str(root)) as fd:
        switch_root(fd, found, view_of(found), NOTHING)
    assert shown(root) == shown(made(tmp_path, "base"))
    assert sorted(os.listdir(outside)) == ["lib"]
    assert (outside / "lib" / "a").read_text() == "not ours"
