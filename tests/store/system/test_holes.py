"""Files with holes: what is read is what is there, and a hole is neither read nor written."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.system import holes
from pybuild.store.system.holes import (
    MIN_HOLE,
    ZEROS,
    SparseFile,
    chunks_of_file,
    copy_file,
    create_sparse,
    open_sparse,
    size_on_disk,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

MIB = 1 << 20
GIB = 1 << 30


def make_file(path: Path, size: int, *parts: tuple[int, bytes]) -> Path:
    """A file of this size with data at some offsets, and holes everywhere else."""
    with open(path, "wb") as file:
        for at, data in parts:
            file.seek(at)
            file.write(data)
        file.truncate(size)
    return path


def read(path: Path, start: int = 0) -> list[bytes]:
    with open(path, "rb") as file:
        return list(chunks_of_file(file.fileno(), start))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="one hole"),
        pytest.param([(0, b"a" * 5000)], id="data, then a hole"),
        pytest.param([(3 * MIB - 7, b"z" * 7)], id="a hole, then data"),
        pytest.param([(MIB + 5, b"x" * 70_000), (2 * MIB, b"y")], id="holes around data"),
        pytest.param([(0, b"d" * 3 * MIB)], id="no hole"),
        pytest.param([(0, bytes(3 * MIB))], id="zeros that were written"),
    ],
)
@pytest.mark.parametrize("start", [0, 1, MIB + 6])
def test_what_is_read_is_what_is_there(tmp_path: Path, parts: list[tuple[int, bytes]], start: int) -> None:
    path = make_file(tmp_path / "file", 3 * MIB, *parts)
    assert b"".join(read(path, start)) == path.read_bytes()[start:]


@given(
    st.integers(min_value=0, max_value=20 * MIN_HOLE),
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=20 * MIN_HOLE), st.binary(min_size=1, max_size=9)), max_size=9
    ),
)
@settings(deadline=None)
def test_any_holes_read_as_zeros(
    tmp_path_factory: pytest.TempPathFactory, size: int, parts: list[tuple[int, bytes]]
) -> None:
    path = make_file(tmp_path_factory.mktemp("holes") / "file", size, *parts)
    assert b"".join(read(path)) == path.read_bytes()


def test_a_hole_is_one_object_again_and_again(tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", GIB + 10, (0, b"data"), (GIB - 1, b"data"))
    chunks = read(path)
    assert sum(map(len, chunks)) == GIB + 10
    assert sum(chunk is ZEROS for chunk in chunks) >= GIB // MIB - 2


def test_a_filesystem_without_holes_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path / "file", 3 * MIB + 9, (MIB, b"data"))

    def refuses(*_: int) -> int:
        raise OSError(22, "Invalid argument")

    with monkeypatch.context() as patch:
        patch.setattr(os, "lseek", refuses)
        with open(path, "rb") as file:
            found = b"".join(holes.chunks_of_file(file.fileno()))
    assert hashlib.sha256(found).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_a_range_is_read(tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", 5 * MIB, (2 * MIB, b"middle"))
    for start, size in ((0, 10), (MIB, MIB + 3), (2 * MIB + 2, 2 * MIB), (4 * MIB, 9 * MIB), (9 * MIB, 1)):
        with open(path, "rb") as file:
            assert b"".join(chunks_of_file(file.fileno(), start, size)) == path.read_bytes()[start : start + size]


PIECES = st.one_of(
    st.binary(max_size=9),
    st.integers(min_value=0, max_value=3 * MIN_HOLE).map(bytes),
    st.integers(min_value=MIN_HOLE - 2, max_value=MIN_HOLE + 2).map(lambda size: b"x" * size),
)


@given(st.lists(PIECES, max_size=12), st.booleans())
@settings(deadline=None)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], together: bool
) -> None:
    path = tmp_path_factory.mktemp("written") / "file"
    with create_sparse(str(path)) as file:
        for piece in [b"".join(pieces)] if together else pieces:
            assert file.write(piece) == len(piece)
    assert path.read_bytes() == b"".join(pieces)
    with open_sparse(str(path)) as reader:
        found = b"".join(iter(lambda: reader.read(MIN_HOLE + 1), b""))
    assert found == b"".join(pieces)


def test_zeros_become_holes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with create_sparse(str(path)) as file:
        file.write(b"header")
        for _ in range(300):
            file.write(ZEROS)
        file.write(b"middle")
        file.write(bytes(100 * MIB))
    assert path.stat().st_size == 400 * MIB + 12
    assert size_on_disk(str(path), 400 * MIB + 12) < MIB


def test_a_file_without_holes_takes_its_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    assert size_on_disk(str(path), 10_000) == 10_000


def test_holes_of_a_file_are_not_read(tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", 100 * MIB, (50 * MIB, b"data"))
    with open_sparse(str(path)) as reader:
        chunks = list(iter(lambda: reader.read(MIB), b""))
    assert b"".join(chunks) == path.read_bytes()
    assert sum(chunk is ZEROS for chunk in chunks) >= 98


# -- copies


def copy(source: Path, out: BinaryIO, size: int) -> int:
    with open(source, "rb") as file:
        return copy_file(file.fileno(), out, size)


@given(
    st.integers(min_value=0, max_value=20 * MIN_HOLE),
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=20 * MIN_HOLE), st.binary(min_size=1, max_size=9)), max_size=9
    ),
    st.binary(max_size=600),
)
@settings(deadline=None)
def test_a_copy_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, size: int, parts: list[tuple[int, bytes]], before: bytes
) -> None:
    directory = tmp_path_factory.mktemp("copies")
    path = make_file(directory / "file", size, *parts)
    data, size = path.read_bytes(), path.stat().st_size
    with create_sparse(str(directory / "copy")) as out:
        out.write(before)
        assert copy(path, out, size) == size
        out.write(b"behind")
    assert (directory / "copy").read_bytes() == before + data + b"behind"


def test_a_copy_has_the_holes(tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", GIB, (0, b"data"), (GIB // 2, b"data"))
    with create_sparse(str(tmp_path / "copy")) as out:
        out.write(b"header")
        copy(path, out, GIB)
    assert (tmp_path / "copy").stat().st_size == GIB + 6
    assert size_on_disk(str(tmp_path / "copy"), GIB) < 4 * MIB


def test_the_kernel_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path / "file", 3 * MIB, (0, os.urandom(3 * MIB)))
    monkeypatch.setattr(holes, "chunks_of_file", lambda *_: pytest.fail("read"))
    with create_sparse(str(tmp_path / "copy")) as out:
        copy(path, out, 3 * MIB)
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, 0])
@pytest.mark.parametrize("copied", [0, MIB + 3])
def test_what_the_kernel_does_not_copy_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, copied: int
) -> None:
    """An error, or the answer that nothing more can be copied, at once or after a part in small pieces."""
    kernel, left = os.copy_file_range, [copied]

    def limited(source: int, target: int, count: int, **options: int) -> int:
        if not left[0]:
            if code:
                raise OSError(code, os.strerror(code))
            return 0
        done = kernel(source, target, min(count, left[0], 1000_000), **options)
        left[0] -= done
        return done

    path = make_file(tmp_path / "file", 3 * MIB, (0, os.urandom(3 * MIB)))
    monkeypatch.setattr(os, "copy_file_range", limited)
    with create_sparse(str(tmp_path / "copy")) as out:
        out.write(b"before")
        assert copy(path, out, 3 * MIB) == 3 * MIB
        out.write(b"behind")
    assert (tmp_path / "copy").read_bytes() == b"before" + path.read_bytes() + b"behind"


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = make_file(tmp_path / "file", MIB, (0, b"x" * MIB))
    with open("/dev/full", "wb") as device, pytest.raises(OSError, match="No space"):
        copy(path, device, MIB)
    monkeypatch.setattr(os, "copy_file_range", full)
    with create_sparse(str(tmp_path / "copy")) as out:
        monkeypatch.setattr(SparseFile, "write", full)
        with pytest.raises(OSError, match="No space"):
            copy(path, out, MIB)
            out.flush()
        monkeypatch.undo()


def test_a_copy_into_a_pipe_or_to_the_end_of_a_file(tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", 3 * MIB, (0, os.urandom(3 * MIB)))
    with subprocess.Popen(["sha256sum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        with open(os.dup(process.stdin.fileno()), "wb") as pipe:
            copy(path, pipe, 3 * MIB)
        process.stdin.close()
        assert process.stdout.read(64).decode() == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "copy").write_bytes(b"before")
    with open(tmp_path / "copy", "ab") as out:
        copy(path, out, 3 * MIB)
    assert (tmp_path / "copy").read_bytes() == b"before" + path.read_bytes()


def test_a_copy_of_a_shorter_file_says_how_much_there_was(tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", MIB, (0, b"x" * MIB))
    with create_sparse(str(tmp_path / "copy")) as out:
        assert copy(path, out, 2 * MIB) == MIB
