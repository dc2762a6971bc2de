"""The tar format: written archives are read here and by other tools, and ambiguous archives are refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, StoreError
from pybuild.store.formats import tar, tar_header
from pybuild.store.formats.tar import BLOCK, END, Member, TarReader, parse_pax, show
from pybuild.store.formats.tar_header import entry_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROPERTY = settings(max_examples=300)


def read(data: bytes) -> list[Member]:
    return list(TarReader(io.BytesIO(data)))


def contents(data: bytes) -> list[tuple[bytes, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(member.name, b"".join(reader.data())) for member in reader]


def file(name: bytes, data: bytes = b"", **fields: Any) -> bytes:
    head = entry_header(
        name, tar.REGULAR, **{**{"mode": 0o644, "uid": 0, "gid": 0, "size": len(data), "mtime": 0}, **fields}
    )
    return head + data + bytes(-len(data) % BLOCK)


def raw(
    name: bytes = b"f",
    kind: bytes = b"0",
    *,
    size: bytes = b"00000000000\0",
    mode: bytes = b"0000644\0",
    mtime: bytes = b"00000000000\0",
    uid: bytes = b"0000000\0",
    device: tuple[bytes, bytes] = (b"0000000\0", b"0000000\0"),
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """A header with exactly these fields and a correct checksum."""
    block = (
        name.ljust(100, b"\0")
        + mode
        + uid
        + b"0000000\0"
        + size
        + mtime
        + b" " * 8
        + kind
        + link.ljust(100, b"\0")
        + magic
    )
    block += bytes(64) + device[0] + device[1]
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return pax_of(b"".join(tar_header._record(key, value) for key, value in records), kind)


def pax_of(body: bytes, kind: bytes = b"x") -> bytes:
    return raw(b"pax", kind, size=b"%011o\0" % len(body)) + body + bytes(-len(body) % BLOCK)


NAME = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))
MEMBER = st.fixed_dictionaries(
    {
        "name": NAME | st.sampled_from([b"a\nb", b"\x1b[31mred", b"\xff\xfe", b"x" * 255, b"d/" * 2000 + b"f", b"-rf", "ä".encode()]),
        "kind": st.sampled_from([b"0", b"1", b"2", b"3", b"4", b"6"]),
        "mode": st.integers(0, 0o7777),
        "uid": st.integers(0, 2**32 - 2),
        "gid": st.integers(0, 2**32 - 2),
        "mtime": st.integers(-(10**17), 10**17) | st.integers(-2, 2**34),
        "link": NAME,
        "device": st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
        "xattrs": st.dictionaries(
            st.sampled_from([b"user.a", b"security.capability", b"user.\xff"]), st.binary(max_size=600), max_size=3
        ).map(lambda found: tuple(sorted(found.items()))),
        "data": st.binary(max_size=1300),
    }
)  # fmt: skip


def written(fields: dict[str, Any]) -> tuple[bytes, Member]:
    """The bytes of an entry, and the member that they must be read as (except for the offset)."""
    kind = fields["kind"]
    data = fields["data"] if kind == b"0" else b""
    link = fields["link"] if kind in (b"1", b"2") else b""
    device = fields["device"] if kind in (b"3", b"4") else (0, 0)
    assert isinstance(data, bytes) and isinstance(device, tuple)
    head = entry_header(
        fields["name"], kind, mode=fields["mode"], uid=fields["uid"], gid=fields["gid"], size=len(data),
        mtime=fields["mtime"], link=link, device=device, xattrs=fields["xattrs"],
    )  # fmt: skip
    member = Member(
        fields["name"], kind, fields["mode"], fields["uid"], fields["gid"], len(data), fields["mtime"], link, device[0],
        device[1], fields["xattrs"], 0,
    )  # fmt: skip
    return head + data + bytes(-len(data) % BLOCK), member


@given(st.lists(MEMBER, max_size=5))
@PROPERTY
def test_what_is_written_reads_back(entries: list[dict[str, object]]) -> None:
    made = [written(fields) for fields in entries]
    data = b"".join(piece for piece, _ in made) + END
    found = read(data)
    assert [member._replace(offset=0) for member in found] == [member for _, member in made]
    for member, fields in zip(found, entries, strict=True):
        if member.type == b"0":
            assert data[member.offset : member.offset + member.size] == fields["data"]


@given(st.lists(MEMBER, max_size=4))
@PROPERTY
def test_pythons_tarfile_reads_the_same_entries(entries: list[dict[str, object]]) -> None:
    made = [written(fields) for fields in entries]
    data = b"".join(piece for piece, _ in made) + END
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        found = archive.getmembers()
    assert len(found) == len(made)
    for info, (_, member) in zip(found, made, strict=True):
        assert os.fsencode(info.name).rstrip(b"/") == member.name.rstrip(b"/")
        assert (info.type, info.mode, info.uid, info.gid, info.size) == (
            member.type,
            member.mode,
            member.uid,
            member.gid,
            member.size,
        )
        assert int(info.mtime) == pytest.approx(member.mtime, rel=1e-15)
        assert os.fsencode(info.linkname) == member.linkname
        if member.type in (b"3", b"4"):
            assert (info.devmajor, info.devminor) == (member.devmajor, member.devminor)


def test_gnu_tar_reads_the_same_entries(tmp_path: Path) -> None:
    names = [
        b"a\nb",
        b"\x1b[31mred",
        b"\xff\xfe",
        b"x" * 255,
        b"d/" * 100 + b"f",
        b"-rf",
        "ä".encode(),
        b"trailing ",
        b"back\\slash",
    ]
    body = b"".join(
        file(name, name * 3, uid=3_000_000_000, mtime=time)
        for name, time in zip(names, [0, -1, 2**34, *[5] * 9], strict=False)
    )
    body += entry_header(b"link", b"2", mode=0o777, uid=0, gid=0, size=0, mtime=0, link=b"t" * 3000)
    archive = tmp_path / "a.tar"
    archive.write_bytes(body + END)
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "--null", "--show-transformed-names", "--numeric-owner", "-tf", archive],
        capture_output=True, check=True, env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert listed.stdout == b"".join(name + b"\n" for name in [*names, b"link"])
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-C", out, "-xf", archive], check=True, capture_output=True)
    for name in names:
        assert (out / os.fsdecode(name)).read_bytes() == name * 3
        assert (out / os.fsdecode(name)).stat().st_uid == 3_000_000_000
    assert os.readlink(out / "link") == "t" * 3000
    assert (out / os.fsdecode(names[1])).stat().st_mtime == -1


@pytest.mark.parametrize("style", ["gnu", "pax", "posix", "ustar", "v7", "oldgnu"])
def test_archives_of_gnu_tar_are_read(tmp_path: Path, style: str) -> None:
    tree = tmp_path / "tree"
    long = "deep" if style == "v7" else "/".join(["n" * 60] * (3 if style == "ustar" else 6))
    (tree / long).mkdir(parents=True)
    (tree / long / "file").write_bytes(b"hello" * 300)
    (tree / "link").symlink_to("l" * (90 if style in ("v7", "ustar") else 150))
    os.link(tree / long / "file", tree / "zhard") if style not in ("v7", "ustar") else None
    os.utime(tree / "link", (1, -0.5) if style in ("pax", "posix") else (1, 5), follow_symlinks=False)
    os.chown(tree / long / "file", 4_000_000 if style in ("pax", "posix", "gnu", "oldgnu") else 12, 7)
    done = subprocess.run(
        ["tar", f"--format={style}", "--sort=name", "--numeric-owner", "-C", tree, "-cf", "-", "."], capture_output=True, check=True
    )  # fmt: skip
    found = {member.name.removeprefix(b"./").rstrip(b"/"): member for member in read(done.stdout)}
    entry = found[os.fsencode(long) + b"/file"]
    assert (entry.size, entry.gid) == (1500, 7)
    assert entry.uid == (tree / long / "file").stat().st_uid
    assert found[b"link"].linkname == os.fsencode(os.readlink(tree / "link"))
    assert found[b"link"].mtime == (-1 if style in ("pax", "posix") else 5)
    assert found[b""].type == b"5"
    assert found[os.fsencode(long)].type == b"5"
    if b"zhard" in found:
        assert found[b"zhard"].type == b"1"
    assert dict(contents(done.stdout))[b"./" + os.fsencode(long) + b"/file"] == b"hello" * 300


def test_a_number_with_thousands_of_leading_zeros_is_read() -> None:
    assert read(pax((b"mtime", b"-" + b"7".zfill(5000) + b".5")) + raw() + END)[0].mtime == -8


def test_a_clamp_changes_times_only() -> None:
    for mtime in (5, 2**40, -7):
        fields: dict[str, Any] = {"mode": 0o644, "uid": 0, "gid": 0, "size": 0, "mtime": mtime}
        free = entry_header(b"f", b"0", **fields)
        clamped = entry_header(b"f", b"0", clamp=3, **fields)
        assert len(free) == len(clamped)
        assert read(free + END)[0].mtime == mtime
        assert read(clamped + END)[0].mtime == min(mtime, 3)


def test_a_name_of_a_hundred_bytes_needs_no_extended_header() -> None:
    assert len(entry_header(b"x" * 100, b"0", mode=0, uid=0, gid=0, size=0, mtime=0)) == BLOCK
    assert len(entry_header(b"x" * 101, b"0", mode=0, uid=0, gid=0, size=0, mtime=0)) == 3 * BLOCK


def test_sizes_from_eight_gibibytes_on_are_in_a_pax_header() -> None:
    reader = iter(TarReader(io.BytesIO(entry_header(b"big", b"0", mode=0, uid=0, gid=0, size=8**11, mtime=0))))
    assert next(reader).size == 8**11


@pytest.mark.parametrize("digits", range(1, 5))
def test_the_length_of_a_pax_record_includes_its_digits(digits: int) -> None:
    for length in range(10**digits - 12, 10**digits + 12):
        if length > 3:
            assert parse_pax(tar_header._record(b"k", b"v" * length)) == {"k": b"v" * length}


# -- archives that are refused

LONG = 1 << 30
BAD: dict[str, tuple[bytes, str]] = {
    "PAX says more than the header": (pax((b"size", b"1024")) + raw(size=b"00000000000\0") + bytes(1024) + END, '"f"'),
    "PAX says less than the header": (pax((b"size", b"0")) + raw(size=b"00000001000\0") + file(b"hidden") + END, '"f"'),
    "PAX size beyond any file": (pax((b"size", b"9223372036854775808")) + raw() + END, '"f"'),
    "PAX size negative": (pax((b"size", b"-1")) + raw() + END, '"f"'),
    "PAX size no number": (pax((b"size", b"0x10")) + raw() + END, '"f"'),
    "PAX size empty": (pax((b"size", b"")) + raw() + END, '"f"'),
    "PAX uid -1 to chown": (pax((b"uid", b"4294967295")) + raw() + END, '"f"'),
    "PAX uid 2^63": (pax((b"uid", b"9223372036854775808")) + raw() + END, '"f"'),
    "PAX gid negative": (pax((b"gid", b"-1")) + raw() + END, '"f"'),
    "PAX time NaN": (pax((b"mtime", b"nan")) + raw() + END, '"f"'),
    "PAX time with two signs": (pax((b"mtime", b"--5")) + raw() + END, '"f"'),
    "PAX time with exponent": (pax((b"mtime", b"1e5")) + raw() + END, '"f"'),
    "PAX time huge": (pax((b"mtime", b"9" * 40)) + raw() + END, '"f"'),
    "PAX name with NUL": (pax((b"path", b"a\0b")) + raw() + END, "NUL"),
    "PAX link with NUL": (pax((b"linkpath", b"a\0b")) + raw(kind=b"2") + END, "NUL"),
    "PAX length too long": (pax_of(b"99 path=x\n") + raw() + END, "malformed PAX"),
    "PAX length too short": (pax_of(b"5 path=x\n") + raw() + END, "malformed PAX"),
    "PAX length of nothing": (pax_of(b"3 =\n") + raw() + END, "malformed PAX"),
    "PAX length zero": (pax_of(b"0 a=b\n") + raw() + END, "malformed PAX"),
    "PAX length padded": (pax_of(b"07 a=bc\n") + raw() + END, "malformed PAX"),
    "PAX length signed": (pax_of(b"+6 a=b\n") + raw() + END, "malformed PAX"),
    "PAX length endless": (pax_of(b"9" * 400) + raw() + END, "malformed PAX"),
    "PAX without newline": (pax_of(b"6 a=bc") + raw() + END, "malformed PAX"),
    "PAX without equals": (pax_of(b"7 path\n") + raw() + END, "malformed PAX"),
    "PAX without key": (pax_of(b"5 =x\n") + raw() + END, "malformed PAX"),
    "PAX trailing NUL": (pax_of(b"6 a=b\n\0\0") + raw() + END, "malformed PAX"),
    "PAX record twice": (pax((b"path", b"a"), (b"path", b"b")) + raw() + END, "twice"),
    "PAX headers twice": (pax((b"path", b"a")) + pax((b"path", b"b")) + raw() + END, "two PAX"),
    "PAX before the end": (pax((b"path", b"a")) + END, "without an entry"),
    "PAX of 1 GiB": (raw(kind=b"x", size=b"%011o\0" % LONG) + END, "limit of 1 MiB"),
    "PAX for all: path": (pax((b"path", b"a"), kind=b"g") + raw() + END, "global"),
    "PAX for all: size": (pax((b"size", b"1"), kind=b"g") + raw() + END, "global"),
    "PAX for all: linkpath": (pax((b"linkpath", b"1"), kind=b"g") + raw() + END, "global"),
    "PAX sparse": (pax((b"GNU.sparse.major", b"1")) + raw() + END, "sparse"),
    "GNU sparse": (raw(kind=b"S") + END, "sparse"),
    "GNU long name of 1 GiB": (raw(kind=b"L", size=b"%011o\0" % LONG) + END, "limit of 1 MiB"),
    "GNU long link of 8 EiB": (raw(kind=b"K", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7) + END, "limit"),
    "GNU long name twice": (2 * (raw(kind=b"L", size=b"00000000002\0") + b"ab".ljust(BLOCK, b"\0")) + raw() + END, "two long"),
    "GNU long name at the end": (raw(kind=b"L", size=b"00000000002\0") + b"ab".ljust(BLOCK, b"\0") + END, "without an entry"),
    "volume header": (raw(kind=b"V") + END, "not supported"),
    "multi-volume": (raw(kind=b"M") + END, "not supported"),
    "incremental": (raw(kind=b"D") + END, "not supported"),
    "unknown type": (raw(kind=b"Z") + END, "not supported"),
    "size negative in base 256": (raw(size=b"\xff" * 12) + END, "size is out of range"),
    "size beyond 63 bits": (raw(size=b"\x80" + b"\xff" * 11) + END, "size is out of range"),
    "size no number": (raw(size=b"0000000009x\0") + END, "size is not a number"),
    "size with something behind it": (raw(size=b"0000\0000777\0") + END, "size is not a number"),
    "uid negative": (raw(uid=b"\xff" * 8) + END, '"f"'),
    "uid 2^32-1": (raw(uid=b"\x80\0\0\0\xff\xff\xff\xff") + END, '"f"'),
    "mode no number": (raw(mode=b"rwxrwxrw") + END, '"f"'),
    "mtime beyond 63 bits": (raw(mtime=b"\x80" + b"\xff" * 11) + END, '"f"'),
    "device major 2^31": (raw(kind=b"3", device=(b"\x80\0\0\0\x80\0\0\0", b"0000000\0")) + END, '"f"'),
    "device minor 2^20": (raw(kind=b"4", device=(b"0000000\0", b"4000000\0")) + END, '"f"'),
    "directory with a size": (raw(b"d/", b"5", size=b"00000001000\0") + file(b"hidden") + END, '"d/"'),
    "link with a size": (raw(b"l", b"2", size=b"00000001000\0", link=b"x") + file(b"hidden") + END, '"l"'),
    "directory of V7 with data": (raw(b"d/", b"\0", size=b"00000000001\0", magic=bytes(8)) + bytes(BLOCK) + END, '"d/"'),
    "checksum wrong": (raw()[:-1] + b"\1" + END, "wrong checksum"),
    "checksum no number": (raw()[:148] + b"xxxxxxxx" + raw()[156:] + END, "checksum is not a number"),
    "checksum of the second entry wrong": (file(b"a") + raw()[:-1] + b"\1" + END, "wrong checksum"),
    "noise": (b"\xa5" * 2048, "tar:"),
    "an entry behind one zero block": (file(b"a") + bytes(BLOCK) + file(b"b") + END, "after the end"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_an_archive_that_is_wrong_or_ambiguous_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        contents(data)
    assert message in str(caught.value)


def whole() -> bytes:
    return (
        file(b"a", b"x" * 700)
        + file(b"n" * 150, b"y")
        + pax((b"SCHILY.xattr.user.a", b"z" * 900))
        + raw(b"b", size=b"00000000001\0")
        + b"b".ljust(BLOCK, b"\0")
        + END
    )


def test_an_archive_can_end_after_any_entry_but_not_within_one() -> None:
    data = whole()
    members = read(data)
    ends = {0} | {member.offset + member.size for member in members}
    first_zeros = len(data) - BLOCK  # where the first block of zeros ends
    complete = contents(data)
    for cut in range(len(data)):
        ended = [end for end in ends if end <= cut]
        if cut >= first_zeros or any(end <= cut <= end + -end % BLOCK for end in ends):
            assert contents(data[:cut]) == complete[: len(ended) - 1]
        else:
            with pytest.raises(InvalidImage, match=r"truncated|extended header without an entry"):
                contents(data[:cut])


def test_a_stream_that_returns_single_bytes_is_read() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size, 1) if size is not None and size > 0 else size)

    reader = TarReader(Slow(whole()))
    assert [(member.name, b"".join(reader.data())) for member in reader] == contents(whole())


def test_bytes_after_the_end_are_ignored() -> None:
    assert contents(whole() + bytes(9000)) == contents(whole()) == contents(whole() + b"garbage")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0),
        (b"1.9", 1),
        (b"-1", -1),
        (b"-1.0", -1),
        (b"-1.5", -2),
        (b"-0.1", -1),
        (b"7.", 7),
        (b"1" * 18, int("1" * 18)),
    ],
)
def test_pax_times_are_rounded_down(value: bytes, seconds: int) -> None:
    assert read(pax((b"mtime", value)) + raw() + END)[0].mtime == seconds


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: raw(mtime=b"\xff" * 12), {"mtime": -1}),
        (lambda: raw(mtime=b"\x80" + b"\0" * 10 + b"\7"), {"mtime": 7}),
        (lambda: raw(uid=b"\x80\0\0\0\xff\xff\xff\xfe"), {"uid": 2**32 - 2}),
        (lambda: raw(uid=b"    12 \0"), {"uid": 10}),
        (lambda: raw(uid=bytes(8)), {"uid": 0}),
        (lambda: raw(b"d/", b"\0", magic=bytes(8)), {"type": b"5"}),
        (lambda: raw(b"f", b"7"), {"type": b"0"}),
        (lambda: raw(b"h", b"1", size=b"00000001000\0", link=b"f"), {"type": b"1", "size": 0}),
        (lambda: pax((b"uid", b"5"), (b"comment", b"x"), kind=b"g") + raw(), {"uid": 5}),
        (lambda: pax((b"uid", b"5"), kind=b"g") + pax((b"uid", b"6")) + raw(), {"uid": 6}),
        (lambda: pax((b"path", b"p")) + raw(), {"name": b"p"}),
        (lambda: raw(mode=b"0107755\0"), {"mode": 0o7755}),
    ],
)
def test_old_and_unusual_forms_are_read(change: Callable[[], bytes], expected: dict[str, object]) -> None:
    (member,) = read(change() + END)
    assert {key: getattr(member, key) for key in expected} == expected


def test_a_signed_checksum_of_old_writers_is_accepted() -> None:
    block = raw(b"\xff\xfe")
    signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 8 * 32
    assert read(block[:148] + b"%06o\0 " % signed + block[156:] + END)[0].name == b"\xff\xfe"


def test_the_ustar_prefix_is_part_of_the_name() -> None:
    block = bytearray(raw(b"name"))
    block[345:348] = b"dir"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert read(bytes(block) + END)[0].name == b"dir/name"


@given(st.binary(max_size=700), st.integers(0, 4000), st.integers(0, 600))
@PROPERTY
def test_a_damaged_archive_raises_only_store_errors(noise: bytes, position: int, cut: int) -> None:
    data = whole()
    damaged = data[:position] + noise + data[position + cut :]
    try:
        found = contents(damaged)
    except StoreError:
        return
    assert len(found) <= len(damaged) // BLOCK


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain", '"plain"'),
        ("ä".encode(), '"ä"'),
        (b"\x1b[2J", '"\\x1b[2J"'),
        (b"a\nb", '"a\\x0ab"'),
        (b"\xff", '"\\xff"'),
        (b"x" * 400, '"' + "x" * 300 + '…"'),
    ],
)
def test_names_are_shown_without_control_characters(name: bytes, shown: str) -> None:
    assert show(name) == shown
