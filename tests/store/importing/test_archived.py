"""Reading images of archives and layouts that are not imported."""

from __future__ import annotations

import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound, StoreError
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.toc import Toc
from pybuild.store.importing.archive import import_archive
from pybuild.store.importing.archived import ArchiveKind, ArchivePlace, archive_place, import_archived, open_archived
from pybuild.store.objects.parts import PARTS
from pybuild.store.store import Store
from pybuild.values.limits import applied
from tests.store.importing.test_layouts import LAYERS, PACKINGS, xz, zstd
from tests.support.archives import Archive
from tests.support.saved import Saved, gz, several
from tests.support.tars import entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OCI, DOCKER, LAYOUT = ArchiveKind.OCI_ARCHIVE, ArchiveKind.DOCKER_ARCHIVE, ArchiveKind.OCI_LAYOUT


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store; at the end it has no row and no file more than it had at first."""
    with Store(str(tmp_path / "store")) as opened:
        yield opened
        tables = [name for part in PARTS if part.table for name in (part.table, *part.more_tables)]
        assert sum(len(opened.metadata.all(f"SELECT 1 FROM {name}")) for name in tables) == 0
        assert os.listdir(opened.ingest.path) == []


def place(tmp_path: Path, kind: ArchiveKind, data: bytes, name: str = "") -> ArchivePlace:
    """A file with these bytes; a layout directory gets its members."""
    path = tmp_path / "archive"
    path.write_bytes(data)
    if kind is LAYOUT:
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "layout", filter="data")
        path = tmp_path / "layout"
    return ArchivePlace(kind, str(path), name)


def tables(store: Store, place: ArchivePlace) -> list[Toc]:
    with open_archived(place, store.ingest.new_path) as image:
        return image.tables()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("app", None),
        ("oci", None),
        ("docker://app", None),
        ("sha256:1234", None),
        ("oci-archive:f", (OCI, "f", "")),
        ("oci-archive:f:1.2", (OCI, "f", "1.2")),
        ("docker-archive:d/f:reg:5000/a/b:1", (DOCKER, "d/f", "reg:5000/a/b:1")),
        ("oci:dir:latest", (LAYOUT, "dir", "latest")),
        ("oci:a:b:c", (LAYOUT, "a:b", "c")),
        ("oci:none:b:c", (LAYOUT, "none", "b:c")),
        ("oci-archive:-", (OCI, "-", "")),
    ],
)
def test_the_place_that_a_name_means(
    text: str, found: tuple[object, ...] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f", "d/f", "dir/x", "a:b/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert archive_place(text) == (None if found is None else ArchivePlace(*found))  # type: ignore[arg-type]


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (OCI, Archive(LAYERS).data()), (LAYOUT, Archive(LAYERS).data()),
        (DOCKER, Saved(LAYERS, style="docker", pack=xz).data()), (DOCKER, Saved(LAYERS, style="podman").data()),
        (DOCKER, Saved(LAYERS, style="crane", pack=gz).data()), (DOCKER, Saved(LAYERS, pack=zstd).data()),
    ],
    ids=["oci", "layout", "docker with xz", "podman", "crane with gzip", "podman with zstd"],
)  # fmt: skip
def test_an_image_is_read_as_it_is_imported(
    kind: ArchiveKind, data: bytes, pack: Callable[[bytes], bytes], tmp_path: Path, store: Store
) -> None:
    found = place(tmp_path, kind, data if kind is LAYOUT else pack(data))
    with Store(str(tmp_path / "other")) as other:
        ((digest, names),) = import_archive(other, found.path, None, 7)
        stored = other.images.get(digest)
        expected = [list(other.changesets.toc(each)) for each in other.snapshots.changesets(stored.snapshot)[::-1]]
        with open_archived(found, store.ingest.new_path) as image:
            assert [list(toc) for toc in image.tables()] == expected
            assert image.config == stored.config
            assert list(image.names) == [name.familiar for name in names]
            assert [layer.diff_id for layer in image.layers] == list(stored.config.diff_ids)
            if kind is not DOCKER:
                assert (image.digest, image.manifest) == (digest, stored.manifest)
                assert [layer.size for layer in image.layers] == [layer.size for layer in stored.manifest.layers]
        with Store(str(tmp_path / "scratch")) as scratch:
            again, again_named = import_archived(scratch, found, store.ingest.new_path)
            assert (again.manifest_digest, list(again_named)) == (digest, names)


HOSTILE = {
    "another layer than the config names": (DigestMismatch, {"diff_ids": ["sha256:" + "0" * 64]}, {}),
    "a layer of other bytes": (InvalidImage, {"spoil": "layer"}, {}),
    "a layer that is missing": (NotFound, {"lose": "layer"}, {}),
    "a config of other bytes": (DigestMismatch, {"spoil": "config"}, {}),
    "a manifest of other bytes": (DigestMismatch, {"spoil": "manifest"}, {}),
    "a way out of the root": (StoreError, {"layers": [tar(entry(b"../x"))]}, {}),
    "a link out of the layer": (StoreError, {"layers": [tar(hardlink(b"a", b"b"))]}, {}),
    "a bomb": (InvalidImage, {"layers": [tar(entry(b"z", data=bytes(2 << 20)))]}, {"layer-bytes": 1 << 20}),
    "too many files": (InvalidImage, {"layers": LAYERS}, {"layer-entries": 1}),
    "a link in the archive": (InvalidImage, {"extra": [symlink(b"blobs/x", b"/etc/passwd")]}, {}),
    "another layout": (StoreError, {"layout": b"{}"}, {}),
}


@pytest.mark.parametrize(("error", "fields", "limits"), HOSTILE.values(), ids=HOSTILE)
def test_what_an_import_refuses_is_not_read(
    error: type[StoreError], fields: dict[str, object], limits: dict[str, int], tmp_path: Path, store: Store
) -> None:
    found = place(tmp_path, OCI, Archive(**fields).data())  # type: ignore[arg-type]
    messages = []
    with applied(limits):
        with Store(str(tmp_path / "other")) as other, pytest.raises(error) as refused:
            import_archive(other, found.path, None, 7)
        messages.append(str(refused.value))
        with pytest.raises(error) as refused:
            tables(store, found)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


def test_a_docker_archive_with_another_layer_or_config_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DigestMismatch, match="expands to"):
        tables(store, place(tmp_path, DOCKER, Saved(LAYERS, diff_ids=["sha256:" + "1" * 64, "sha256:" + "2" * 64]).data()))
    with pytest.raises(DigestMismatch, match="config"):
        tables(store, place(tmp_path, DOCKER, Saved(LAYERS, config=b"{}").data()))


def test_layers_are_only_read_for_their_files(tmp_path: Path, store: Store) -> None:
    with open_archived(place(tmp_path, OCI, Archive(LAYERS, spoil="layer").data()), store.ingest.new_path) as image:
        assert len(image.layers) == 2
        with pytest.raises(InvalidImage):
            image.tables()


TWO = several(Saved(LAYERS, tags=["app:1", "app:2"]), Saved(LAYERS[:1], tags=["other:3"]))


@pytest.mark.parametrize(("name", "layers"), [("app:1", 2), ("2", 2), ("3", 1), ("docker.io/library/other:3", 1)])
def test_a_name_or_a_tag_chooses_one_of_several_images(name: str, layers: int, tmp_path: Path, store: Store) -> None:
    assert len(tables(store, place(tmp_path, DOCKER, TWO, name))) == layers


@pytest.mark.parametrize(
    ("kind", "data", "name", "message", "hint"),
    [
        (DOCKER, TWO, "", "has 2 images", "add a name after a colon: app:1, app:2, other:3"),
        (DOCKER, TWO, "4", "has no image 4", "it has these names: app:1, app:2, other:3"),
        (OCI, Archive(LAYERS).data(), "none:1", "has no image none:1", "it has these names: test:1"),
        (DOCKER, Archive(LAYERS).data(), "", "is not an archive of `docker save`", "write oci-archive:"),
        (OCI, Saved(LAYERS).data(), "", "is not an OCI archive", "write docker-archive:"),
        (OCI, tar(entry(b"bin/sh")), "", "is not an OCI archive", None),
    ],
)
def test_a_place_without_the_image_is_refused(
    kind: ArchiveKind, data: bytes, name: str, message: str, hint: str | None, tmp_path: Path, store: Store
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        tables(store, place(tmp_path, kind, data, name))
    assert caught.value.hint is None if hint is None else hint in (caught.value.hint or "")


def test_a_file_is_not_a_layout_and_a_directory_is_not_an_archive(tmp_path: Path, store: Store) -> None:
    file = place(tmp_path, OCI, Archive(LAYERS).data()).path
    for found, hint in ((ArchivePlace(LAYOUT, file, ""), "oci-archive:"), (ArchivePlace(OCI, str(tmp_path), ""), "oci:")):
        with pytest.raises(InvalidImage) as caught:
            tables(store, found)
        assert caught.value.hint == f"write {hint}{found.path}"
    with pytest.raises(InvalidImage, match="not an OCI layout"):
        tables(store, ArchivePlace(LAYOUT, str(tmp_path), ""))


def test_an_image_for_another_machine_is_read_if_it_is_the_only_one(tmp_path: Path, store: Store) -> None:
    data = Archive(LAYERS, config_fields={"architecture": "riscv64"}).data()
    with open_archived(place(tmp_path, OCI, data), store.ingest.new_path) as image:
        assert json.loads(image.config.to_bytes())["architecture"] == "riscv64"
    wanted, other = Platform.parse("linux/riscv64"), Platform.parse("linux/arm64")
    with open_archived(place(tmp_path, OCI, data), store.ingest.new_path, wanted) as image:
        assert image.config.architecture == "riscv64"
    with pytest.raises(NotFound, match="is an image for linux/riscv64, not for linux/arm64"):
        open_archived(place(tmp_path, OCI, data), store.ingest.new_path, other).__enter__()
