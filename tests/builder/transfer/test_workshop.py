"""Where a copy has its temporary files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.transfer.workshop import CopyWorkshop

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CopyWorkshop:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    return CopyWorkshop(str(tmp_path / "store"), lambda _: None, writes=False)


def test_large_files_lie_beside_the_destination(work: CopyWorkshop, tmp_path: Path) -> None:
    with work, work.directory_for(str(tmp_path / "out/archive.tar")) as directory:
        assert os.path.dirname(directory) == str(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("destination", ["-", "/dev/null", "out/layout"])
def test_where_nothing_can_lie_beside_it(
    work: CopyWorkshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if destination == "out/layout":
        monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path / "out"))
    with work, work.directory_for(destination) as directory:
        assert directory.startswith(str(tmp_path / "scratch"))
    assert os.listdir(tmp_path / "scratch") == []
    assert not (tmp_path / "store").exists()
