"""Several outputs of one image: all of them get their names, or none does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.events import Event, Exported
from pybuild.builder.output.export import Exporter, Format, ImageOutput, LocalOutput, Output, TarOutput
from pybuild.builder.workers.pool import Pool
from pybuild.store.errors import StoreError
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.store import Store
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = [Reference.parse("app:1")]


def outputs_in(place: Path) -> list[Output]:
    return [
        ImageOutput(Format.OCI, str(place / "oci.tar")),
        LocalOutput(str(place / "files")),
        ImageOutput(Format.OCI, str(place / "layout"), directory=True),
        ImageOutput(Format.OCI, str(place / "layout"), directory=True, names=(Reference.parse("app:2"),)),
        TarOutput(str(place / "files.tar")),
        TarOutput(str(place / "old")),
    ]


def export(store: Store, outputs: list[Output], complete: Callable[[], None], events: list[Event] | None = None) -> None:
    path = f"{store.ingest.new_path()}.tar"
    Path(path).write_bytes(tar(entry(b"f", data=b"x")))
    ((digest, _),) = import_archive(store, path, NAMES[0], 7)
    image = store.images.get(digest)
    seen: list[Event] = [] if events is None else events
    with Pool() as pool:
        exporter = Exporter(NAMES, store, pool, seen.append, all_layers=False, complete=complete)
        assert exporter.export([(output, image) for output in outputs]) is None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "place"
    found.mkdir()
    (found / "old").write_bytes(b"before")
    return found


def names_in(place: Path) -> list[str]:
    return sorted(name for name in os.listdir(place) if not name.startswith("."))


def test_names_come_last_and_together(store: Store, place: Path) -> None:
    seen: list[tuple[list[str], bytes]] = []
    events: list[Event] = []
    export(store, outputs_in(place), lambda: seen.append((names_in(place), (place / "old").read_bytes())), events)
    # A directory of files has its name from the beginning.
    assert seen == [(["files", "old"], b"before")]
    assert sorted(os.listdir(place)) == ["files", "files.tar", "layout", "oci.tar", "old"]
    assert (place / "old").read_bytes() == (place / "files.tar").read_bytes()
    assert b"app:1" in (place / "layout/index.json").read_bytes() and b"app:2" in (place / "layout/index.json").read_bytes()
    written = [os.path.basename(event.destination) for event in events if isinstance(event, Exported)]
    assert written == ["oci.tar", "layout", "layout", "files.tar", "old", "files"]


class Stopped(BaseException):
    pass


def stop() -> None:
    raise Stopped


def test_what_ends_the_work_before_the_names_leaves_nothing(store: Store, place: Path) -> None:
    with pytest.raises(Stopped):
        export(store, outputs_in(place), stop)
    assert os.listdir(place) == ["old"] and (place / "old").read_bytes() == b"before"


def test_an_output_that_fails_leaves_nothing_of_the_others(store: Store, place: Path) -> None:
    called: list[None] = []
    (place / "a file").write_bytes(b"")
    with pytest.raises(StoreError, match="is not a directory"):
        export(store, [*outputs_in(place), LocalOutput(str(place / "a file"))], lambda: called.append(None))
    assert sorted(os.listdir(place)) == ["a file", "old"] and (place / "old").read_bytes() == b"before"
    assert called == []
