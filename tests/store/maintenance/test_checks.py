"""What fsck says about the links across layers of a table of contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.maintenance.checks import StoreChecks
from pybuild.store.maintenance.trees import TreesHere
from pybuild.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.store.formats.toc import Links

ROWS = [Entry(b"d", Kind.DIRECTORY), Entry(b"d/f", Kind.FILE), Entry(b"gone", Kind.WHITEOUT)]


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ((), ""),
        (((b"d/f", b"low"),), ""),
        (((b"low", b"other"),), ""),
        (((b"low",),), '"low" cannot be one file'),
        (((b"d", b"low"),), '"d, low" cannot be one file'),
        (((b"gone", b"low"),), '"gone, low" cannot be one file'),
    ],
)
def test_links_are_between_files(links: Links, problem: str, tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        changeset = store.changesets.adopt(Toc.write(store.ingest.new_path(), ROWS, links))
        assert StoreChecks(store, TreesHere(), deep=False).toc(changeset) == problem


def test_damaged_links_are_damage(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        path = tmp_path / "toc"
        Toc.write(str(path), ROWS, ((b"d/f", b"low"),))
        path.write_bytes(path.read_bytes().replace(b"low", b"LOW"))
        changeset = store.changesets.adopt(str(path))
        assert "damaged table of contents" in StoreChecks(store, TreesHere(), deep=False).toc(changeset)
