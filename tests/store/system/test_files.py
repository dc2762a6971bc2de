"""`replace_file`: the name always means the old file or the new one, whatever the filesystem can do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pybuild.store.system import files
from pybuild.store.system.files import replace_file


def _names(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "new").write_text("new")
    return tmp_path


@pytest.mark.parametrize("before", ["missing", "file", "link", "fifo"])
@pytest.mark.parametrize("relative", [True, False])
def test_whatever_has_the_name_is_replaced(directory: Path, before: str, *, relative: bool) -> None:
    target = directory / "target"
    match before:
        case "file":
            target.write_text("old")
        case "link":
            target.symlink_to("elsewhere")
        case "fifo":
            os.mkfifo(target)
        case _:
            pass
    if relative:
        fd = os.open(directory, os.O_RDONLY)
        replace_file(b"new", b"target", fd)
        os.close(fd)
    else:
        replace_file(os.fsencode(directory / "new"), os.fsencode(target))
    assert _names(directory) == {"target": "new"}
    assert not target.is_symlink()


def test_a_file_is_not_replaced_by_rename(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Because ext4 then waits for the disk. tmpfs, ext4, overlayfs, XFS and btrfs can exchange names."""
    (directory / "target").write_text("old")
    monkeypatch.setattr(os, "rename", lambda *_, **__: pytest.fail("rename"))
    replace_file(os.fsencode(directory / "new"), os.fsencode(directory / "target"))
    assert _names(directory) == {"target": "new"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ENOENT])
def test_rename_where_names_cannot_be_exchanged(directory: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    (directory / "target").write_text("old")
    monkeypatch.setattr(files, "exchange", refused)
    replace_file(os.fsencode(directory / "new"), os.fsencode(directory / "target"))
    assert _names(directory) == {"target": "new"}


def test_a_process_killed_in_between_leaves_both_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    (directory / "target").write_text("old")
    monkeypatch.setattr(os, "unlink", kill)
    with pytest.raises(Killed):
        replace_file(os.fsencode(directory / "new"), os.fsencode(directory / "target"))
    assert _names(directory) == {"target": "new", "new": "old"}


@pytest.mark.parametrize("late", [False, True], ids=["from the beginning", "after it was looked at"])
def test_a_directory_stays(directory: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool) -> None:
    (directory / "target").mkdir()
    (directory / "target/file").write_text("")
    if late:
        monkeypatch.setattr(files, "_is_regular", lambda *_: True)
    with pytest.raises(IsADirectoryError):
        replace_file(os.fsencode(directory / "new"), os.fsencode(directory / "target"))
    assert os.listdir(directory / "target") == ["file"]
    assert _names(directory) == {"new": "new"}


def test_an_old_file_that_cannot_be_removed_does_not_come_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (directory / "target").write_text("old")
    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(OSError, match="Input/output"):
        replace_file(os.fsencode(directory / "new"), os.fsencode(directory / "target"))
    assert (directory / "target").read_text() == "new"
