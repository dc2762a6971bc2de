"""Exporting a part of a root filesystem writes to its destination and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import StoreError
from pybuild.store.exporting.part import write_part
from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Contents:
    """The content of every file is its name and the number of its layer."""

    def __init__(self) -> None:
        self.announced: list[tuple[int, bytes]] = []

    def announce(self, wanted: Iterable[tuple[int, Entry]]) -> None:
        self.announced += [(layer, entry.path) for layer, entry in wanted]

    def chunks(self, layer: int, entry: Entry) -> Iterator[bytes]:
        assert (layer, entry.path) in self.announced
        yield b"%d:%s" % (layer, entry.path)


def toc(*entries: Entry) -> Toc:
    return Toc.of(sorted(entries, key=lambda entry: sort_key(entry.path)))


def file(path: str, **fields: object) -> Entry:
    return Entry(path.encode(), Kind.FILE, 0o640, size=1, mtime=1000, **fields)  # type: ignore[arg-type]


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path.encode(), Kind.DIRECTORY, mode, mtime=2000)


def link(path: str, target: str) -> Entry:
    return Entry(path.encode(), Kind.SYMLINK, 0o777, link=target.encode())


UPPER = toc(
    directory("d"), file("d/new"), Entry(b"d/gone", Kind.WHITEOUT), link("d/out", "/../../etc"), file("first"),
    file("d/second", hardlink=b"first"), file("d/third", hardlink=b"first"),
    Entry(b"d/null", Kind.CHAR, 0o666, rdev=os.makedev(1, 3)), Entry(b"d/fifo", Kind.FIFO, 0o600),
)  # fmt: skip
LOWER = toc(
    directory("d", 0o700), file("d/gone"), file("d/old"), directory("d/e", 0o500), file("d/e/f"), link("to", "/d/e")
)
VIEW = View([UPPER, LOWER])


def test_a_directory_is_merged_from_all_layers(tmp_path: Path) -> None:
    report = write_part(VIEW, b"/d", Contents(), str(tmp_path / "out"))
    out = tmp_path / "out"
    found = {
        str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if stat.S_ISREG(path.lstat().st_mode)
    }
    assert found == {
        "new": "0:d/new", "old": "1:d/old", "e/f": "1:d/e/f", "second": "0:d/second", "third": "0:d/second",
    }  # fmt: skip
    assert (out / "second").samefile(out / "third")
    assert os.readlink(out / "out") == "/../../etc"
    assert (report.files, report.devices) == (7, (b"null",))
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, out / "e", out / "new")] == [0o755, 0o500, 0o640]
    assert (int(out.stat().st_mtime), int((out / "new").stat().st_mtime)) == (2000, 1000)


@pytest.mark.parametrize(
    ("path", "text"),
    [(b"d/e/f", "1:d/e/f"), (b"/to/f", "1:d/e/f"), (b"/d/third", "0:d/third"), (b"../first", "0:first")],
)
def test_a_file_gets_the_name_of_the_destination(tmp_path: Path, path: bytes, text: str) -> None:
    assert write_part(VIEW, path, Contents(), str(tmp_path / "name")).files == 1
    assert (tmp_path / "name").read_text() == text
    assert os.listdir(tmp_path) == ["name"]


def test_hard_links_across_layers_are_kept(tmp_path: Path) -> None:
    upper = Toc.of([directory("d"), file("d/new")], ((b"d/new", b"old"), (b"d/new", b"gone")))
    lower = toc(file("gone"), file("old"), file("third", hardlink=b"old"))
    hiding = toc(Entry(b"gone", Kind.WHITEOUT))
    write_part(View([hiding, upper, lower]), b"", Contents(), str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["d", "old", "third"]
    assert {path: (tmp_path / "out" / path).stat().st_nlink for path in ("d/new", "old", "third")} == {
        "d/new": 3, "old": 3, "third": 3
    }  # fmt: skip
    assert (tmp_path / "out/third").read_text() == "1:d/new"


def test_the_root_can_be_exported(tmp_path: Path) -> None:
    assert write_part(VIEW, b"/", Contents(), str(tmp_path / "out")).files == 9
    assert sorted(os.listdir(tmp_path / "out")) == ["d", "first", "to"]


@pytest.mark.parametrize("path", [b"/d", b"/first"])
@pytest.mark.parametrize("kind", ["file", "directory", "dangling", "link"])
def test_an_existing_destination_stays(tmp_path: Path, path: bytes, kind: str) -> None:
    place = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    match kind:
        case "file":
            place.write_text("kept")
        case "directory":
            place.mkdir()
        case "dangling":
            place.symlink_to("nowhere")
        case _:
            place.symlink_to("elsewhere")
    with pytest.raises(StoreError, match="exists already"):
        write_part(VIEW, path, Contents(), str(place))
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "out"]
    assert os.listdir(tmp_path / "elsewhere") == []
    assert kind != "file" or place.read_text() == "kept"


@pytest.mark.parametrize(
    ("path", "said"), [(b"/none", 'there is no "/none"'), (b"/first/x", "there is no"), (b"/d/gone", "there is no")]
)
def test_a_missing_path_is_an_error(tmp_path: Path, path: bytes, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        write_part(VIEW, path, Contents(), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == []


def test_a_missing_parent_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        write_part(VIEW, b"/first", Contents(), str(tmp_path / "none/out"))
    with pytest.raises((StoreError, OSError), match="No such file"):
        write_part(VIEW, b"/d", Contents(), str(tmp_path / "none/out"))
