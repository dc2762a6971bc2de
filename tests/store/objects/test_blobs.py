"""Copies of blobs: verified by hashing once a boot, and whenever the file could have changed."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import DigestMismatch, ReadOnly
from pybuild.store.formats.digest import Digest
from pybuild.store.objects import blobs as module
from pybuild.store.objects.blobs import VerifyingReader
from pybuild.store.objects.database import UNKNOWN_BOOT
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = os.urandom(3 << 20)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def digest(store: Store, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """A blob that is older than a step of the clock, so that each later change shows."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)
    return store.blobs.put(DATA, store.ingest.new_path())


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was read through a hash."""
    sizes: list[int] = []
    read = VerifyingReader.read

    def counted(self: VerifyingReader, count: int = -1, /) -> bytes:
        data = read(self, count)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(VerifyingReader, "read", counted)
    return sizes


def copied(store: Store, digest: Digest) -> bytes:
    with store.blobs.open(digest) as blob, io.BytesIO() as out:
        store.blobs.copy(blob, out)
        return out.getvalue()


def test_a_blob_is_hashed_once(store: Store, digest: Digest, hashed: list[int]) -> None:
    assert copied(store, digest) == DATA
    assert sum(hashed) == len(DATA)
    assert copied(store, digest) == copied(store, digest) == DATA
    assert sum(hashed) == len(DATA)


def test_after_another_boot_it_is_hashed_again(store: Store, digest: Digest, hashed: list[int]) -> None:
    copied(store, digest)
    store.metadata.boot = "another"
    assert copied(store, digest) == DATA
    assert sum(hashed) == 2 * len(DATA)


def test_without_the_id_of_the_boot_it_is_always_hashed(store: Store, digest: Digest, hashed: list[int]) -> None:
    store.metadata.boot = UNKNOWN_BOOT
    for _ in range(2):
        assert copied(store, digest) == DATA
    assert sum(hashed) == 2 * len(DATA)


@pytest.mark.parametrize("change", ["content", "touch", "mode", "copy", "size"])
def test_a_file_that_could_have_changed_is_hashed(
    store: Store, digest: Digest, hashed: list[int], change: str
) -> None:
    path = store.blobs.path(digest)
    copied(store, digest)
    status = os.stat(path)
    match change:
        case "content":
            os.chmod(path, 0o644)
            with open(path, "r+b") as file:
                file.write(b"changed")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        case "touch":
            os.utime(path)
        case "mode":
            os.chmod(path, 0o400)
        case "copy":
            os.rename(path, f"{path}.old")
            with open(path, "xb") as file:
                file.write(DATA)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        case _:
            os.truncate(path, len(DATA) - 1)
    if change in ("content", "size"):
        with pytest.raises(DigestMismatch):
            copied(store, digest)
    else:
        assert copied(store, digest) == DATA
    assert sum(hashed) > len(DATA)


def test_a_blob_that_has_just_been_written_is_not_remembered(store: Store, hashed: list[int]) -> None:
    digest = store.blobs.put(DATA, store.ingest.new_path())
    now = time.time()
    os.utime(store.blobs.path(digest), (now + 60, now + 60))  # it stays new during this test
    for _ in range(2):
        assert copied(store, digest) == DATA
    assert sum(hashed) == 2 * len(DATA)


def test_a_file_that_changes_while_it_is_copied_is_an_error(
    store: Store, digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(store, digest)

    def copy(fd: int, out: object, size: int) -> int:
        os.utime(fd)
        return size

    monkeypatch.setattr(module, "copy_file", copy)
    with pytest.raises(DigestMismatch):
        copied(store, digest)


def test_a_damaged_blob_is_not_remembered(store: Store, digest: Digest) -> None:
    path = store.blobs.path(digest)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(b"changed")
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            copied(store, digest)


def test_a_store_that_cannot_be_written_hashes_every_time(store: Store, digest: Digest, hashed: list[int]) -> None:
    store.metadata.obstacle = ReadOnly("read-only")
    for _ in range(2):
        assert copied(store, digest) == DATA
    assert sum(hashed) == 2 * len(DATA)
