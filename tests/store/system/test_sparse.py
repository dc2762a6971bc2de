"""Files with holes: what is read is what is there, and a hole is neither read nor written."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.system import sparse
from pybuild.store.system.sparse import MIN_HOLE, ZEROS, chunks_of_file

if TYPE_CHECKING:
    from pathlib import Path

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
    st.lists(st.tuples(st.integers(min_value=0, max_value=20 * MIN_HOLE), st.binary(min_size=1, max_size=9)), max_size=9),
)
@settings(deadline=None)
def test_any_holes_read_as_zeros(tmp_path_factory: pytest.TempPathFactory, size: int, parts: list[tuple[int, bytes]]) -> None:
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
            found = b"".join(sparse.chunks_of_file(file.fileno()))
    assert hashlib.sha256(found).digest() == hashlib.sha256(path.read_bytes()).digest()
