"""ADD of local archives: which files are archives, where their entries are unpacked, and which archives are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pybuild.builder.errors import CopyError
from pybuild.builder.files.archives import open_archive
from pybuild.builder.files.copy import PlannedEntry
from pybuild.builder.files.spool import Spool
from pybuild.store.formats.toc import Kind
from pybuild.values.limits import applied
from tests.support.archive import built_layers
from tests.support.cli import Pybuild, write_context
from tests.support.copies import ALONE, MemoryTree, afterwards, planned, tar_of, trees
from tests.support.copymodel import ANY_TIME, Directory, File, Link, ModelCopy, Refused, flat
from tests.support.recipes import history, refusal, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IN = Directory(
    {
        "bin": Directory({"tool": File(b"tool", 0o4755, (3, 4), 10)}, 0o711, (3, 4), 10),
        "l": Link("bin/tool", (3, 4), 10),
        "one": File(b"shared", 0o640, (3, 4), 10, inode=1),
        "two": File(b"shared", 0o640, (3, 4), 10, inode=1),
    }
)
TAR = tar_of(IN)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(str(tmp_path / "spool")) as spool:
        yield spool
    assert not (tmp_path / "spool").exists()


def is_archive(data: bytes) -> bool:
    tree = MemoryTree(Directory({"f": File(data)}))
    row = tree.lookup(b"f")
    assert row is not None
    return open_archive(tree, row) is not None


# What is an archive


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_is_recognized_by_its_content(kind: str) -> None:
    assert is_archive(PACKERS[kind](TAR))


def member(**fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo("f")
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def tar(*members: tarfile.TarInfo, kind: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(bytes(info.size)) if info.size else None)
    return out.getvalue()


def v7(data: bytes) -> bytes:
    """The same archive without the magic that later tar formats have."""
    header = bytearray(data[:257] + bytes(8) + data[265:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tar(member(size=5), kind=tarfile.GNU_FORMAT), id="GNU"),
        pytest.param(tar(member(name="x" * 300), kind=tarfile.PAX_FORMAT), id="PAX, an extended header in front"),
        pytest.param(v7(tar(member())), id="V7"),
    ],
)
def test_all_tar_formats_are_archives(data: bytes) -> None:
    assert is_archive(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"text\n" * 1000, id="text"),
        pytest.param(bytes(10240), id="zeros, a tar without entries"),
        pytest.param(TAR[:300], id="less than a header"),
        pytest.param(bytes([TAR[0] ^ 1]) + TAR[1:], id="a wrong checksum"),
        pytest.param(gzip.compress(b"text\n" * 1000), id="compressed text"),
        pytest.param(gzip.compress(gzip.compress(TAR)), id="compressed twice"),
        pytest.param(bz2.compress(gzip.compress(TAR)), id="compressed twice, in two ways"),
        pytest.param(b"\x1f\x8b" + bytes(1000), id="what begins like gzip"),
        pytest.param(b"BZh" + bytes(1000), id="what begins like bzip2"),
        pytest.param(b"\xfd7zXZ\0" + bytes(1000), id="what begins like xz"),
        pytest.param(b"\x28\xb5\x2f\xfd" + bytes(1000), id="what begins like zstd"),
        pytest.param(gzip.compress(TAR)[:15], id="cut off before the first entry"),
        pytest.param(b"PK\x03\x04" + bytes(1000), id="zip"),
        pytest.param(lzma.compress(TAR, lzma.FORMAT_ALONE), id="lzma"),
    ],
)
def test_a_file_that_only_looks_like_an_archive_is_copied(data: bytes, spool: Spool) -> None:
    assert not is_archive(data)
    (item,) = planned(ModelCopy(("f",), "/x", archives=((TAR, IN),)), Directory({"f": File(data)}), Directory(), spool)
    assert item.entry.path == b"x"


# What lands where


def named(items: list[PlannedEntry]) -> list[str]:
    return [
        item.entry.path.decode()
        + ("/" if item.entry.kind is Kind.DIRECTORY else "")
        + (f" -> {item.entry.link.decode()}" if item.entry.kind is Kind.SYMLINK else "")
        + (f" = {item.entry.hardlink.decode()}" if item.entry.hardlink else "")
        for item in items
    ]


SOURCE = Directory(
    {
        "a.tar": File(TAR),
        "b.tar": File(tar_of(Directory({"b": File(b"b")}))),
        "f": File(b"f"),
        "d": Directory({"a.tar": File(TAR)}),
        "link": Link("d/a.tar"),
    }
)
IMAGE = Directory(
    {
        "usr": Directory({"bin": Directory({"sh": File()})}),
        "bin": Link("usr/bin"),
        "file": File(b"file"),
        "opt": Directory({"one": Directory({"x": File()}), "bin": File(), "l": Link("/usr")}, 0o700, (9, 9), 5),
        "toopt": Link("/opt"),
        "dangling": Link("lost"),
    }
)
ROWS = ["bin/", "bin/tool", "l -> bin/tool", "one", "two = one"]


def below(directory: str) -> list[str]:
    return [f"{directory}/", *(f"{directory}/{row}".replace("= ", f"= {directory}/") for row in ROWS)]


@pytest.mark.parametrize(
    ("sources", "dest", "expected"),
    [
        pytest.param("a.tar", "/new", below("new"), id="E47 the destination is a directory"),
        pytest.param("a.tar", "/new/", below("new"), id="E47 the destination needs no slash"),
        pytest.param("a.tar b.tar", "/new", sorted([*below("new"), "new/b"]), id="several, without a slash"),
        pytest.param("a.tar f", "/new", sorted([*below("new"), "new/f"]), id="an archive and a file"),
        pytest.param("link", "/new", below("new"), id="through a link"),
        pytest.param("d", "/new", ["new/", "new/a.tar"], id="E47 an archive in a directory is not unpacked"),
        pytest.param("d/*", "/new", below("new"), id="E47 an archive that a pattern matches"),
        pytest.param("*.tar", "/new", sorted([*below("new"), "new/b"]), id="all files that a pattern matches"),
        pytest.param("a.tar", "/opt", below("opt")[1:], id="existing entries are replaced"),
        pytest.param("a.tar", "/toopt", below("opt")[1:], id="through a link in the image"),
        pytest.param("a.tar", "/dangling", below("lost"), id="a destination that is a dangling link"),
        pytest.param("a.tar", "/", ["l -> bin/tool", "one", "two = one", "usr/", "usr/bin/", "usr/bin/tool"],
                     id="a directory goes where a link leads"),
    ],
)  # fmt: skip
def test_an_archive_is_unpacked(sources: str, dest: str, expected: list[str], spool: Spool) -> None:
    copy = ModelCopy(tuple(sources.split()), dest, archives=((TAR, IN),))
    assert sorted(named(planned(copy, SOURCE, IMAGE, spool))) == sorted(expected)


def rows(data: bytes, spool: Spool, dest: str = "/x", **fields: object) -> dict[str, tuple[int, int, int, int]]:
    copy = replace(ModelCopy(("f",), dest, archives=((data, IN),)), **fields)  # type: ignore[arg-type]
    items = planned(copy, Directory({"f": File(data)}, mtime=1), IMAGE, spool)
    return {i.entry.path.decode(): (i.entry.mode, i.entry.uid, i.entry.gid, i.entry.mtime) for i in items}


def test_entries_keep_the_metadata_of_the_archive(spool: Spool) -> None:
    found = rows(TAR, spool)
    assert found["x"][:3] == (0o755, 0, 0)
    assert found["x/bin"] == (0o711, 3, 4, 10)
    assert found["x/bin/tool"] == (0o4755, 3, 4, 10)


def test_chown_applies_to_all_entries_and_chmod_to_none(spool: Spool) -> None:
    found = rows(TAR, spool, owner=(7, 8), mode=0o600)
    assert found["x"][:3] == (0o755, 7, 8)
    assert found["x/bin"] == (0o711, 7, 8, 10)
    assert found["x/one"] == (0o640, 7, 8, 10)


def test_missing_parents_in_an_archive_belong_to_root(spool: Spool) -> None:
    found = rows(tar(member(name="a/b", uid=5)), spool, owner=(7, 8))
    assert (found["x/a"][:3], found["x/a/b"][:3]) == ((0o755, 0, 0), (0o644, 7, 8))


def test_missing_parents_that_the_image_has_are_not_changed(spool: Spool) -> None:
    assert rows(tar(member(name="opt/new")), spool, "/")["opt"] == (0o700, 9, 9, 5)


def test_the_root_of_an_archive_changes_nothing(spool: Spool) -> None:
    found = rows(tar(member(name="./", type=tarfile.DIRTYPE, mode=0o700, uid=1), member(name="./f")), spool, "/opt")
    assert "opt" not in found


def test_devices_of_an_archive_are_kept(spool: Spool) -> None:
    data = tar(member(type=tarfile.CHRTYPE, devmajor=1, devminor=3), member(name="p", type=tarfile.FIFOTYPE))
    copy = ModelCopy(("f",), "/x", archives=((data, IN),))
    kinds = [item.entry.kind for item in planned(copy, Directory({"f": File(data)}), IMAGE, spool)]
    assert kinds == [Kind.DIRECTORY, Kind.CHAR, Kind.FIFO]


@pytest.mark.parametrize("kind", PACKERS)
def test_content_is_read_from_the_spool(kind: str, spool: Spool) -> None:
    data = PACKERS[kind](TAR)
    source = Directory({"f": File(data)})
    items = planned(ModelCopy(("f",), "/", archives=((data, IN),)), source, Directory(), spool)
    assert afterwards(items, source, Directory())["bin/tool"][4] == b"tool"


def test_digests_are_known_without_a_spool(spool: Spool) -> None:
    copy, source = ModelCopy(("a.tar",), "/new", archives=((TAR, IN),)), SOURCE
    assert [i.entry for i in planned(copy, source, IMAGE)] == [i.entry for i in planned(copy, source, IMAGE, spool)]


# What is refused


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(TAR[:-9000], "tar: truncated after", id="cut off"),
        pytest.param(gzip.compress(TAR, 0)[:-5000], "gzip stream is truncated after", id="compressed and cut off"),
        pytest.param(gzip.compress(TAR)[:-8] + bytes(8), "damaged gzip stream", id="a wrong checksum"),
        pytest.param(lzma.compress(TAR)[:-8] + bytes(8), "damaged xz stream", id="a damaged end"),
        pytest.param(tar(member(name="../x")), 'entry "../x": leaves the root', id="a name that leaves the root"),
        pytest.param(tar(member(name="a/.wh.x")), "a name starting with .wh. cannot be stored", id="a whiteout"),
        pytest.param(tar(member(name=".wh..wh..opq")), "a name starting with .wh. cannot", id="an opaque directory"),
        pytest.param(tar(member(name=".wh.a/b")), "a name starting with .wh. cannot be stored", id="below a whiteout"),
        pytest.param(tar(member(type=tarfile.LNKTYPE, linkname="none")), "hard link to", id="a hard link to nothing"),
        pytest.param(tar(member(type=tarfile.CHRTYPE)), "a device 0:0 is a whiteout", id="a device of the overlay"),
        pytest.param(
            tar(member(pax_headers={"GNU.sparse.major": "1"}), kind=tarfile.PAX_FORMAT), "its list of holes is damaged", id="a sparse file without a list"
        ),
        pytest.param(tar(member(), member(name="f/g")), "is not a directory", id="an entry below a file"),
        pytest.param(tar(member(name="file/g")), "is not a directory in the image", id="an entry below a file of the image"),
        pytest.param(
            tar(member(name="l", type=tarfile.SYMTYPE, linkname="l"), member(name="l/f")),
            "too many levels of symbolic links", id="a loop",
        ),
        pytest.param(
            tar(member(name="l", type=tarfile.SYMTYPE, linkname="l"), member(name="l", type=tarfile.DIRTYPE)),
            "too many levels of symbolic links", id="a directory in a loop",
        ),
        pytest.param(
            tar(member(name="usr"), member(name="usr", type=tarfile.DIRTYPE)),
            "replaces a directory of the image by a file", id="a directory that was a file in between",
        ),
    ],
)  # fmt: skip
def test_the_error_about_a_hostile_or_damaged_archive_has_its_name(data: bytes, message: str, spool: Spool) -> None:
    with pytest.raises(CopyError) as caught:
        rows(data, spool, "/")
    assert str(caught.value).startswith('cannot unpack "f": ') and message in str(caught.value)
    assert caught.value.hint == "--unpack=false copies the file as it is"


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_decompression_bomb_is_refused(kind: str, spool: Spool) -> None:
    data = PACKERS[kind](tar(member(size=32 << 20)))
    with applied({"layer-bytes": 8 << 20}), pytest.raises(CopyError, match="more than the limit of 8 MiB"):
        rows(data, spool)


@pytest.mark.parametrize("dest", ["/file", "/file/", "/file/x"])
def test_an_archive_cannot_be_unpacked_onto_a_file(dest: str, spool: Spool) -> None:
    with pytest.raises(CopyError, match='cannot copy to non-directory: "/file"'):
        rows(TAR, spool, dest)


def test_a_link_of_an_archive_does_not_lead_out_of_the_destination(spool: Spool) -> None:
    data = tar(member(name="up", type=tarfile.SYMTYPE, linkname="/../../usr"), member(name="up/f"))
    assert set(rows(data, spool, "/opt")) == {"opt/up", "opt/usr", "opt/usr/f"}


# The model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spools")


@settings(max_examples=250)
@given(
    st.tuples(trees(ALONE), trees(ALONE)),
    trees(ALONE),
    st.none() | st.just((1, 2)),
    st.sampled_from(["/", "/a", "/b/", "/n/m"]),
    st.sampled_from(["x", "x y", "y x", "x f y", "f x"]),
)
def test_unpacking_does_what_the_model_does(
    place: Path, held: tuple[Directory, ...], image: Directory, owner: tuple[int, int] | None, dest: str, sources: str
) -> None:
    packed = [File(tar_of(tree)) for tree in held]
    source = Directory({"x": packed[0], "y": packed[1], "f": File(b"f")})
    copy = ModelCopy(tuple(sources.split()), dest, owner, archives=tuple(zip([p.content for p in packed], held, strict=True)))
    with Spool(f"{place}/spool") as spool:
        try:
            expected = flat(copy.apply(source, image))
        except Refused as refused:
            event(str(refused))
            with pytest.raises(CopyError):
                planned(copy, source, image, spool)
            return
        event("unpacked")
        found = afterwards(planned(copy, source, image, spool), source, image)
    made = {path for path, row in expected.items() if row[0] == "directory" and row[3] == ANY_TIME}
    assert {path: (*row[:3], ANY_TIME) if path in made else row for path, row in found.items()} == expected


# From the recipe, and in real builds


def test_the_history_of_add() -> None:
    lines = history("FROM base\nADD --chown=1 --chmod=700 --unpack=false --link a /b\nADD --exclude=x <<E a /c\nE")
    assert lines == ["ADD --chown=1 --chmod=700 a /b # buildkit", "ADD a <<E /c # buildkit"]


@pytest.mark.parametrize(
    ("text", "unpack"),
    [("ADD a /b", True), ("ADD --unpack a /b", True), ("ADD --unpack=false a /b", False), ("ADD <<E /b\nE", False)],
)
def test_add_unpacks_unless_the_flag_says_no(text: str, unpack: bool) -> None:
    assert steps(f"FROM base\n{text}")[-1].unpack is unpack  # type: ignore[union-attr]


def test_a_copy_does_not_unpack() -> None:
    assert steps("FROM base\nCOPY a /b")[-1].unpack is False  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "source", ["http://h/f", "https://h/r.git#v1", "git://h/r", "ssh://git@h/r", "git@h.test:o/r.git", "$URL"]
)
def test_remote_sources_are_recognized(source: str) -> None:
    arg = "FROM base\nARG URL=https://h/f\n"
    assert refusal(f"{arg}COPY {source} /b") == "3:6 COPY: a source cannot be a URL or a repository"


ADDS = "FROM pybuild.test/base\nADD a.tar.* /a/\nADD --link --chown=5:6 l.tar /b\nADD --unpack=false l.tar /c.tar\nADD d f /d/\n"


def write_adds(directory: Path) -> Path:
    files = {f"a.tar.{kind}": pack(tar_of(Directory({f"in.{kind}": File(kind.encode())}))) for kind, pack in PACKERS.items()}
    return write_context(directory, ADDS, **files, **{"l.tar": TAR}, d__x="x", f="f")


def test_the_content_of_an_archive_is_in_the_layer(pybuild: Pybuild, tmp_path: Path) -> None:
    layers = built_layers(pybuild, write_adds(tmp_path / "context"), tmp_path)
    assert sorted(layers[0]) == ["a", *sorted(f"a/in.{kind}" for kind in PACKERS)]
    assert {name: (m.type, m.uid, m.gid) for name, m in layers[1].items()} == {
        "b": (tarfile.DIRTYPE, 5, 6), "b/bin": (tarfile.DIRTYPE, 5, 6), "b/bin/tool": (tarfile.REGTYPE, 5, 6),
        "b/l": (tarfile.SYMTYPE, 5, 6), "b/one": (tarfile.REGTYPE, 5, 6), "b/two": (tarfile.LNKTYPE, 5, 6),
    }  # fmt: skip
    assert [sorted(layer) for layer in layers[2:]] == [["c.tar"], ["d", "d/f", "d/x"]]


def test_add_of_an_archive_is_cached_until_the_archive_changes(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_adds(tmp_path / "context")

    def build() -> tuple[str, list[bool]]:
        done = pybuild("--network=none", "--progress=json", context)
        return done.out, list(done.finished().values())

    first, _ = build()
    assert build() == (first, [True] * 4)
    (context / "a.tar.xz").write_bytes(lzma.compress(tar_of(Directory({"in.xz": File(b"other")}))))
    second, cached = build()
    assert (second != first, cached) == (True, [False, True, False, False])


def test_a_damaged_archive_is_an_error_with_a_place(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nADD a.tgz /\n", **{"a.tgz": gzip.compress(TAR, 0)[:-5000]})
    said = pybuild.refused(context)
    assert 'Buildfile:2:1: error: cannot unpack "a.tgz": gzip stream is truncated after' in said
    assert "hint: --unpack=false copies the file as it is" in said
