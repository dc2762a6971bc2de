"""The fingerprint of a directory: it changes with everything that a program can change, and with nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pybuild.store.layers.fingerprint import fingerprint
from pybuild.store.system.directories import opened_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def of(path: Path) -> str:
    with opened_directory(str(path)) as fd:
        return fingerprint(fd)


def _rewrite(root: Path) -> None:
    """Other content of the same length, with the time of before."""
    status = (root / "d/f").stat()
    (root / "d/f").write_text("y")
    os.utime(root / "d/f", ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace(root: Path) -> None:
    (root / "new").write_text("x")
    os.rename(root / "new", root / "d/f")


CHANGES: list[Callable[[Path], object]] = [
    _rewrite,
    _replace,
    lambda root: (root / "d/f").chmod(0o600),
    lambda root: os.chown(root / "d/f", 5, 6),
    lambda root: (root / "d/f").unlink(),
    lambda root: (root / "d/g").write_text(""),
    lambda root: (root / "d/e/deep").mkdir(),
    lambda root: os.rename(root / "d", root / "e"),
    lambda root: root.chmod(0o700),
    lambda root: os.setxattr(root / "d/f", "user.x", b"1"),
    lambda root: os.link(root / "d/f", root / "d/h"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "holder" / "fs"
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "f").write_text("x")
    (root / "link").symlink_to("/nowhere")
    return root


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(root: Path, change: Callable[[Path], object]) -> None:
    before = of(root)
    change(root)
    assert of(root) != before


def test_reading_and_moving_it_as_a_whole_change_nothing(root: Path, tmp_path: Path) -> None:
    before = of(root)
    (root / "d" / "f").read_text()
    (tmp_path / "store").mkdir()
    os.rename(root.parent, tmp_path / "store" / "id")
    assert of(tmp_path / "store" / "id" / "fs") == before


def test_a_path_that_is_longer_than_a_system_call_takes(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    before = of(tmp_path)
    os.mkdir("last", dir_fd=fd)
    os.close(fd)
    assert of(tmp_path) != before
