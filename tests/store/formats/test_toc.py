"""Tables of contents as files: lookups, and damage that is found."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Entry, Kind, Toc, encode, parent_of, sort_key

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.store.formats.toc import Links

PROPERTY = settings(max_examples=300)

BYTES = st.binary(min_size=1, max_size=20).filter(lambda b: not set(b) & {0, 47})
PATH = st.lists(BYTES, min_size=1, max_size=4).map(b"/".join)
ENTRY = st.builds(
    Entry,
    path=PATH,
    kind=st.sampled_from(list(Kind)),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    mtime=st.integers(-(2**63), 2**63 - 1),
    size=st.integers(0, 2**63 - 1),
    link=st.binary(max_size=50),
    hardlink=st.binary(max_size=50),
    rdev=st.integers(0, 2**64 - 1),
    xattrs=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=300)), max_size=3).map(tuple),
    sha256=st.sampled_from([b"", b"\xaa" * 32]),
    offset=st.integers(-1, 2**62),
    opaque=st.booleans(),
)


@given(st.dictionaries(PATH, ENTRY, max_size=20))
@PROPERTY
def test_a_table_returns_the_entries_written_to_it(entries: dict[bytes, Entry]) -> None:
    rows = [entries[path]._replace(path=path) for path in sorted(entries, key=sort_key)]
    toc = Toc.of(rows)
    assert list(toc) == rows
    assert len(toc) == len(rows)
    for row in rows:
        assert toc.find(row.path) == row
        assert toc.find(row.path + b"\x01") is None or row.path + b"\x01" in entries
    for parent in {parent_of(path) for path in entries}:
        if not parent or parent in entries:
            # A table without some of the parents is not valid, but its sub-trees are still skipped.
            expected = [row for row in rows if parent_of(row.path) == parent]
            assert [row for row in toc.children(parent) if parent_of(row.path) == parent] == expected


@given(st.dictionaries(PATH, ENTRY, max_size=20), st.lists(st.lists(PATH, max_size=4).map(tuple), max_size=4).map(tuple))
@PROPERTY
def test_a_table_returns_the_links_written_to_it(entries: dict[bytes, Entry], links: Links) -> None:
    rows = [entries[path]._replace(path=path) for path in sorted(entries, key=sort_key)]
    toc = Toc.of(rows, links)
    assert toc.links == links
    assert list(toc) == rows


def test_a_table_without_links_is_as_it_was_before_there_were_links() -> None:
    rows = [Entry(b"a", Kind.FILE, 0o644, mtime=1, size=3, sha256=b"\xaa" * 32, offset=512), Entry(b"b", Kind.DIRECTORY)]
    data = encode(rows)
    assert data == encode(rows, ())
    assert hashlib.sha256(data).hexdigest() == "2405aa026f0b01078d9d94722b069b5cb9c173118e6f25a8a63c96ed801ac947"
    assert Toc(data).links == ()


@pytest.mark.parametrize("damage", range(74, 88))
def test_damaged_links_are_found(damage: int) -> None:
    """The table has one record of 66 bytes, and one group of links: crc32, 2, (1, a), (1, b)."""
    data = bytearray(encode([Entry(b"b", Kind.FILE)], ((b"a", b"b"),)))
    data[damage] ^= 1
    with pytest.raises(InvalidImage, match="damaged table of contents"):
        _ = Toc(bytes(data)).links


def test_links_that_contradict_themselves_are_damage() -> None:
    data = bytearray(encode([], ((b"a",),)))
    data[12:16] = (2).to_bytes(4, "little")  # the number of paths
    data[8:12] = zlib.crc32(data[12:19]).to_bytes(4, "little")
    with pytest.raises(InvalidImage, match="damaged table of contents"):
        _ = Toc(bytes(data)).links


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", 99), ("path length", 40_000), ("path length", 0), ("number of attributes", 65_535), ("number of attributes", 0)],
)
def test_a_record_that_contradicts_itself_is_damage(name: str, value: int) -> None:
    """Such a record has a right checksum: another version of pybuild, or an attacker, has written it."""
    data = bytearray(encode([Entry(b"a", Kind.FILE, xattrs=((b"k", b"v"),)), Entry(b"b", Kind.FILE)]))
    record = len(b"pbtoc-1\n")
    length = int.from_bytes(data[record + 4 : record + 8], "little")
    place, width = {"kind": (8, 1), "path length": (53, 2), "number of attributes": (59, 2)}[name]
    assert data[record + place : record + place + width] == {"kind": b"\x01"}.get(name, b"\x01\0")
    data[record + place : record + place + width] = value.to_bytes(width, "little")
    data[record : record + 4] = zlib.crc32(data[record + 4 : record + 8 + length]).to_bytes(4, "little")
    with pytest.raises(InvalidImage, match="damaged table of contents"):
        list(Toc(bytes(data)))


def test_a_record_behind_the_end_of_the_file_is_damage() -> None:
    index = struct.pack("<Q", 1 << 40)
    data = b"pbtoc-1\n" + index + struct.pack("<QQI8s", 1, 8, zlib.crc32(index), b"pbtoc-1\n")
    with pytest.raises(InvalidImage, match="damaged table of contents"):
        list(Toc(data))


@pytest.mark.parametrize("rows", [[b"b", b"a"], [b"a", b"a"], [b"a.x", b"a/x"]])
def test_unsorted_entries_are_an_error_of_the_caller(rows: list[bytes]) -> None:
    with pytest.raises(ValueError, match="out of order"):
        encode([Entry(path, Kind.FILE) for path in rows])


def test_a_too_long_path_is_refused() -> None:
    with pytest.raises(InvalidImage, match="more than 32768 bytes"):
        encode([Entry(b"x" * 32_769, Kind.FILE)])


def test_every_damaged_byte_of_a_table_is_found(tmp_path: Path) -> None:
    rows = [
        Entry(b"", Kind.DIRECTORY),
        Entry(b"a", Kind.FILE, size=3, sha256=b"\1" * 32),
        Entry(b"b", Kind.SYMLINK, link=b"a"),
    ]
    data = encode(rows)
    path = tmp_path / "toc"
    path.write_bytes(data)
    assert list(Toc.open(str(path))) == rows
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes((data[position] ^ 0x55,)) + data[position + 1 :])
        with pytest.raises(InvalidImage, match="damaged table of contents"):
            list(Toc.open(str(path)))


def test_every_truncation_of_a_table_is_found(tmp_path: Path) -> None:
    data = encode([Entry(b"a", Kind.FILE), Entry(b"b", Kind.FILE)])
    for size in range(len(data)):
        (tmp_path / "toc").write_bytes(data[:size])
        with pytest.raises(InvalidImage, match="damaged"):
            list(Toc.open(str(tmp_path / "toc")))


def test_an_empty_table_can_be_read() -> None:
    toc = Toc.of([])
    assert (len(toc), list(toc), toc.find(b"a"), list(toc.children(b""))) == (0, [], None, [])
