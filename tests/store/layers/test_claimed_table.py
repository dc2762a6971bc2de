"""Tables of contents that somebody else made: true ones say the same, forged ones are refused."""

from __future__ import annotations

import io
import struct
import zlib

import pytest

from pybuild.store.errors import InvalidImage, UnsafePath
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Entry, Kind, Toc, encode, encode_record
from pybuild.store.layers.claimed_table import claimed_digest, read_claimed_table
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.view import View
from pybuild.store.layers.write import write_layer
from pybuild.store.system.directories import opened_directory
from tests.support.tars import directory, entry, hardlink, symlink, tar

SHA = b"s" * 32
EMPTY = View([])
BELOW = View(
    [
        Toc.of(
            [
                Entry(b"etc", Kind.DIRECTORY, 0o755),
                Entry(b"etc/passwd", Kind.FILE, 0o644, sha256=SHA),
                Entry(b"lib", Kind.SYMLINK, 0o777, link=b"usr/lib"),
                Entry(b"usr", Kind.DIRECTORY, 0o755),
                Entry(b"usr/lib", Kind.DIRECTORY, 0o755),
            ]
        )
    ]
)

FORGED: dict[str, tuple[list[Entry], str]] = {
    "outside of the root": ([Entry(b"../../x", Kind.FILE, 0o4755, sha256=SHA)], "leaves the root"),
    "an absolute path": ([Entry(b"/etc/x", Kind.FILE, 0o644, sha256=SHA)], "another place"),
    "a parent that is a symbolic link": ([Entry(b"lib/x", Kind.FILE, 0o4755, sha256=SHA)], "another place"),
    "a parent that is a link of its own": (
        [Entry(b"a", Kind.SYMLINK, 0o777, link=b"/etc"), Entry(b"a/x", Kind.FILE, 0o644, sha256=SHA)],
        "another place",
    ),
    "a parent that is a file": (
        [Entry(b"a", Kind.FILE, 0o644, sha256=SHA), Entry(b"a/x", Kind.FILE, 0o644, sha256=SHA)],
        "not a directory",
    ),
    "an attribute of overlayfs": (
        [Entry(b"a", Kind.DIRECTORY, 0o755, xattrs=((b"trusted.overlay.opaque", b"y"),))],
        "control overlayfs",
    ),
    "a mode that none has": ([Entry(b"a", Kind.FILE, 0o104755, sha256=SHA)], "mode"),
    "a size that none has": ([Entry(b"a", Kind.FILE, 0o644, size=1 << 63, sha256=SHA)], "size"),
    "a file without a digest": ([Entry(b"a", Kind.FILE, 0o644)], "no digest"),
    "a device that is a whiteout": ([Entry(b"a", Kind.CHAR, 0o644)], "0:0"),
    "a link to a file that is not there": (
        [Entry(b"a", Kind.FILE, 0o644, hardlink=b"etc/passwd", sha256=SHA)],
        "not an earlier file",
    ),
    "a link without a target": ([Entry(b"a", Kind.SYMLINK, 0o777)], "link target"),
    "a name that is reserved": (
        [Entry(b"a", Kind.WHITEOUT), Entry(b".wh.b", Kind.FILE, 0, sha256=SHA)],
        "another place",
    ),
    "a component that is too long": ([Entry(b"a" * 256, Kind.FILE, 0o644, sha256=SHA)], "component"),
    "an owner that none has": ([Entry(b"a", Kind.DIRECTORY, 0o755, uid=0xFFFFFFFF)], "an owner"),
    "a group that none has": ([Entry(b"a", Kind.DIRECTORY, 0o755, gid=0xFFFFFFFF)], "an owner"),
    "a time that no tar has": ([Entry(b"a", Kind.DIRECTORY, 0o755, mtime=(1 << 63) - 1)], "a time"),
    "a time before all times": ([Entry(b"a", Kind.DIRECTORY, 0o755, mtime=-(1 << 63))], "a time"),
    "a device that none has": ([Entry(b"a", Kind.CHAR, 0o644, rdev=(1 << 64) - 1)], "device number"),
    "a NUL in a path": ([Entry(b"a\0b", Kind.FILE, 0o644, sha256=SHA)], "no tar can hold"),
    "a NUL in a link": ([Entry(b"a", Kind.SYMLINK, 0o777, link=b"b\0c")], "no tar can hold"),
    "an attribute twice": (
        [Entry(b"a", Kind.DIRECTORY, 0o755, xattrs=((b"user.a", b"b"), (b"user.a", b"c")))],
        "twice",
    ),
    "an attribute whose name a tar would split": (
        [Entry(b"a", Kind.DIRECTORY, 0o755, xattrs=((b"user.a=b", b"c"),))],
        "no tar can hold",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_table_is_refused(name: str) -> None:
    rows, said = FORGED[name]
    rows.sort(key=lambda row: row.path)
    with pytest.raises(InvalidImage, match=said):
        read_claimed_table(Toc.of(rows), BELOW)


def test_a_path_outside_is_unsafe() -> None:
    with pytest.raises(UnsafePath):
        read_claimed_table(Toc.of(FORGED["outside of the root"][0]), BELOW)


def test_a_table_twice_the_same_root() -> None:
    """A second row of the root cannot be in a table: the order of its rows is checked where it is written here."""
    rows = read_claimed_table(Toc.of([Entry(b"", Kind.DIRECTORY, 0o700)]), EMPTY)
    assert rows == [Entry(b"", Kind.DIRECTORY, 0o700)]


def test_an_index_that_names_a_record_twice() -> None:
    """Else a small file could name one large record a million times: days of work."""
    rows = [Entry(b"a", Kind.DIRECTORY, 0o755), Entry(b"b", Kind.DIRECTORY, 0o755)]
    first = encode_record(rows[0])
    start = len(b"pbtoc-1\n")
    for offsets in ((start, start), (start + len(first), start), (start + len(first),)):
        index = struct.pack(f"<{len(offsets)}Q", *offsets)
        records = encode(rows)[: start + 2 * len(first)]
        data = records + index + struct.pack("<QQI8s", len(offsets), len(records), zlib.crc32(index), b"pbtoc-1\n")
        with pytest.raises(InvalidImage, match="damaged"):
            read_claimed_table(Toc(data), EMPTY)


def test_a_true_table_says_what_its_tar_says() -> None:
    layer = tar(
        directory(b"etc/"),
        entry(b"etc/group", data=b"root:x:0:\n"),
        entry(b"etc/.wh.passwd"),
        directory(b"bin/"),
        entry(b"bin/busybox", data=b"#!", mode=0o755),
        hardlink(b"bin/sh", b"bin/busybox"),
        directory(b"new/"),
        entry(b"new/.wh..wh..opq"),
        symlink(b"link", b"bin"),
    )
    read = read_layer(io.BytesIO(layer), BELOW)
    claimed = read_claimed_table(Toc.of(read), BELOW)
    assert [row._replace(offset=-1) for row in read] == claimed
    assert claimed_digest(read) == claimed_digest(claimed)


def test_a_table_says_the_same_as_the_tar_that_was_written_from_it() -> None:
    """A COPY takes over the directories below with all of their attributes, and a layer stores only one of them."""
    capability = (b"security.capability", b"\1")
    rows = [Entry(b"d", Kind.DIRECTORY, 0o755, xattrs=(capability, (b"user.x", b"1"))), Entry(b"d/f", Kind.FIFO, 0o644)]
    out = io.BytesIO()
    with opened_directory("/") as root, TreeContent(root) as nothing:
        write_layer(rows, nothing, out, Compression.UNCOMPRESSED)
    read = read_layer(io.BytesIO(out.getvalue()), EMPTY)
    assert claimed_digest(read) == claimed_digest(read_claimed_table(Toc.of(rows), EMPTY))
    assert claimed_digest(read) != claimed_digest([rows[0]._replace(xattrs=()), rows[1]])


def test_the_digest_tells_what_matters_to_steps_above() -> None:
    row = Entry(b"a", Kind.FILE, 0o644, 1, 2, 3, 4, sha256=SHA, offset=512)
    digest = claimed_digest([row])
    assert digest == claimed_digest([row._replace(mtime=9, offset=1024)])
    for other in (row._replace(mode=0o755), row._replace(uid=0), row._replace(sha256=b"t" * 32), row._replace(size=5)):
        assert digest != claimed_digest([other])
