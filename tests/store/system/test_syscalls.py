"""openat2, syncfs and the plain system calls, against the running kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pybuild
from pybuild.store.system import files, syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(pybuild.__file__).parents[1]
CURRENT_DIRECTORY = -100  # AT_FDCWD


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A descriptor of tmp_path."""
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


def test_in_root_absolute_and_upward_links_stay_inside(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/name").write_text("inside")
    (tmp_path / "absolute").symlink_to("/etc/name")
    (tmp_path / "upward").symlink_to("../../../../etc/name")
    for name in (b"absolute", b"upward", b"../../etc/name", b"/etc/name"):
        fd = syscalls.openat2(root, name, os.O_RDONLY, syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS)
        assert os.read(fd, 100) == b"inside"
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_beneath_refuses_links_and_leaving(root: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    fd = files.open_beneath(root, b"file", os.O_RDONLY)
    assert os.read(fd, 10) == b"x"
    os.close(fd)
    for path, code in ((b"link", errno.ELOOP), (b"../x", errno.EXDEV), (b"/file", errno.EXDEV)):
        with pytest.raises(OSError) as caught:
            files.open_beneath(root, path, os.O_RDONLY)
        assert caught.value.errno == code


@pytest.mark.parametrize("opener", [files.open_in_root, files.open_beneath])
def test_an_empty_path_is_the_directory_itself(opener: object, root: int) -> None:
    assert callable(opener)
    fd = opener(root, b"", os.O_PATH)
    assert os.path.sameopenfile(fd, root)
    os.close(fd)


def test_errors_name_the_call_and_the_path(root: int, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"openat2: No such file.*'no/such'") as caught:
        syscalls.openat2(root, b"no/such", os.O_RDONLY, syscalls.RESOLVE_IN_ROOT)
    assert caught.value.filename == "no/such"
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="openat2") as loop:
        syscalls.openat2(root, b"link", os.O_RDONLY, syscalls.RESOLVE_IN_ROOT)
    assert loop.value.errno == errno.ELOOP


def test_a_path_with_a_nul_byte_never_reaches_the_kernel(root: int, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("x")
    with pytest.raises(OSError, match=r"openat2: Invalid argument \(NUL byte\)") as caught:
        syscalls.openat2(root, b"short\0er", os.O_RDONLY, syscalls.RESOLVE_IN_ROOT)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match=r"umount2: Invalid argument \(NUL byte\)"):
        syscalls.call("umount2", b"short\0er", 0)


def test_openat2_creates_with_the_mode(root: int) -> None:
    before = os.umask(0)
    fd = syscalls.openat2(root, b"new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, syscalls.RESOLVE_BENEATH, 0o640)
    os.umask(before)
    assert os.fstat(fd).st_mode & 0o7777 == 0o640
    os.close(fd)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EINTR])
def test_openat2_gives_up_after_repeated_races(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def always_busy(*_args: object) -> int:
        nonlocal calls
        calls += 1
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(syscalls, "_openat2", always_busy)
    with pytest.raises(BlockingIOError, match="openat2"):
        syscalls.openat2(CURRENT_DIRECTORY, b"x", os.O_RDONLY, syscalls.RESOLVE_IN_ROOT)
    assert 1 < calls < 1000


def test_openat2_tries_again_after_a_race(root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    kernel = syscalls._openat2
    calls = 0

    def busy_once(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            ctypes.set_errno(errno.EAGAIN)
            return -1
        return kernel(*args)

    monkeypatch.setattr(syscalls, "_openat2", busy_once)
    os.close(files.open_in_root(root, b"file", os.O_RDONLY))
    assert calls == 2


def test_syncfs_of_a_closed_descriptor_is_an_error() -> None:
    with pytest.raises(OSError, match="syncfs: Bad file descriptor") as caught:
        syscalls.syncfs(1 << 30)
    assert caught.value.errno == errno.EBADF


def test_on_an_unknown_machine_only_the_calls_of_the_store_work(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_COLUMN", None)
    with pytest.raises(OSError, match="no system call numbers for") as caught:
        syscalls.call("unshare", 0)
    assert caught.value.errno == errno.ENOSYS
    (tmp_path / "file").write_text("x")
    fd = files.open_in_root(root, b"file", os.O_RDWR)
    syscalls.start_writing(fd, 0, 1)
    syscalls.syncfs(fd)
    os.close(fd)


def test_the_machine_is_not_the_32_bit_personality() -> None:
    code = "from pybuild.store.system import syscalls; print(syscalls.machine())"
    here = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    command = ["setarch", "linux32", sys.executable, "-c", code]
    there = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert here.stdout == there.stdout
