"""An exported image is the same as the imported one, and a hostile archive leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import os
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound, StoreError
from pybuild.store.exporting.archive import publish_archive
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.importing.members import ArchiveMembers, read_member
from pybuild.store.maintenance import fsck
from pybuild.store.store import Store
from pybuild.values.limits import applied
from tests.support.archives import Archive
from tests.support.limits import at_most
from tests.support.tars import directory, entry, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = Reference.parse("test:1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


def load(store: Store, tmp_path: Path, data: bytes, name: Reference | None = None) -> Digest:
    path = tmp_path / "archive"
    path.write_bytes(data)
    found = import_archive(store, str(path), name, 7)
    assert len(found) == 1
    return found[0][0]


def whole(store: Store) -> None:
    report = fsck.check(store)
    assert report.damage == ()
    assert report.garbage == ()


def test_an_image_is_exported_as_it_was_imported(store: Store, tmp_path: Path) -> None:
    layers = [
        tar(entry(b"etc/a", data=b"1"), entry(b"b")),
        tar(entry(b"etc/.wh.a")),
        tar(directory(b"etc/", mode=0o700)),
    ]
    archive = Archive(layers=layers, manifest_fields={"x-unknown": [1]}, config_fields={"y": {"z": None}})
    digest = load(store, tmp_path, archive.data())
    image = store.images.find("test:1")
    assert image.manifest_digest == digest
    assert [e.path for e in store.snapshots.view(image.snapshot).walk(b"")] == [b"b", b"etc"]
    publish_archive(store.blobs, image, [NAME], str(tmp_path / "out.tar"))
    publish_archive(store.blobs, image, [NAME], str(tmp_path / "again.tar"))
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.tar", "archive", "out.tar", "store"]
    with Store(str(tmp_path / "other")) as other:
        assert load(other, tmp_path, (tmp_path / "out.tar").read_bytes()) == digest
        whole(other)
        for layer in image.manifest.layers:
            assert other.blobs.read(layer.digest, at_most(1 << 20)) == store.blobs.read(layer.digest, at_most(1 << 20))
    whole(store)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_importing_again_changes_nothing(store: Store, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    first = load(store, tmp_path, Archive().data())
    tables = {
        name: store.metadata.all(f"SELECT * FROM {name}") for name in ("blobs", "changesets", "tag_log", "snapshots")
    }
    assert load(store, tmp_path, pack(Archive().data())) == first
    assert tables == {name: store.metadata.all(f"SELECT * FROM {name}") for name in tables}


def test_the_same_layer_in_two_compressions_is_one_layer_with_two_blobs(store: Store, tmp_path: Path) -> None:
    load(store, tmp_path, Archive().data())
    load(store, tmp_path, Archive(compress=False).data())
    diff_id = Digest.of(Archive().layers[0])
    assert {blob.compression.value for blob in store.changesets.blobs_of(diff_id)} == {"gzip", "uncompressed"}
    assert len(store.metadata.all("SELECT * FROM changesets")) == 1
    whole(store)


def test_a_root_filesystem_becomes_an_image_of_one_layer(store: Store, tmp_path: Path) -> None:
    rootfs = tar(directory(b"./"), directory(b"./bin/"), entry(b"./bin/sh", data=b"x"))
    plain = load(store, tmp_path, rootfs, Reference.parse("root:1"))
    image = store.images.get(plain)
    assert image.config.diff_ids == (Digest.of(rootfs),)
    assert load(store, tmp_path, gzip.compress(rootfs), Reference.parse("root:2")) is not None
    assert [tag.name for tag in store.images.tags()] == ["docker.io/library/root:1", "docker.io/library/root:2"]
    whole(store)
    with pytest.raises(InvalidImage, match="no name"):
        load(store, tmp_path, rootfs)


def test_an_image_without_layers_is_an_image(store: Store, tmp_path: Path) -> None:
    image = store.images.get(load(store, tmp_path, Archive(layers=[]).data()))
    assert image.snapshot is None
    whole(store)


def test_five_hundred_layers_are_imported(store: Store, tmp_path: Path) -> None:
    layers = [tar(entry(b"f%d" % i)) for i in range(501)]
    image = store.images.get(load(store, tmp_path, Archive(layers=layers).data()))
    assert len(store.snapshots.changesets(image.snapshot)) == 501


def test_the_same_layer_twice_in_an_image_is_two_snapshots(store: Store, tmp_path: Path) -> None:
    image = store.images.get(load(store, tmp_path, Archive(layers=[tar(entry(b"f"))] * 2).data()))
    assert len(store.snapshots.changesets(image.snapshot)) == 2
    whole(store)


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"io.containerd.image.name": "ghcr.io/a/b:c"}, ["ghcr.io/a/b:c"]),
        ({"io.containerd.image.name": "a"}, ["docker.io/library/a:latest"]),
        ({"org.opencontainers.image.ref.name": "localhost/a:b"}, ["localhost/a:b"]),
        ({"org.opencontainers.image.ref.name": "latest"}, []),
        ({"io.containerd.image.name": "a:1", "org.opencontainers.image.ref.name": "1"}, ["docker.io/library/a:1"]),
        ({"io.containerd.image.name": "a:1", "org.opencontainers.image.ref.name": "b/c:2"}, ["docker.io/library/a:1"]),
        ({"io.containerd.image.name": "a:1", "org.opencontainers.image.ref.name": "2"}, []),
        ({}, []),
    ],
)
def test_the_archive_gives_the_name(
    store: Store, tmp_path: Path, annotations: dict[str, str], names: list[str]
) -> None:
    digest = load(store, tmp_path, Archive(annotations=annotations).data())
    assert [tag.name for tag in store.images.tags()] == names
    assert store.images.find(digest.hex[:12]).manifest_digest == digest


def test_a_name_can_move_and_be_removed(store: Store, tmp_path: Path) -> None:
    first = load(store, tmp_path, Archive().data())
    second = load(store, tmp_path, Archive(layers=[tar(entry(b"other"))]).data())
    assert store.images.find("test:1").manifest_digest == second
    assert store.images.get(first).manifest_digest == first
    store.images.tag([Reference.parse("other:1")], store.images.get(second), 8)
    assert store.images.untag([NAME], second, 9) == []
    with pytest.raises(NotFound):
        store.images.find("test:1")
    assert store.images.untag([NAME, Reference.parse("other:1")], second, 9) == [second]
    assert store.images.all() == [first]
    whole(store)


def test_a_short_digest_that_matches_several_images_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.images.find("abcdef")
    load(store, tmp_path, Archive().data())
    with pytest.raises(StoreError):
        store.images.find("sha256:")


# -- hostile archives

L0 = Digest.of(gzip.compress(tar(entry(b"f", data=b"hello")), mtime=0))
ZERO = "sha256:" + "0" * 64


def bad_layer(data: bytes) -> Archive:
    return Archive(layers=[data])


HOSTILE: dict[str, tuple[Archive, str]] = {
    "layer: other bytes": (Archive(spoil="layer"), f"layer {L0}"),
    "config: other bytes": (Archive(spoil="config"), "do not match the digest"),
    "manifest: other bytes": (Archive(spoil="manifest"), "do not match the digest"),
    "layer: missing": (Archive(lose="layer"), f"has no blob {L0}"),
    "config: missing": (Archive(lose="config"), "has no blob"),
    "manifest: missing": (Archive(lose="manifest"), "has no blob"),
    "layer: expands to something else": (Archive(diff_ids=[ZERO]), "the config promises"),
    "layer: one byte longer than told": (
        Archive(layer_fields={"size": len(gzip.compress(Archive().layers[0])) - 1}),
        "longer than",
    ),
    "layer: one byte shorter than told": (
        Archive(layer_fields={"size": len(gzip.compress(Archive().layers[0])) + 1}),
        "do not match the digest",
    ),
    "layer: negative size": (Archive(layer_fields={"size": -1}), "size"),
    "layer: size true": (Archive(layer_fields={"size": True}), "size"),
    "layer: digest that is a path": (Archive(layer_fields={"digest": "sha256:../../x"}), "invalid digest"),
    "layer: told to be zstd": (Archive(media_type=MediaType.OCI_LAYER_ZSTD), "zstd"),
    "layer: told to be plain": (Archive(media_type=MediaType.OCI_LAYER), f"layer {L0}"),
    "layer: told to be gzip": (Archive(compress=False, media_type=MediaType.OCI_LAYER_GZIP), "gzip"),
    "layer: of no known type": (Archive(media_type="text/plain"), "is not a media type of layers"),
    "layer: not distributable": (
        Archive(media_type="application/vnd.oci.image.layer.nondistributable.v1.tar"),
        "not supported",
    ),
    "layer: leaves the root": (bad_layer(tar(entry(b"../x"))), 'entry "../x": leaves the root'),
    "layer: escape sequence in a name": (bad_layer(tar(entry(b"../\x1b[2J"))), 'entry "../\\x1b[2J"'),
    "layer: truncated": (bad_layer(tar(entry(b"f", data=bytes(600)))[:1024]), "truncated after 1024 bytes"),
    "layer: no tar": (bad_layer(b"\xa5" * 4096), "tar:"),
    "layer: wrong checksum": (bad_layer(tar(entry(b"f")).replace(b"ustar", b"Ustar")), "checksum"),
    "layer: whiteout of nothing": (bad_layer(tar(entry(b".wh."))), 'entry ".wh."'),
    "layer: device 0:0": (bad_layer(tar(entry(b"c", b"3"))), 'entry "c"'),
    "layer: overlay attribute": (
        bad_layer(tar(directory(b"d/", xattrs=((b"trusted.overlay.opaque", b"y"),)))),
        'entry "d"',
    ),
    "layer: loop of links": (bad_layer(tar(symlink(b"l", b"l"), entry(b"l/x"))), 'entry "l/x"'),
    "config: too few layers": (Archive(diff_ids=[]), "the config 0"),
    "config: too many layers": (Archive(diff_ids=[ZERO, ZERO]), "the config 2"),
    "config: other type of rootfs": (Archive(config_fields={"rootfs": {"type": "x"}}), "rootfs.type"),
    "manifest: also an index": (Archive(manifest_fields={"manifests": []}), "also valid as an index"),
    "manifest: type of an index": (Archive(manifest_fields={"mediaType": MediaType.OCI_INDEX}), "media type"),
    "manifest: schema 1": (Archive(manifest_fields={"schemaVersion": 1}), "schema 1"),
    "index: also a manifest": (Archive(index_fields={"layers": []}), "also valid as a manifest"),
    "index: empty": (Archive(index_fields={"manifests": []}), "no image"),
    "index: manifest told to be an index": (Archive(index_descriptor={"mediaType": MediaType.OCI_INDEX}), "media type"),
    "index: digest of another kind": (Archive(index_descriptor={"digest": "md5:" + "0" * 32}), "invalid digest"),
    "index: huge manifest": (Archive(index_descriptor={"size": 1 << 40}), "exceeds the limit"),
    "index: name that is none": (Archive(annotations={"io.containerd.image.name": "../x"}), "invalid image name"),
    "layout: missing": (Archive(layout=None), "oci-layout"),
    "layout: version 9": (Archive(layout=b'{"imageLayoutVersion":"9"}'), "imageLayoutVersion"),
    "layout: no JSON": (Archive(layout=b"x"), "oci-layout"),
    "layout: huge": (Archive(layout=b" " * (5 << 20)), "limit"),
    "archive: index.json twice": (Archive(extra=[entry(b"index.json", data=b"{}")]), "appears twice"),
    "archive: a link": (Archive(extra=[symlink(b"blobs/sha256/" + b"0" * 64, b"/etc/passwd")]), "not a regular file"),
    "archive: a fifo": (Archive(extra=[entry(b"blobs/sha256/" + b"0" * 64, b"6")]), "not a regular file"),
}


@pytest.mark.parametrize(("archive", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    archive: Archive, message: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError) as caught:
        load(store, tmp_path, archive.data())
    assert message in str(caught.value)
    assert store.images.all() == [] and store.images.tags() == []
    assert fsck.check(store).damage == ()


@pytest.mark.parametrize(
    "key", [key for key, (archive, _) in HOSTILE.items() if key.startswith("layer: ") and archive.layer_fields == {}]
)
def test_an_error_in_a_layer_names_its_digest(key: str, store: Store, tmp_path: Path) -> None:
    archive, _ = HOSTILE[key]
    with pytest.raises(StoreError) as caught:
        load(store, tmp_path, archive.data())
    assert str(Digest.of(archive.blob_of_layer(archive.layers[0]))) in str(caught.value)


def test_a_layer_that_is_stored_already_is_still_checked(store: Store, tmp_path: Path) -> None:
    load(store, tmp_path, Archive().data())
    with pytest.raises(DigestMismatch):
        load(store, tmp_path, HOSTILE["layer: one byte shorter than told"][0].data())
    # The store has the chain and the blob, but the blob is not of this chain.
    other = tar(entry(b"other"))
    load(store, tmp_path, Archive(layers=[other]).data())
    with pytest.raises(DigestMismatch, match="the config promises"):
        load(store, tmp_path, Archive(layers=[other], diff_ids=[str(Digest.of(Archive().layers[0]))]).data())
    whole(store)


def test_an_archive_cut_anywhere_is_refused(store: Store, tmp_path: Path) -> None:
    data = Archive().data()
    complete = len(data.rstrip(b"\0"))  # zeros after the last member can be missing
    for cut in [*range(0, complete, 512), *range(complete - 500, complete, 7)]:
        with pytest.raises(StoreError):
            load(store, tmp_path, data[:cut])
    assert store.images.all() == []
    load(store, tmp_path, data)
    whole(store)


def test_a_compressed_archive_cut_anywhere_is_refused(store: Store, tmp_path: Path) -> None:
    data = gzip.compress(Archive().data())
    for cut in range(1, len(data), 97):
        with pytest.raises(StoreError):
            load(store, tmp_path, data[:cut])
    assert os.listdir(store.ingest.path) == []


def nested(depth: int) -> bytes:
    """An index in an index in an index…"""
    blobs: dict[str, bytes] = {}
    target: dict[str, object] = {"mediaType": MediaType.OCI_MANIFEST, "digest": ZERO, "size": 3}
    for _ in range(depth):
        data = json.dumps({"schemaVersion": 2, "manifests": [target]}).encode()
        digest = Digest.of(data)
        blobs[digest.hex] = data
        target = {"mediaType": MediaType.OCI_INDEX, "digest": str(digest), "size": len(data)}
    index = json.dumps({"schemaVersion": 2, "manifests": [target]}).encode()
    return tar(
        entry(b"oci-layout", data=b'{"imageLayoutVersion":"1.0.0"}'), entry(b"index.json", data=index),
        *[entry(b"blobs/sha256/" + name.encode(), data=data) for name, data in blobs.items()],
    )  # fmt: skip


def test_the_nesting_of_indexes_is_limited(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no blob"):
        load(store, tmp_path, nested(3))
    with pytest.raises(InvalidImage, match="nested"):
        load(store, tmp_path, nested(100))


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"{}", bytes(1024), bytes(range(256)) * 12])
def test_a_file_that_is_not_an_archive_is_refused(data: bytes, store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        load(store, tmp_path, data)


def test_the_number_of_members_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(tar(*[entry(b"%d" % i) for i in range(11)]))
    less = applied({"archive-members": 10})
    with less, path.open("rb") as file, pytest.raises(InvalidImage, match="more than the limit of 10 entries"):
        ArchiveMembers(file)


def test_a_bomb_of_entries_is_stopped(store: Store, tmp_path: Path) -> None:
    with applied({"layer-entries": 50}), pytest.raises(InvalidImage, match=r"layer sha256:.*limit of 50 entries"):
        load(store, tmp_path, Archive(layers=[tar(*[entry(b"%d" % i) for i in range(51)])]).data())


def test_a_member_is_read_in_pieces_and_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(tar(entry(b"./x", data=b"hello"), directory(b"d/")))
    with path.open("rb") as file:
        files = ArchiveMembers(file)
        assert read_member(files, b"x", at_most(5)) == b"hello"
        assert b"d/" not in files
        with pytest.raises(InvalidImage, match="limit of 4"):
            read_member(files, b"x", at_most(4))
        with pytest.raises(NotFound):
            read_member(files, b"y", at_most(4))
        os.truncate(path, 513)
        with pytest.raises(InvalidImage, match="truncated"):
            read_member(files, b"x", at_most(5))


def test_an_output_appears_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    image = store.images.get(load(store, tmp_path, Archive().data()))
    out = tmp_path / "out.tar"
    out.write_bytes(b"before")
    path = store.blobs.path(image.manifest.layers[0].digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(20)
        file.write(b"\xff\xff")
    with pytest.raises(DigestMismatch):
        publish_archive(store.blobs, image, [NAME], str(out))
    assert out.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["archive", "out.tar", "store"]


def test_a_stream_of_a_blob_is_verified_to_its_end(store: Store, tmp_path: Path) -> None:
    digest = store.blobs.put(b"hello", store.ingest.new_path())
    assert store.blobs.put(b"hello", store.ingest.new_path()) == digest
    assert store.blobs.read(digest, at_most(5)) == b"hello"
    with pytest.raises(NotFound, match="limit of 4"):
        store.blobs.read(digest, at_most(4))
    with pytest.raises(NotFound):
        store.blobs.open(Digest.parse(ZERO))
    path = store.blobs.path(digest)
    os.chmod(path, 0o600)
    for content in (b"hellp", b"hell", b"hello!", b""):
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises(DigestMismatch), store.blobs.open(digest) as reader:
            io.BufferedReader(io.BytesIO(b"".join(iter(lambda: reader.read(2), b""))))


def test_a_lost_blob_can_be_stored_again(store: Store, tmp_path: Path) -> None:
    digest = load(store, tmp_path, Archive().data())
    os.unlink(store.blobs.path(L0))
    assert fsck.check(store).damage != ()
    assert load(store, tmp_path, Archive().data()) == digest
    whole(store)
