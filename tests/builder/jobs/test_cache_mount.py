"""Packing a cache mount: what changes meanwhile is no error, and what is not packed takes no room."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.jobs.cache_mount import PackCacheMount, PackedMount
from pybuild.builder.jobs.job import Output, write_files
from pybuild.store.layers import fingerprint as fingerprints
from pybuild.store.layers.tree_files import open_directory

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.write import FileContent, WrittenLayer


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    directory = tmp_path / "mount"
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "a" / "file").write_bytes(b"x" * 9999)
    return directory


def packing(mount: Path) -> PackCacheMount:
    return PackCacheMount(str(mount), "", Output(f"{mount}.toc", f"{mount}.blob", "zstd", None))


def test_a_mount_is_packed(mount: Path) -> None:
    packed = packing(mount).run()
    assert not packed.changed and mount.with_suffix(".blob").stat().st_size == packed.size
    assert PackCacheMount(str(mount), packed.state, packing(mount).output).run() == PackedMount(packed.state)


@pytest.mark.parametrize("becomes", ["nothing", "a link", "a file"])
def test_a_directory_that_goes_while_it_is_looked_at(
    mount: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    """As a package manager of another build does that tidies up."""

    def remove_first(root: int, path: bytes) -> int:
        if path == b"a/b":
            shutil.rmtree(mount / "a")
            if becomes == "a link":
                (mount / "a").symlink_to("/")
            elif becomes == "a file":
                (mount / "a").touch()
        return open_directory(root, path)

    monkeypatch.setattr(fingerprints, "open_directory", remove_first)
    assert packing(mount).run().changed
    assert not mount.with_suffix(".blob").exists()


def test_a_file_that_grows_while_it_is_packed(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(entries: list[Entry], content: FileContent, output: Output) -> WrittenLayer:
        written = write_files(entries, content, output)
        (mount / "a" / "file").write_bytes(b"y" * 10_000)
        return written

    monkeypatch.setattr("pybuild.builder.jobs.cache_mount.write_files", grow)
    assert packing(mount).run().changed
    assert not mount.with_suffix(".blob").exists()


def test_a_full_disk_has_room_again(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build is not at its end: its image gets its names after the caches are written."""

    def fill(entries: list[Entry], content: FileContent, output: Output) -> WrittenLayer:
        write_files(entries, content, output)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pybuild.builder.jobs.cache_mount.write_files", fill)
    with pytest.raises(OSError, match="No space left"):
        packing(mount).run()
    assert not mount.with_suffix(".blob").exists()
