"""How users name the source and the destination of a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.builder.errors import UnclearPlace
from pybuild.builder.transfer.file_target import FileTarget
from pybuild.builder.transfer.places import RegistryPlace, StorePlace, parse_place
from pybuild.builder.transfer.store_target import StoreTarget
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archived import ArchiveKind, ArchivePlace

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.builder.transfer.places import CopyPlace


def name(text: str) -> Reference:
    return Reference.parse(text)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "file.tar").touch()
    (tmp_path / "a:b").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("docker://debian", RegistryPlace(name("docker.io/library/debian:latest"))),
        ("docker://h:5000/a/b:1", RegistryPlace(name("h:5000/a/b:1"))),
        ("docker://store:1", RegistryPlace(name("store:1"))),
        ("store:app", StorePlace("app")),
        ("store:store:1", StorePlace("store:1")),
        ("store:sha256:abcdef", StorePlace("sha256:abcdef")),
        ("oci:layout", ArchivePlace(ArchiveKind.OCI_LAYOUT, "layout", "")),
        ("oci:new:v1", ArchivePlace(ArchiveKind.OCI_LAYOUT, "new", "v1")),
        ("oci-archive:a:b:c", ArchivePlace(ArchiveKind.OCI_ARCHIVE, "a:b", "c")),
        ("docker-archive:new.tar:h:5000/a:1", ArchivePlace(ArchiveKind.DOCKER_ARCHIVE, "new.tar", "h:5000/a:1")),
        ("oci-archive:-", ArchivePlace(ArchiveKind.OCI_ARCHIVE, "-", "")),
    ],
)
def test_places(text: str, place: CopyPlace) -> None:
    assert parse_place(text) == place
    if not isinstance(place, ArchivePlace):
        assert parse_place(str(place)) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app", "write docker://app for a registry, store:app for the store"),
        ("h:5000/app:1", "write docker://h:5000/app:1 for a registry, store:h:5000/app:1 for the store"),
        ("layout", "write oci:layout for the layout in this directory"),
        ("file.tar", "write oci-archive:file.tar or docker-archive:file.tar for this file"),
        ("docker-daemon:app:1", "a place is one of docker://NAME, store:NAME, oci:DIR"),
        ("", "a place is one of"),
        ("A B", "a place is one of"),
        ("store:", "the name of the image is missing"),
        ("oci:", "the path is missing"),
        ("oci-archive::v1", "the path is missing"),
    ],
)
def test_unclear_places(text: str, said: str) -> None:
    with pytest.raises(UnclearPlace) as caught:
        parse_place(text)
    assert said in f"{caught.value} {caught.value.hint}"


def test_invalid_names_are_errors() -> None:
    for text in ("docker://A", "docker://", "docker://a:b c"):
        with pytest.raises(InvalidImage):
            parse_place(text)
    for text in ("A", f"x@sha256:{'0' * 64}"):
        with pytest.raises(InvalidImage):
            StoreTarget.at(text)


@pytest.mark.parametrize(
    ("text", "names", "tag"),
    [
        ("oci:new", None, ""),
        ("oci:new:v1", (), "v1"),
        ("oci-archive:x:app:v1", (name("app:v1"),), ""),
        ("oci:new:h/app", (name("h/app:latest"),), ""),
        ("docker-archive:x:app", (name("app:latest"),), ""),
    ],
)
def test_names_in_archives(text: str, names: tuple[Reference, ...] | None, tag: str) -> None:
    place = parse_place(text)
    assert isinstance(place, ArchivePlace)
    target = FileTarget.at(place)
    assert (target.names, target.tag) == (names, tag)


@pytest.mark.parametrize("text", ["oci:new:a b", "oci:new:-x", "docker-archive:x:A", f"oci:new:a@sha256:{'0' * 64}"])
def test_wrong_names_in_archives(text: str) -> None:
    place = parse_place(text)
    assert isinstance(place, ArchivePlace)
    with pytest.raises(InvalidImage):
        FileTarget.at(place)
