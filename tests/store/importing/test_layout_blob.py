"""Copying a layer out of a directory that somebody else can write to."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import DigestMismatch, InvalidImage, NoSpace, NotFound, StoreError, UnsafePath
from pybuild.store.formats.cache_index import CachedLayer
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.importing.layout_blob import copy_blob
from pybuild.store.importing.members import DirectoryMembers
from tests.support.disks import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTENT = os.urandom(3 << 20)
LAYER = CachedLayer(Digest.of(b"tar"), Digest.of(CONTENT), len(CONTENT), Compression.GZIP)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "blobs" / "sha256" / LAYER.digest.hex
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return path


def copy(tmp_path: Path) -> bytes:
    copy_blob(str(tmp_path / "cache"), LAYER.digest, LAYER.size, str(tmp_path / "copy"))
    return (tmp_path / "copy").read_bytes()


def test_a_layer_is_copied(tmp_path: Path, blob: Path) -> None:
    assert copy(tmp_path) == CONTENT


def in_turn(*actions: Callable[[], object]) -> None:
    for action in actions:
        action()


def _flipped(path: Path) -> None:
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))


def _behind_a_link(path: Path) -> None:
    path.parent.rename(path.parent.parent / "x")
    path.parent.symlink_to("x")


HOSTILE: list[tuple[str, Callable[[Path], object], type[StoreError]]] = [
    ("missing", lambda path: path.unlink(), NotFound),
    ("a link", lambda path: in_turn(partial(path.rename, path.parent / "x"), partial(path.symlink_to, "x")), UnsafePath),
    ("a link to a device", lambda path: in_turn(path.unlink, partial(path.symlink_to, "/dev/zero")), UnsafePath),
    ("a fifo", lambda path: in_turn(path.unlink, partial(os.mkfifo, path)), InvalidImage),
    ("a directory", lambda path: in_turn(path.unlink, path.mkdir), InvalidImage),
    ("a device", lambda path: in_turn(path.unlink, partial(os.mknod, path, 0o20666, os.makedev(1, 5))), InvalidImage),
    ("behind a link", _behind_a_link, UnsafePath),
    ("too short", lambda path: os.truncate(path, 5), DigestMismatch),
    ("huge", lambda path: os.truncate(path, 1 << 40), DigestMismatch),
    ("other bytes", _flipped, DigestMismatch),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error"), [one[1:] for one in HOSTILE], ids=[one[0] for one in HOSTILE])
def test_a_hostile_directory_gives_no_layer(
    tmp_path: Path, blob: Path, change: Callable[[Path], object], error: type[StoreError]
) -> None:
    change(blob)
    with pytest.raises(error, match=str(tmp_path / "cache")):
        copy(tmp_path)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "then",
    [lambda path: os.truncate(path, 0), _flipped, lambda path: path.write_bytes(bytes(9 << 20))],
)
def test_a_layer_that_changes_while_it_is_read(
    tmp_path: Path, blob: Path, then: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = DirectoryMembers.chunks

    def chunks(members: DirectoryMembers, name: bytes, offset: int = 0) -> Iterator[bytes]:
        for number, chunk in enumerate(read(members, name, offset)):
            yield chunk
            if number == 0:
                then(blob)

    monkeypatch.setattr(DirectoryMembers, "chunks", chunks)
    with pytest.raises(DigestMismatch):
        copy(tmp_path)
    assert not (tmp_path / "copy").exists()


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such directory any more"):
        copy(tmp_path)


def test_a_full_disk_is_told_as_such(tmp_path: Path, blob: Path) -> None:
    with small_disk(tmp_path / "full", "size=1m") as full, pytest.raises(NoSpace, match="No space left on device"):
        copy_blob(str(tmp_path / "cache"), LAYER.digest, LAYER.size, str(full / "copy"))
