"""Importing layouts in archives and directories, docker archives, and pipes: valid and hostile ones."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import tarfile
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound, StoreError, UnsafePath
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.maintenance import fsck
from pybuild.store.store import Store
from pybuild.values.limits import applied
from tests.support.archives import Archive
from tests.support.limits import at_most
from tests.support.saved import Saved, gz, several, sha
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKINGS = {"plain": bytes, "gzip": gz, "zstd": zstd, "xz": xz, "bzip2": bz2.compress}
LAYERS = [tar(entry(b"etc/a", data=b"1"), entry(b"b", data=b"2" * 9000)), tar(entry(b"etc/.wh.a"), entry(b"c"))]
ROOTFS = tar(directory(b"./"), directory(b"./bin/"), entry(b"./bin/sh", data=b"x"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


def load(store: Store, tmp_path: Path, data: bytes, name: str | None = None) -> dict[str, list[str]]:
    """Import an archive; return digest -> names."""
    path = tmp_path / "archive"
    path.write_bytes(data)
    return load_path(store, path, name)


def load_path(store: Store, path: Path, name: str | None = None) -> dict[str, list[str]]:
    reference = None if name is None else Reference.parse(name).with_default_tag()
    found = import_archive(store, str(path), reference, 7)
    return {str(digest): [given.familiar for given in names] for digest, names in found}


def files(store: Store, name: str) -> dict[bytes, int]:
    """Path -> size, of an image's root filesystem."""
    return {found.path: found.size for found in store.snapshots.view(store.images.find(name).snapshot).walk(b"")}


def whole(store: Store) -> None:
    report = fsck.check(store)
    assert report.damage == ()
    assert report.garbage == ()


# -- docker archives


@pytest.mark.parametrize("style", ["docker", "podman", "crane"])
@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_a_docker_archive_is_imported(style: str, pack: Callable[[bytes], bytes], store: Store, tmp_path: Path) -> None:
    archive = Saved(LAYERS, style=style, pack=pack)
    ((digest, names),) = load(store, tmp_path, archive.data()).items()
    image = store.images.find("test:1")
    assert names == ["test:1"] and str(image.manifest_digest) == digest
    assert files(store, "test:1") == {b"b": 9000, b"c": 0, b"etc": 0}
    # Docker's image ID is the digest of the config.
    assert store.blobs.read(image.manifest.config.digest, at_most(1 << 20)) == archive.config_bytes
    whole(store)


@pytest.mark.parametrize(
    ("pack", "kept"),
    [(gz, True), (zstd, True), (bytes, False), (xz, False), (bz2.compress, False)],
    ids=["gzip", "zstd", "plain", "xz", "bzip2"],
)
def test_gzip_and_zstd_layers_stay_as_they_are_and_all_others_become_gzip(
    pack: Callable[[bytes], bytes], kept: bool, store: Store, tmp_path: Path
) -> None:
    load(store, tmp_path, Saved(LAYERS, pack=pack).data())
    for descriptor, layer in zip(store.images.find("test:1").manifest.layers, LAYERS, strict=True):
        assert (descriptor.digest == Digest.of(pack(layer))) is kept
        assert kept or gzip.decompress(store.blobs.read(descriptor.digest, at_most(1 << 20))) == layer


def test_a_layer_that_appears_twice_is_a_link_to_the_first(store: Store, tmp_path: Path) -> None:
    archive = Saved([LAYERS[0], LAYERS[1], LAYERS[0]], style="docker")
    assert any(member[156:157] == b"2" for member in archive.members()[0].values())
    load(store, tmp_path, archive.data())
    assert len(store.images.find("test:1").manifest.layers) == 3
    assert files(store, "test:1") == {b"b": 9000, b"c": 0, b"etc": 0, b"etc/a": 1}


def test_the_digest_does_not_depend_on_what_the_store_has(store: Store, tmp_path: Path) -> None:
    plain = Saved(LAYERS).data()
    with Store(str(tmp_path / "other")) as other:
        load(other, tmp_path, Saved(LAYERS, pack=zstd).data())
        load(other, tmp_path, Saved(LAYERS, pack=lambda data: gzip.compress(data, 9, mtime=3)).data())
        assert load(other, tmp_path, plain) == load(store, tmp_path, plain)
        whole(other)


def test_an_image_without_layers_and_one_without_names_are_images(store: Store, tmp_path: Path) -> None:
    ((digest, names),) = load(store, tmp_path, Saved([], tags=None).data()).items()
    assert names == []
    assert store.images.get(Digest.parse(digest)).snapshot is None


def test_both_forms_in_one_archive_are_read_as_a_layout(store: Store, tmp_path: Path) -> None:
    """Docker writes such archives since version 25."""
    item = json.dumps([{"Config": "nowhere", "RepoTags": ["other:1"], "Layers": []}]).encode()
    both = Archive(layers=LAYERS, extra=[entry(b"manifest.json", data=item), entry(b"repositories", data=b"{}")])
    assert load(store, tmp_path, both.data()) == load(store, tmp_path, Archive(layers=LAYERS).data())


# -- compressed archives, pipes


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize(
    ("data", "name"),
    [(Archive(layers=LAYERS).data(), None), (Saved(LAYERS).data(), None), (ROOTFS, "root")],
    ids=["layout", "docker", "rootfs"],
)
def test_a_whole_archive_can_be_compressed(
    data: bytes, name: str | None, pack: Callable[[bytes], bytes], store: Store, tmp_path: Path
) -> None:
    found = load(store, tmp_path, pack(data), name)
    with Store(str(tmp_path / "plain")) as plain:
        (expected,) = load(plain, tmp_path, data, name)
        (digest,) = found
        # The tar of a root filesystem becomes the layer: a zstd file stays another blob, anything else becomes the same gzip.
        assert (digest == expected) is not (name == "root" and pack in (zstd, gz))
        assert files(store, digest) == files(plain, expected)
    whole(store)


@pytest.mark.parametrize("pack", [bytes, gz, xz], ids=["plain", "gzip", "xz"])
@pytest.mark.parametrize(
    ("data", "name"),
    [(Archive(layers=LAYERS).data(), None), (Saved(LAYERS).data(), None), (ROOTFS, "root")],
    ids=["layout", "docker", "rootfs"],
)
def test_an_archive_can_come_through_a_pipe(
    data: bytes, name: str | None, pack: Callable[[bytes], bytes], store: Store, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(pack(data),))
    writer.start()
    found = load_path(store, fifo, name)
    writer.join()
    assert found == load(store, tmp_path, pack(data), name)
    whole(store)


@pytest.mark.parametrize("pack", [gz, zstd, xz, bz2.compress], ids=["gzip", "zstd", "xz", "bzip2"])
def test_a_compressed_archive_cut_anywhere_is_refused(
    pack: Callable[[bytes], bytes], store: Store, tmp_path: Path
) -> None:
    data = pack(Saved([tar(entry(b"noise", data=os.urandom(3000)))]).data())
    for cut in range(1, len(data) - 12, 131):
        with pytest.raises(StoreError):
            load(store, tmp_path, data[:cut])
    assert store.images.all() == [] and os.listdir(store.ingest.path) == []


@pytest.mark.parametrize("pack", [xz, bz2.compress], ids=["xz", "bzip2"])
def test_a_file_can_contain_several_padded_streams(
    pack: Callable[[bytes], bytes], store: Store, tmp_path: Path
) -> None:
    data = Saved(LAYERS).data()
    assert load(store, tmp_path, pack(data[:700]) + bytes(8) + pack(data[700:]) + bytes(4)) != {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (xz(ROOTFS)[:40] + b"\xff" * 40, "damaged xz stream"),
        (b"BZh9" + b"\xff" * 60, "damaged bzip2 stream"),
        (xz(ROOTFS) + b"a tail of garbage", "damaged xz stream"),
        (bz2.compress(ROOTFS) + b"a tail of garbage", "damaged bzip2 stream"),
    ],
    ids=["xz", "bzip2", "xz with a tail", "bzip2 with a tail"],
)
def test_damaged_streams_are_refused(data: bytes, message: str, store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match=message):
        load(store, tmp_path, data, "root")
    whole(store)


@pytest.mark.parametrize("pack", [xz, bz2.compress], ids=["xz", "bzip2"])
def test_a_bomb_is_stopped(pack: Callable[[bytes], bytes], store: Store, tmp_path: Path) -> None:
    bomb = pack(tar(entry(b"zeros", data=bytes(4 << 20))))
    with applied({"layer-bytes": 1 << 20}), pytest.raises(InvalidImage, match="limit of 1 MiB") as caught:
        load(store, tmp_path, bomb, "root")
    assert "PYBUILD_LIMIT_LAYER_BYTES" in str(caught.value.hint)
    whole(store)


def test_the_memory_that_an_xz_stream_requires_is_limited(store: Store, tmp_path: Path) -> None:
    stream = bytearray(xz(ROOTFS))
    assert stream[12:16] == b"\x02\x00\x21\x01"  # the block header: its size, no flags, LZMA2 with one byte of settings
    stream[16] = 38  # a dictionary of 2 GiB
    stream[20:24] = zlib.crc32(stream[12:20]).to_bytes(4, "little")
    greedy = bytes(stream)
    with pytest.raises(InvalidImage, match="damaged xz stream: Memory usage limit"):
        load(store, tmp_path, greedy, "root")


# -- several images


def saved(*tags: str, data: bytes = b"") -> Saved:
    return Saved([tar(entry(b"f", data=data))], tags=list(tags))


def index_of(*archives: Archive) -> bytes:
    """One layout with the images of several layouts."""
    members: dict[str, bytes] = {}
    manifests = []
    for archive in archives:
        with tarfile.open(fileobj=io.BytesIO(archive.data())) as opened:
            for member in opened:
                file = opened.extractfile(member)
                if file is not None:
                    members[member.name] = file.read()
        manifests += json.loads(members["index.json"])["manifests"]
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return tar(*[entry(name.encode(), data=data) for name, data in members.items()])


def oci(name: str | None = None, tag: str | None = None, platform: str | None = None, data: bytes = b"") -> Archive:
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
    fields: dict[str, object] = {}
    if platform is not None:
        fields["platform"] = dict(zip(("os", "architecture"), platform.split("/"), strict=True))
    return Archive(
        layers=[tar(entry(b"f", data=data))],
        annotations={key: value for key, value in annotations.items() if value is not None},
        index_descriptor=fields,
    )


HOST = "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
TWO_SAVED = several(saved("a:1", "a:2", data=b"a"), saved("b:1", data=b"b"))
TWO_NAMED = index_of(oci("docker.io/library/a:1", "1", data=b"a"), oci("docker.io/library/b:1", "1", data=b"b"))
TWO_TAGGED = index_of(oci(tag="v1", data=b"a"), oci(tag="v2", data=b"b"))
PLATFORMS = index_of(oci("a:1", platform="linux/s390x", data=b"z"), oci("a:1", platform=HOST, data=b"a"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TWO_SAVED, [["a:1", "a:2"], ["b:1"]]),
        (TWO_NAMED, [["a:1"], ["b:1"]]),
        (TWO_TAGGED, [[], []]),
        (index_of(oci(data=b"a"), oci(data=b"b")), [[], []]),
        (index_of(oci("a:1"), oci("b:1")), [["a:1", "b:1"]]),
        (several(saved("a:1"), saved("b:1")), [["a:1", "b:1"]]),
        (PLATFORMS, [["a:1"]]),
        (index_of(oci(platform="linux/s390x", data=b"z"), oci(platform=HOST)), [[]]),
    ],
    ids=[
        "docker archive", "named", "tagged", "without names", "one image of two names", "one saved image of two names",
        "one name, two platforms", "no name, two platforms",
    ],
)  # fmt: skip
def test_all_images_of_an_archive_are_imported(data: bytes, expected: list[list[str]], store: Store, tmp_path: Path) -> None:
    assert list(load(store, tmp_path, data).values()) == expected
    whole(store)


@pytest.mark.parametrize(
    ("data", "name", "content"),
    [
        (TWO_SAVED, "b:1", b"b"),
        (TWO_SAVED, "a:2", b"a"),
        (TWO_NAMED, "b:1", b"b"),
        (TWO_TAGGED, "mine:v2", b"b"),
        (PLATFORMS, "mine:1", b"a"),
        (saved("a:1", "a:2", data=b"x").data(), "mine:1", b"x"),
        (oci(tag="v1", data=b"x").data(), "mine:v2", b"x"),
    ],
    ids=["saved", "further name", "named", "tag alone", "platform", "only one saved", "only one tagged"],
)
def test_a_name_chooses_one_of_them(data: bytes, name: str, content: bytes, store: Store, tmp_path: Path) -> None:
    ((_, names),) = load(store, tmp_path, data, name).items()
    assert names == [name]
    (found,) = store.snapshots.view(store.images.find(name).snapshot).walk(b"")
    assert found.sha256.hex() == sha(content)
    assert [tag.name for tag in store.images.tags()] == [str(Reference.parse(name))]


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (TWO_SAVED, "c:1", "has 2 images, and c:1 is not the name of one of them"),
        (TWO_NAMED, "mine:1", "has 2 images, and mine:1 is not"),
        (TWO_TAGGED, "mine:v3", "has 2 images, and mine:v3 is not"),
        (several(saved("a:1", data=b"a"), saved("a:1", data=b"b")), None, "gives the name a:1 to two images"),
        (index_of(oci("a:1", data=b"a"), oci("a:1", data=b"b")), None, "gives the name a:1 to two images"),
        (index_of(oci(platform="linux/s390x"), oci(platform="linux/m68k", data=b"x")), None, f"no image for {HOST}"),
    ],
    ids=["saved", "named", "tagged", "one name for two saved", "one name for two", "other platforms"],
)  # fmt: skip
def test_an_ambiguous_choice_is_refused(
    data: bytes, name: str | None, message: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        load(store, tmp_path, data, name)
    assert name is None or "give one of these names: " in (caught.value.hint or "")
    assert store.images.all() == []


# -- hostile docker archives

LAYER = tar(entry(b"f", data=b"hello"))
LAYER_NAME = sha(LAYER).encode() + b".tar"
DOCKER_LAYER = sha(b"0").encode() + b"/layer.tar"


def moved(link: bytes) -> Saved:
    """An archive whose layer is a link."""
    return Saved(style="docker", lose=DOCKER_LAYER, extra=[symlink(DOCKER_LAYER, link)])


HOSTILE: dict[str, tuple[Saved, str]] = {
    "layer outside": (Saved(item_fields={"Layers": ["../x"]}), 'entry "../x": leaves the root'),
    "layer far outside": (Saved(item_fields={"Layers": ["a/../../x"]}), "leaves the root"),
    "layer by an absolute path": (Saved(item_fields={"Layers": ["/etc/passwd"]}), 'no "etc/passwd"'),
    "layer that is missing": (Saved(lose=LAYER_NAME), f'no "{LAYER_NAME.decode()}"'),
    "layer that is a link outside": (moved(b"../../x"), "outside of the archive"),
    "layer that is an absolute link": (moved(b"/etc/passwd"), "outside of the archive"),
    "layer that is a link to itself": (moved(b"layer.tar"), f'no "{DOCKER_LAYER.decode()}"'),
    "layer that is a link to nothing": (moved(b"../x/layer.tar"), 'no "x/layer.tar", the target of'),
    "layer that is a hard link": (
        Saved(lose=LAYER_NAME, extra=[entry(b"other.tar"), hardlink(LAYER_NAME, b"other.tar")]),
        "is not a regular file",
    ),
    "layer that is a fifo": (Saved(lose=LAYER_NAME, extra=[entry(LAYER_NAME, b"6")]), "is not a regular file"),
    "layer that is there twice": (Saved(extra=[entry(LAYER_NAME, data=LAYER)]), "appears twice"),
    "layer that is a link and a file": (Saved(extra=[symlink(LAYER_NAME, b"x")]), "appears twice"),
    "layer of other bytes": (Saved(diff_ids=["sha256:" + "0" * 64]), "the config promises sha256:000"),
    "layer that is cut": (Saved([LAYER[:514]]), f"({Digest.of(LAYER[:514])}): tar: truncated"),
    "layer that is no tar": (Saved([b"\xa5" * 4096]), "tar:"),
    "layer with a bad entry": (Saved([tar(entry(b"../x"))]), f'({Digest.of(tar(entry(b"../x")))}): entry "../x"'),
    "more layers than diff_ids": (Saved(diff_ids=[]), "manifest.json has 1 layers, the config 0"),
    "fewer layers than diff_ids": (Saved(diff_ids=["sha256:" + "0" * 64] * 2), "manifest.json has 1 layers, the config 2"),
    "diff_id that is a path": (Saved(diff_ids=["sha256:../../x"]), "invalid digest"),
    "layers that are no list": (Saved(item_fields={"Layers": "x"}), "manifest.json[0].Layers"),
    "layers that are no strings": (Saved(item_fields={"Layers": [1]}), "manifest.json[0].Layers"),
    "config of other bytes": (Saved(config=b'{"rootfs":{}}'), "do not match the digest"),
    "config outside": (Saved(item_fields={"Config": "../x"}), "leaves the root"),
    "config that is missing": (Saved(item_fields={"Config": "x.json"}), 'no "x.json"'),
    "config that is not named": (Saved(item_fields={"Config": None}), "manifest.json[0].Config"),
    "config bomb": (Saved(config=b" " * (9 << 20)), "exceeds the limit of 8 MiB"),
    "config that is deep": (
        Saved(config_fields={"x": json.loads("[" * 90 + "]" * 90)}), "nested deeper than the limit of 64"
    ),
    "names that are none": (Saved(tags=["../x"]), "invalid image name"),
    "names with escapes": (Saved(tags=["a\x1b[2J"]), "invalid image name"),
    "manifest that is no JSON": (Saved(manifest=b"["), "manifest.json is not JSON"),
    "manifest that is no list": (Saved(manifest=b"{}"), "manifest.json is not a JSON list"),
    "manifest of no objects": (Saved(manifest=b"[1]"), "manifest.json[0]: expected an object"),
    "manifest that is empty": (Saved(manifest=b"[]"), "lists no image"),
    "manifest bomb": (Saved(manifest=b" " * (5 << 20)), "exceeds the limit of 4 MiB"),
    "manifest that is deep": (Saved(manifest=b"[" * 100_000), "nested deeper than the limit of 64"),
    "manifest of doubled keys": (Saved(manifest=b'[{"Config":"a","Config":"b"}]'), "appears twice"),
    "manifest that is a link": (Saved(lose=b"manifest.json", extra=[symlink(b"manifest.json", b"/etc/passwd")]), "outside of the archive"),
    "manifest that is there twice": (Saved(extra=[entry(b"manifest.json", data=b"[]")]), "appears twice"),
    "no manifest": (Saved(lose=b"manifest.json"), "has no manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize(("archive", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_docker_archive_is_refused_and_leaves_nothing(
    archive: Saved, message: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError) as caught:
        load(store, tmp_path, archive.data())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert store.images.all() == [] and store.images.tags() == []
    assert fsck.check(store).damage == ()


ODD: list[object] = [None, True, -1, 1.5, "", "\0", "x/../y", "é" * 300, [], [[]], [None], {}, {"a": 1}]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("field", ["Config", "RepoTags", "Layers"])
def test_a_field_of_another_type_is_an_error_of_the_archive(
    field: str, value: object, store: Store, tmp_path: Path
) -> None:
    fits = field == "RepoTags" and value in (None, [])
    with contextlib.nullcontext() if fits else pytest.raises(StoreError):
        load(store, tmp_path, Saved(item_fields={field: value}).data())
    assert len(store.images.all()) == fits


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all examples of a property: an example does not depend on what the previous ones left."""
    with Store(str(tmp_path_factory.mktemp("shared"))) as opened:
        yield opened


@given(data=st.data())
@settings(max_examples=300)
@pytest.mark.parametrize(
    "whole_archive",
    [Saved(LAYERS, style="docker").data(), xz(Saved().data()), TWO_TAGGED],
    ids=["docker", "xz", "layout"],
)
def test_damage_anywhere_is_an_error_of_the_archive(data: st.DataObject, whole_archive: bytes, shared: Store) -> None:
    damaged = bytearray(whole_archive)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = f"{shared.ingest.new_path()}.tar"
    with open(path, "wb") as file:
        file.write(damaged)
    with contextlib.suppress(StoreError):
        import_archive(shared, path, None, 7)
    os.unlink(path)


def test_a_docker_archive_cut_anywhere_is_refused(store: Store, tmp_path: Path) -> None:
    data = Saved(LAYERS, style="docker").data()
    complete = len(data.rstrip(b"\0"))  # zeros after the last member can be missing
    for cut in [*range(0, complete, 512), *range(complete - 500, complete, 7)]:
        with pytest.raises(StoreError):
            load(store, tmp_path, data[:cut])
    assert store.images.all() == []
    load(store, tmp_path, data)
    whole(store)


def test_names_distinguish_a_root_filesystem_from_an_archive(store: Store, tmp_path: Path) -> None:
    """Files with such names inside of a root filesystem do not make it an archive."""
    data = tar(directory(b"./"), directory(b"./app/"), entry(b"./manifest.json"), entry(b"./index.json"), entry(b"./x"))
    load(store, tmp_path, data, "root")
    assert files(store, "root") == {b"app": 0, b"manifest.json": 0, b"index.json": 0, b"x": 0}
    whole(store)


# -- layout directories


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout directory of one image."""
    path = tmp_path / "layout"
    with tarfile.open(fileobj=io.BytesIO(Archive(layers=LAYERS).data())) as opened:
        opened.extractall(path, filter="data")
    return path


def blob(layout: Path, data: bytes) -> Path:
    return layout / "blobs/sha256" / sha(data)


def test_a_layout_directory_is_imported_like_its_archive(store: Store, tmp_path: Path, layout: Path) -> None:
    found = load_path(store, layout)
    assert found == load(store, tmp_path, Archive(layers=LAYERS).data())
    assert load_path(store, layout, "mine:1") == {next(iter(found)): ["mine:1"]}
    link = tmp_path / "link"
    link.symlink_to(layout)
    assert load_path(store, link) == found
    whole(store)


def as_link(path: Path) -> None:
    """The target of the link is the valid blob."""
    os.rename(path, f"{path}.real")
    path.symlink_to(f"{path}.real")


def as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket has a length limit
        server.bind("s")
        os.rename("s", path)
        os.chdir(here)


def as_device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


@pytest.mark.parametrize("spoil", [as_link, as_fifo, as_directory, as_socket, as_device])
@pytest.mark.parametrize("what", ["oci-layout", "index.json", "layer", "lowest layer", "config"])
def test_only_regular_files_of_a_directory_are_read(
    what: str, spoil: Callable[[Path], None], store: Store, layout: Path
) -> None:
    archive = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    manifest = json.loads((layout / "blobs" / archive.replace(":", "/")).read_bytes())
    digests = {"layer": manifest["layers"][1], "lowest layer": manifest["layers"][0], "config": manifest["config"]}
    path = layout / "blobs" / digests[what]["digest"].replace(":", "/") if what in digests else layout / what
    spoil(path)
    with pytest.raises(StoreError, match=r"is not a regular file|symbolic link"):
        load_path(store, layout)
    assert store.images.all() == []


def test_a_directory_of_blobs_that_is_a_link_is_refused(store: Store, layout: Path) -> None:
    as_link(layout / "blobs/sha256")
    with pytest.raises(UnsafePath, match="is a symbolic link or is behind one"):
        load_path(store, layout)


def test_an_error_names_what_a_directory_lacks(store: Store, layout: Path, tmp_path: Path) -> None:
    blob(layout, gz(LAYERS[1])).unlink()
    with pytest.raises(NotFound, match=f"has no blob sha256:{sha(gz(LAYERS[1]))}"):
        load_path(store, layout)
    (layout / "index.json").unlink()
    with pytest.raises(NotFound, match=r'no "index\.json"'):
        load_path(store, layout)
    (layout / "oci-layout").unlink()
    with pytest.raises(InvalidImage, match="is not an OCI layout") as caught:
        load_path(store, layout)
    assert "tar -C" in (caught.value.hint or "")
    whole(store)


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1], lambda data: bytes(len(data))])
def test_a_changed_blob_in_a_directory_is_refused(change: Callable[[bytes], bytes], tmp_path: Path, layout: Path) -> None:
    for path in sorted((layout / "blobs/sha256").iterdir()):
        before = path.read_bytes()
        path.write_bytes(change(before))
        with Store(str(tmp_path / path.name)) as store:
            with pytest.raises((DigestMismatch, InvalidImage)) as caught:
                load_path(store, layout)
            assert path.name in str(caught.value)
            assert store.images.all() == []
            path.write_bytes(before)
            load_path(store, layout)
            whole(store)


def test_a_layer_of_either_compression_keeps_it(store: Store, layout: Path, tmp_path: Path) -> None:
    load_path(store, layout)
    shutil.rmtree(layout)
    load(store, tmp_path, Archive(layers=LAYERS, compress=False).data(), "plain")
    kinds = {found.compression for layer in LAYERS for found in store.changesets.blobs_of(Digest.of(layer))}
    assert kinds == {Compression.GZIP, Compression.UNCOMPRESSED}
