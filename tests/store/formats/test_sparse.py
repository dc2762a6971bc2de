"""Archives with sparse files, in each form that GNU tar writes: read like the same archive without them."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, UnsafePath
from pybuild.store.formats.sparse import PlainTar
from pybuild.store.formats.tar import SparseMember, TarReader
from pybuild.values.limits import LAYER_BYTES, applied

if TYPE_CHECKING:
    from pathlib import Path

FORMS = {
    "GNU's own": ["--format=gnu"],
    "0.0": ["--format=pax", "--sparse-version=0.0"],
    "0.1": ["--format=pax", "--sparse-version=0.1"],
    "1.0": ["--format=pax", "--sparse-version=1.0"],
}


def made(directory: Path, options: list[str]) -> bytes:
    """An archive of all files of a directory."""
    names = sorted(os.listdir(directory))
    command: list[str | Path] = ["tar", "--create", "--mtime=@5.25", *options, "-C", directory, "--", *names]
    return subprocess.run(command, check=True, capture_output=True).stdout


def members(archive: bytes) -> list[tuple[bytes, int, int, bytes]]:
    reader = TarReader(PlainTar(io.BytesIO(archive), LAYER_BYTES))
    return [(member.name, member.mode, member.mtime, b"".join(reader.data())) for member in reader]


def write(path: Path, size: int, *parts: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in parts:
            file.seek(offset)
            file.write(data)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files with holes, and others, between which they lie in the archive."""
    write(tmp_path / "a", 700, (0, b"a" * 700))
    write(tmp_path / "b", 1 << 20, (0, b"start"), (1 << 19, b"middle"), ((1 << 20) - 3, b"end"))
    write(tmp_path / "c", 1 << 20)
    write(tmp_path / ("d" * 150), 3 << 20, *((step << 16, b"%d" % step) for step in range(0, 48, 2)))
    write(tmp_path / "e", 100_000, (65_536, b"x" * 34_464))
    write(tmp_path / "f", 3, (0, b"end"))
    return tmp_path


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_holes_are_zeros(files: Path, options: list[str]) -> None:
    archive = made(files, [*options, "--sparse", "--hole-detection=seek"])
    assert len(archive) < 1 << 20
    with pytest.raises(SparseMember, match="sparse files are not supported in a layer"):
        list(TarReader(io.BytesIO(archive)))
    found = members(archive)
    assert found == members(made(files, options[:1]))
    assert [(name, data) for name, _, _, data in found] == [
        (os.fsencode(name), (files / name).read_bytes()) for name in sorted(os.listdir(files))
    ]


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_a_plain_archive_stays_as_it_is(files: Path, options: list[str]) -> None:
    archive = made(files, options[:1])
    stream = PlainTar(io.BytesIO(archive), LAYER_BYTES)
    assert b"".join(iter(lambda: stream.read(1000), b"")) == archive


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_holes_count_for_the_limit(files: Path, options: list[str]) -> None:
    archive = made(files, [*options, "--sparse", "--hole-detection=seek"])
    with applied({LAYER_BYTES.name: 1 << 20}), pytest.raises(InvalidImage, match="with the holes of its sparse files"):
        members(archive)


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_a_damaged_archive_is_refused_or_read(files: Path, options: list[str]) -> None:
    archive = made(files, [*options, "--sparse", "--hole-detection=seek"])

    @given(st.integers(0, 4000), st.binary(min_size=1, max_size=30))
    @settings(max_examples=200)
    def changed(at: int, data: bytes) -> None:
        with applied({LAYER_BYTES.name: 16 << 20}), contextlib.suppress(InvalidImage, UnsafePath):
            members(archive[:at] + data + archive[at + len(data) :])

    changed()
