"""Exporting images as archives, layout directories, and root filesystems as a tar and as files."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import DigestMismatch, InvalidImage, NoSpace, StoreError
from pybuild.store.exporting.archive import publish_archive, publish_directory, write_archive
from pybuild.store.exporting.directory import write_local
from pybuild.store.exporting.publish import replacing, temporary_directory
from pybuild.store.exporting.rootfs_tar import Rootfs, publish_rootfs, write_rootfs
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.toc import Kind
from pybuild.store.importing.archive import import_archive
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import View
from pybuild.store.store import Store
from tests.support.archives import Archive
from tests.support.overlays import in_private_mounts, mount_tmpfs
from tests.support.tars import directory, entry, hardlink, listing, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.objects.images import StoredImage

NAME = Reference.parse("test:1")
OTHER = Reference.parse("ghcr.io/team/app")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


def image_of(store: Store, *layers: bytes) -> StoredImage:
    """An image in the store, made of these tars."""
    path = f"{store.ingest.new_path()}.tar"
    Path(path).write_bytes(Archive(layers=list(layers)).data())
    ((digest, _),) = import_archive(store, path, NAME, 7)
    os.unlink(path)
    return store.images.get(digest)


def damage(store: Store, image: StoredImage, layer: int = -1) -> None:
    """Change a byte in the middle of a layer's blob."""
    path = store.blobs.path(image.manifest.layers[layer].digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(os.stat(path).st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 0xFF,)))


def noise(size: int) -> bytes:
    """Bytes that cannot be compressed."""
    return b"".join(Digest.of(b"%d" % i).hex.encode() for i in range(size // 64 + 1))[:size]


LAYERS = [tar(entry(b"a", data=noise(5000)), directory(b"d/"), entry(b"d/x")), tar(entry(b"d/.wh.x"), entry(b"d/y", data=b"1"))]  # fmt: skip

# -- layouts and docker archives


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {found.name: opened.extractfile(found).read() for found in opened if found.isfile()}  # type: ignore[union-attr]


def archived(store: Store, image: StoredImage, names: list[Reference], *, docker: bool = False) -> bytes:
    out = io.BytesIO()
    write_archive(store.blobs, image, names, out, docker=docker)
    return out.getvalue()


def test_a_docker_archive_is_a_layout_with_a_manifest_json(store: Store) -> None:
    image = image_of(store, *LAYERS)
    found = members(archived(store, image, [NAME, OTHER], docker=True))
    (item,) = json.loads(found.pop("manifest.json"))
    assert found == members(archived(store, image, [NAME, OTHER]))
    assert item["RepoTags"] == ["test:1", "ghcr.io/team/app:latest"]
    assert Digest.of(found[item["Config"]]) == image.manifest.config.digest
    assert [Digest.of(found[name]) for name in item["Layers"]] == [layer.digest for layer in image.manifest.layers]


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_an_archive_gives_the_same_image_again(docker: bool, store: Store, tmp_path: Path) -> None:
    image = image_of(store, LAYERS[0], LAYERS[1], LAYERS[0])
    path = tmp_path / "out.tar"
    publish_archive(store.blobs, image, [NAME, OTHER], str(path), docker=docker)
    assert path.read_bytes() == archived(store, image, [NAME, OTHER], docker=docker)
    with Store(str(tmp_path / "other")) as other:
        assert import_archive(other, str(path), None, 7) == [(image.manifest_digest, [NAME, OTHER.with_default_tag()])]


def test_an_image_without_a_name_has_no_tags(store: Store) -> None:
    found = members(archived(store, image_of(store), [], docker=True))
    assert json.loads(found["manifest.json"])[0] == {
        **json.loads(found["manifest.json"])[0],
        "RepoTags": [],
        "Layers": [],
    }
    assert "annotations" not in json.loads(found["index.json"])["manifests"][0]


def layout(path: Path) -> dict[str, bytes]:
    return {str(found.relative_to(path)): found.read_bytes() for found in path.rglob("*") if found.is_file()}


def test_a_layout_directory_has_the_same_files_as_an_archive(store: Store, tmp_path: Path) -> None:
    image = image_of(store, *LAYERS)
    publish_directory(store.blobs, image, [NAME], str(tmp_path / "new/out"))
    assert layout(tmp_path / "new/out") == members(archived(store, image, [NAME]))
    assert os.listdir(tmp_path / "new") == ["out"]
    with Store(str(tmp_path / "other")) as other:
        assert import_archive(other, str(tmp_path / "new/out"), None, 7) == [(image.manifest_digest, [NAME])]


def named(path: Path) -> dict[str | None, str]:
    """Name -> digest, of a layout directory."""
    entries = json.loads((path / "index.json").read_bytes())["manifests"]
    found = {item.get("annotations", {}).get("io.containerd.image.name"): item["digest"] for item in entries}
    assert len(found) == len(entries)
    return found


def test_an_existing_layout_keeps_its_other_images(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first, second = image_of(store, LAYERS[0]), image_of(store, *LAYERS)
    publish_directory(store.blobs, first, [NAME, OTHER], str(out))
    publish_directory(store.blobs, first, [], str(out))
    publish_directory(store.blobs, second, [NAME], str(out))
    app = "ghcr.io/team/app:latest"
    expected = {None: first, app: first, "docker.io/library/test:1": second}
    assert named(out) == {name: str(image.manifest_digest) for name, image in expected.items()}
    publish_directory(store.blobs, second, [], str(out))
    assert named(out)[None] == str(second.manifest_digest)
    assert {path for path in layout(out) if not path.startswith("blobs/sha256/")} == {"oci-layout", "index.json"}


def test_a_directory_that_is_not_a_layout_is_refused(store: Store, tmp_path: Path) -> None:
    image = image_of(store, *LAYERS)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_bytes(b"")
    with pytest.raises(StoreError, match="contains something other than an OCI layout"):
        publish_directory(store.blobs, image, [NAME], str(out))
    with pytest.raises(StoreError, match="is a file"):
        publish_directory(store.blobs, image, [NAME], str(out / "mine"))
    assert os.listdir(out) == ["mine"] and sorted(os.listdir(tmp_path)) == ["out", "store"]


def test_no_link_in_a_layout_is_written_through(store: Store, tmp_path: Path) -> None:
    image = image_of(store, *LAYERS)
    out, outside = tmp_path / "out", tmp_path / "outside"
    publish_directory(store.blobs, image, [NAME], str(out))
    outside.mkdir()
    digest = image.manifest.layers[0].digest.hex
    (outside / "file").write_bytes(b"mine")
    (out / "blobs/sha256" / digest).unlink()
    (out / "blobs/sha256" / digest).symlink_to(outside / "file")
    publish_directory(store.blobs, image, [NAME], str(out))
    assert (outside / "file").read_bytes() == b"mine" and not (out / "blobs/sha256" / digest).is_symlink()
    os.rename(out / "blobs", out / "before")
    (out / "blobs").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        publish_directory(store.blobs, image, [NAME], str(out))
    assert os.listdir(outside) == ["file"]


def test_an_index_that_is_not_a_regular_file_is_refused(store: Store, tmp_path: Path) -> None:
    image = image_of(store, *LAYERS)
    publish_directory(store.blobs, image, [NAME], str(tmp_path / "out"))
    index = tmp_path / "out/index.json"
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(StoreError, match="is not a regular file"):
        publish_directory(store.blobs, image, [NAME], str(tmp_path / "out"))
    index.unlink()
    index.symlink_to("/etc/passwd")
    with pytest.raises(InvalidImage, match=r"index\.json"):
        publish_directory(store.blobs, image, [NAME], str(tmp_path / "out"))
    index.unlink()
    index.write_bytes(b"[]")
    with pytest.raises(InvalidImage, match="index is not a JSON object"):
        publish_directory(store.blobs, image, [NAME], str(tmp_path / "out"))


def test_a_failure_leaves_the_images_of_a_layout(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = image_of(store, LAYERS[0]), image_of(store, tar(entry(b"other", data=noise(3000))))
    publish_directory(store.blobs, first, [NAME], str(out))
    damage(store, second)
    before = layout(out)
    with pytest.raises(DigestMismatch):
        publish_directory(store.blobs, second, [NAME], str(out))
    assert before.items() <= layout(out).items()
    assert not [name for name in layout(out) if "/." in name]
    with pytest.raises(DigestMismatch):
        publish_directory(store.blobs, second, [NAME], str(tmp_path / "new"))
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


def test_the_next_export_removes_the_directory_of_a_killed_one(store: Store, tmp_path: Path) -> None:
    """Not one that another process still fills, and not other directories beside it."""
    image = image_of(store, tar(entry(b"a")))
    place = tmp_path / "outputs"
    other = place / ".out.0123"
    other.mkdir(parents=True)
    parent = os.open(place, os.O_RDONLY)
    child = os.fork()
    if not child:
        with temporary_directory(parent, "out") as (temporary, _):
            (place / temporary / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(os.listdir(place)) == 2
    with temporary_directory(parent, "out") as (alive, fd):
        publish_directory(store.blobs, image, [NAME], str(place / "out"))
        assert sorted(os.listdir(place)) == sorted([other.name, alive, "out"])
        assert os.fstat(fd).st_nlink
    assert sorted(os.listdir(place)) == [other.name, "out"]
    os.close(parent)


# -- replacing files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), replacing(str(target)) as out:
        out.write(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"before" and os.listdir(tmp_path) == ["file"]
    with replacing(str(target)) as out:
        out.write(b"after")
    assert target.read_bytes() == b"after" and os.listdir(tmp_path) == ["file"]


def test_a_process_that_is_killed_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    """No temporary file beside the old one, whatever the size of what was written."""
    target = tmp_path / "file"
    target.write_bytes(b"before")
    child = os.fork()
    if not child:
        with replacing(str(target)) as out:
            out.write(bytes(3 << 20))
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert target.read_bytes() == b"before" and os.listdir(tmp_path) == ["file"]


def test_a_file_is_replaced_where_all_files_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some filesystems, such as NFS, have no O_TMPFILE."""
    real = os.open

    def without(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", without)
    target = tmp_path / "file"
    for content in (b"first", b"second"):
        with replacing(str(target)) as out:
            out.write(content)
        assert target.read_bytes() == content and os.listdir(tmp_path) == ["file"]
    with pytest.raises(ZeroDivisionError), replacing(str(target)) as out:
        raise ZeroDivisionError
    assert target.read_bytes() == b"second" and os.listdir(tmp_path) == ["file"]


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    with replacing(str(tmp_path / "link")) as out:
        out.write(b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there/file").read_bytes() == b"x"


def test_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    fifo, device = tmp_path / "fifo", tmp_path / "null"
    os.mkfifo(fifo)
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    for path in (fifo, device):
        with replacing(str(path)) as out:
            out.write(b"x")
    reader.join()
    assert got == [b"x"] and stat.S_ISFIFO(fifo.lstat().st_mode) and stat.S_ISCHR(device.lstat().st_mode)


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"), replacing(str(tmp_path)) as out:
        out.write(b"x")


def test_a_full_disk_is_reported_and_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    image = image_of(store, tar(entry(b"a", data=os.urandom(200_000))))

    def work() -> object:
        place = tmp_path / "small"
        place.mkdir()
        mount_tmpfs(str(place), "size=64k")
        (place / "out").write_bytes(b"before")
        for attempt in (
            lambda: publish_archive(store.blobs, image, [NAME], str(place / "out")),
            lambda: publish_rootfs(store, image, str(place / "out")),
            lambda: write_local(store, image, str(place / "files")),
            lambda: publish_directory(store.blobs, image, [NAME], str(place / "layout")),
        ):
            with pytest.raises(NoSpace, match="No space left"):
                attempt()
            assert (place / "out").read_bytes() == b"before"
            assert os.listdir(place) == ["out"]
        return True

    assert in_private_mounts(work) is True


# -- the root filesystem as a tar


def flat(store: Store, *layers: bytes) -> bytes:
    out = io.BytesIO()
    with Rootfs(store, image_of(store, *layers)) as rootfs:
        write_rootfs(rootfs, out)
    return out.getvalue()


def rows(data: bytes) -> dict[str, tuple[bytes, object]]:
    """Name -> type and content of the entries, as the standard library reads a tar."""
    found: dict[str, tuple[bytes, object]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isreg() else None
            held: object = file.read() if file is not None else member.linkname
            found[member.name] = (member.type, (member.devmajor, member.devminor) if member.isdev() else held)
    return found


def test_the_layers_are_merged(store: Store) -> None:
    data = flat(
        store,
        tar(
            directory(b"d/", mode=0o700, uid=7), entry(b"d/a", data=b"1"), entry(b"d/b", data=b"2"),
            directory(b"gone/"), entry(b"gone/x"), directory(b"o/"), entry(b"o/x"), symlink(b"l", b"../d"),
            entry(b"dev", b"3", device=(1, 7)), entry(b"fifo", b"6"), entry(b"turned", data=b"file"),
        ),
        tar(entry(b"d/.wh.a"), entry(b".wh.gone"), entry(b"o/.wh..wh..opq"), entry(b"o/y", data=b"3"), directory(b"turned/")),
    )  # fmt: skip
    assert rows(data) == {
        "d": (b"5", ""), "d/b": (b"0", b"2"), "dev": (b"3", (1, 7)), "fifo": (b"6", (0, 0)), "l": (b"2", "../d"),
        "o": (b"5", ""), "o/y": (b"0", b"3"), "turned": (b"5", ""),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        (tar(), {"a": (b"0", b"1"), "b": (b"1", "a"), "c": (b"1", "a")}),
        (tar(entry(b".wh.a")), {"b": (b"0", b"1"), "c": (b"1", "b")}),
        (tar(entry(b"a", data=b"2")), {"a": (b"0", b"2"), "b": (b"0", b"1"), "c": (b"1", "b")}),
        (tar(entry(b"b"), hardlink(b"d", b"b")), {"a": (b"0", b"1"), "b": (b"0", b""), "c": (b"1", "a"), "d": (b"1", "b")}),
        (tar(entry(b".wh.a"), entry(b".wh.b")), {"c": (b"0", b"1")}),
    ],
    ids=["all names are there", "the first is gone", "the first is another", "the second is another", "one is left"],
)  # fmt: skip
def test_hard_links_refer_to_names_in_the_merged_root(upper: bytes, expected: object, store: Store) -> None:
    assert rows(flat(store, tar(entry(b"a", data=b"1"), hardlink(b"b", b"a"), hardlink(b"c", b"a")), upper)) == expected


def test_the_tar_does_not_depend_on_the_number_of_layers(store: Store) -> None:
    parts = [entry(b"a", data=b"1", mtime=5), entry(b"b", data=noise(3000), uid=70_000), directory(b"c/", mode=0o1777)]
    one = flat(store, tar(*parts))
    assert one == flat(store, tar(parts[2]), tar(entry(b"x")), tar(parts[1]), tar(entry(b".wh.x"), parts[0]))
    # Also if a tar is in another order than ours.
    assert one == flat(store, tar(*parts[::-1])) == flat(store, tar(parts[1], parts[0]), tar(parts[2]))
    assert os.listdir(store.ingest.path) == []


def test_many_layers_are_merged_with_few_descriptors(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [tar(entry(b"f%02d" % i, data=b"%d" % i)) for i in range(20)]
    data = flat(store, *layers)
    monkeypatch.setattr("pybuild.store.exporting.rootfs_tar._MAX_OPEN", 10)
    assert flat(store, *layers) == data
    assert os.listdir(store.ingest.path) == []


def test_attributes_times_and_owners_are_kept(store: Store) -> None:
    attributes = ((b"security.capability", b"\1\0\0\2" + bytes(16)), (b"user.x", b"y"))
    data = flat(store, tar(entry(b"f", mode=0o4755, uid=1, gid=2_200_000, mtime=1 << 40, xattrs=attributes)))
    (found,) = read_layer(io.BytesIO(data), View([]))
    assert found._replace(sha256=b"", offset=-1) == found.__class__(
        b"f", Kind.FILE, 0o4755, 1, 2_200_000, 1 << 40, xattrs=attributes
    )


@pytest.mark.parametrize(
    ("root", "there"),
    [(directory(b"./", mode=0o755), False), (directory(b"./", mode=0o711), True), (directory(b"./", uid=3), True)],
)
def test_the_tar_has_an_entry_for_the_root_unless_it_is_the_default(root: bytes, there: bool, store: Store) -> None:
    data = flat(store, tar(root, entry(b"a")))
    assert ("." in rows(data)) is there
    assert flat(store, data) == data


def test_a_damaged_layer_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    image = image_of(store, tar(entry(b"a", data=noise(50_000))), tar(entry(b"b", data=b"x")))
    damage(store, image, 0)
    out = tmp_path / "out.tar"
    out.write_bytes(b"before")
    with pytest.raises(StoreError):
        publish_rootfs(store, image, str(out))
    assert out.read_bytes() == b"before" and sorted(os.listdir(tmp_path)) == ["out.tar", "store"]


NAMES = st.sampled_from([b"a", b"b", b"d/a", b"d/b", b"d/e/a", b"d"])
MEMBERS = st.one_of(
    st.builds(lambda name, data, uid: entry(name, data=data, uid=uid), NAMES, st.binary(max_size=3), st.integers(0, 2)),
    st.builds(lambda name, mode: directory(name, mode=mode), NAMES, st.sampled_from([0o755, 0o700])),
    st.builds(symlink, NAMES, st.sampled_from([b"a", b"/d", b".."])),
    st.builds(lambda name: entry(os.path.join(os.path.dirname(name), b".wh." + os.path.basename(name))), NAMES),
    st.builds(hardlink, NAMES, NAMES),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all examples of a property: an example does not depend on what the previous ones left."""
    with Store(str(tmp_path_factory.mktemp("shared"))) as opened:
        yield opened


@given(layers=st.lists(st.lists(MEMBERS, max_size=6), min_size=1, max_size=3))
@settings(max_examples=150)
def test_a_flattened_image_has_the_same_files_as_its_layers(layers: list[list[bytes]], shared: Store) -> None:
    try:
        image = image_of(shared, *[tar(*found) for found in layers])
    except StoreError:
        return  # hard links to nothing, links in a circle: tests of the extraction cover these
    out = io.BytesIO()
    with Rootfs(shared, image) as rootfs:
        write_rootfs(rootfs, out)
    shown = shared.snapshots.view(image.snapshot).walk(b"")
    again = image_of(shared, out.getvalue())
    assert [plain(found) for found in shared.snapshots.view(again.snapshot).walk(b"")] == [plain(f) for f in shown]


def plain(found: object) -> object:
    """A row without what depends on the layers: the offset of its content, and which name of a file comes first."""
    return found._replace(offset=-1, hardlink=b"", opaque=False)  # type: ignore[attr-defined]


# -- the root filesystem as files


def local(store: Store, out: Path, *layers: bytes) -> dict[str, tuple[object, ...]]:
    write_local(store, image_of(store, *layers), str(out))
    return listing(out)


def test_written_files_belong_to_the_user(store: Store, tmp_path: Path) -> None:
    layer = tar(
        directory(b"d/", mode=0o2750, uid=5, mtime=9), entry(b"d/f", data=b"x", mode=0o6751, uid=7, gid=8, mtime=11),
        hardlink(b"d/g", b"d/f"), symlink(b"l", b"/etc/passwd", mtime=12, uid=9), entry(b"p", b"6", mode=0o640, mtime=13),
        directory(b"t/", mode=0o1777), entry(b"x", xattrs=((b"user.a", b"b"),)),
    )  # fmt: skip
    found = local(store, tmp_path / "new/out", layer)
    me = (os.getuid(), os.getgid())
    assert found["d"][:5] == (stat.S_IFDIR, 0o750, *me, 9)
    assert found["d/f"][:6] == (stat.S_IFREG, 0o751, *me, 11, b"x")
    assert found["d/g"][-1] == found["d/f"][-1] == "d/f"
    assert found["l"][0] == stat.S_IFLNK and found["l"][2:6] == (*me, 12, "/etc/passwd")
    assert found["p"][:5] == (stat.S_IFIFO, 0o640, *me, 13)
    assert found["t"][1] == 0o1777
    assert found["x"][6] == {}
    assert sorted(os.listdir(tmp_path / "new")) == ["out"]


def test_devices_are_left_out_and_reported(store: Store, tmp_path: Path) -> None:
    devices = [entry(b"null", b"3", device=(1, 3)), entry(b"disk", b"4", device=(8, 0)), hardlink(b"zero", b"null")]
    report = write_local(store, image_of(store, tar(*devices, entry(b"f"))), str(tmp_path / "out"))
    assert sorted(report.devices) == [b"disk", b"null", b"zero"]
    assert os.listdir(tmp_path / "out") == ["f"]


def test_files_of_the_image_are_replaced_and_all_others_stay(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "d").mkdir(parents=True)
    (out / "d/mine").write_bytes(b"mine")
    (out / "f").write_bytes(b"before")
    (out / "l").write_bytes(b"before")
    (out / "empty").mkdir()
    (out / "as-directory").write_bytes(b"before")
    found = local(
        store,
        out,
        tar(
            directory(b"d/"), entry(b"f", data=b"x"), symlink(b"l", b"f"), entry(b"empty"), directory(b"as-directory/")
        ),
    )
    kinds = {path: row[0] for path, row in found.items()}
    assert kinds == {
        "": stat.S_IFDIR, "d": stat.S_IFDIR, "d/mine": stat.S_IFREG, "f": stat.S_IFREG, "l": stat.S_IFLNK,
        "empty": stat.S_IFREG, "as-directory": stat.S_IFDIR,
    }  # fmt: skip
    assert found["f"][5] == b"x" and found["d/mine"][5] == b"mine"


def test_a_directory_with_files_in_it_is_not_removed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out/d").mkdir(parents=True)
    (tmp_path / "out/d/mine").write_bytes(b"")
    with pytest.raises(StoreError, match="out/d is a directory with files in it, but not in the image"):
        local(store, tmp_path / "out", tar(entry(b"d", data=b"x")))
    assert os.listdir(tmp_path / "out") == ["d"] and os.listdir(tmp_path / "out/d") == ["mine"]


@pytest.mark.parametrize("target", ["../outside", "{outside}"], ids=["relative", "absolute"])
def test_nothing_is_written_through_a_link_of_an_earlier_image(target: str, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    before = listing(outside)
    aim = target.format(outside=outside).encode()
    out = tmp_path / "out"
    local(store, out, tar(symlink(b"d", aim), symlink(b"f", aim + b"/file"), symlink(b"p", aim), symlink(b"e", aim)))
    found = local(
        store,
        out,
        tar(entry(b"d/file", data=b"x"), entry(b"f", data=b"x"), entry(b"p/q/new"), directory(b"e/", mode=0o700)),
    )
    assert found["d/file"][5] == b"x" and found["f"][5] == b"x" and found["e"][0] == stat.S_IFDIR
    assert listing(outside) == before


def test_an_existing_hard_link_is_not_written_through(store: Store, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    outside.write_bytes(b"mine")
    os.link(outside, out / "f")
    assert local(store, out, tar(entry(b"f", data=b"x")))["f"][5] == b"x"
    assert outside.read_bytes() == b"mine"


def test_directories_without_permissions_can_be_written_again(store: Store, tmp_path: Path) -> None:
    layer = tar(directory(b"d/", mode=0o500), directory(b"d/e/", mode=0), entry(b"d/e/f", data=b"x"))
    assert local(store, tmp_path / "out", layer) == local(store, tmp_path / "out", layer)


def test_paths_longer_than_the_limit_of_a_system_call_are_written(store: Store, tmp_path: Path) -> None:
    name = b"/".join([b"x" * 200] * 30)
    write_local(store, image_of(store, tar(entry(name + b"/f", data=b"1"), entry(name + b"/g"))), str(tmp_path / "out"))
    fd = os.open(tmp_path / "out", os.O_RDONLY)
    for part in name.split(b"/"):
        below = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    assert sorted(os.listdir(fd)) == ["f", "g"]
    os.close(fd)


def test_names_of_any_bytes_are_written(store: Store, tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b"-rf", b" ", b"\x1b[2J", b"x" * 255]
    local(store, tmp_path / "out", tar(*[entry(name) for name in names]))
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(names)


def test_a_damaged_layer_is_found(store: Store, tmp_path: Path) -> None:
    image = image_of(store, tar(entry(b"a", data=noise(50_000))), tar(entry(b"b", data=b"x")))
    damage(store, image, 0)
    with pytest.raises(StoreError):
        write_local(store, image, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/mine").touch()
    with pytest.raises(StoreError):
        write_local(store, image, str(tmp_path / "old"))
    left = os.listdir(tmp_path / "old")
    assert "mine" in left and not [name for name in left if name.startswith(".")]


def test_a_destination_that_is_a_file_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(StoreError, match="is not a directory"):
        local(store, tmp_path / "out", tar(entry(b"a")))
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_an_image_without_files_is_an_empty_directory(store: Store, tmp_path: Path) -> None:
    assert set(local(store, tmp_path / "out")) == {""}
    assert rows(flat(store)) == {}
