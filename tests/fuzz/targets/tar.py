"""The tar of a layer or an archive, given as the text of tests/fuzz/tar_text.py."""

from __future__ import annotations

import io
import tarfile
from functools import partial
from hashlib import sha256

from pybuild.store.errors import StoreError
from pybuild.store.formats import tar
from pybuild.store.formats.tar import Member, TarReader
from pybuild.store.formats.toc import MAX_PATH, Entry, Kind, Toc, sort_key
from pybuild.store.layers.read import read_archive, read_layer
from pybuild.store.layers.view import View
from tests.fuzz.tar_text import tar_of
from tests.fuzz.target import FuzzTarget, check_refusal

BELOW = View(
    [
        Toc.of(
            [
                Entry(b"dir", Kind.DIRECTORY, 0o700, 7, 8, 9),
                Entry(b"dir/file", Kind.FILE, 0o644, sha256=bytes(32)),
                Entry(b"link", Kind.SYMLINK, 0o777, link=b"dir"),
                Entry(b"loop", Kind.SYMLINK, 0o777, link=b"loop"),
                Entry(b"out", Kind.SYMLINK, 0o777, link=b"../../dir/new"),
            ]
        )
    ]
)


def read(data: bytes) -> bool:
    """The members are those that Python's tarfile finds, and the entries are safe to make a tree of."""
    archive = tar_of(data)
    try:
        members = _members(archive)
    except StoreError as error:
        for reader in (read_layer, partial(read_archive, owner=None)):
            try:
                reader(io.BytesIO(archive), BELOW)
            except StoreError:
                continue
            raise AssertionError("a damaged tar was read as a layer") from None
        return check_refusal(error)
    _compare(members, archive)
    read_one = False
    for owner in (None, (5, 6)):
        try:
            entries = read_archive(io.BytesIO(archive), BELOW, owner)
        except StoreError as error:
            check_refusal(error)
        else:
            _check(entries)
            assert not any(entry.kind is Kind.WHITEOUT or entry.opaque for entry in entries)
            read_one = True
    try:
        entries = read_layer(io.BytesIO(archive), BELOW)
    except StoreError as error:
        return check_refusal(error) or read_one
    _check(entries)
    assert read_layer(io.BytesIO(archive), BELOW) == entries
    return True


def _members(archive: bytes) -> list[tuple[Member, bytes]]:
    """All members with their data."""
    reader = TarReader(io.BytesIO(archive))
    return [(member, b"".join(reader.data(100))) for member in reader]


def _check(entries: list[Entry]) -> None:
    """Check what a tree is made of: sorted safe paths whose parents are directories, links to earlier equal files."""
    assert [entry.path for entry in entries] == sorted({entry.path for entry in entries}, key=sort_key)
    assert list(Toc.of(entries)) == entries
    found = {entry.path: entry for entry in entries}
    for entry in entries:
        parts = entry.path.split(b"/")
        assert not entry.path or not {b"", b".", b".."} & set(parts), entry
        assert len(entry.path) <= MAX_PATH and all(len(part) <= 255 and b"\0" not in part for part in parts), entry
        assert not any(part.startswith(b".wh.") for part in parts), entry
        if b"/" in entry.path:
            assert found[entry.path.rpartition(b"/")[0]].kind is Kind.DIRECTORY, entry
        if entry.hardlink:
            assert found[entry.hardlink]._replace(path=entry.path, hardlink=entry.hardlink) == entry
            assert sort_key(entry.hardlink) < sort_key(entry.path)
        if entry.kind is Kind.FILE:
            assert len(entry.sha256) == 32 and entry.offset >= tar.BLOCK
        assert not entry.opaque or entry.kind is Kind.DIRECTORY


def _compare(members: list[tuple[Member, bytes]], archive: bytes) -> None:
    """Compare with what tarfile finds, which reads a header that it does not like as the end of the archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="surrogateescape") as other:
            others = other.getmembers()
    except (tarfile.TarError, ValueError, OverflowError):
        return
    assert len(members) >= len(others), ([member.name for member, _ in members], others)
    for (member, data), its in zip(members, others, strict=False):
        assert member.offset == its.offset_data, its
        if archive[member.offset - 255 :][:6] == b"ustar\0":  # tarfile reads a prefix in headers that have none
            assert _text(member.name).rstrip("/") == its.name.rstrip("/"), its
        assert len(data) == member.size == (its.size if its.isreg() else 0), its
        assert sha256(data).digest() == sha256(archive[its.offset_data :][: member.size]).digest()
        if not member.name.endswith(b"/"):
            assert (member.type == tar.REGULAR, member.type == tar.SYMLINK, member.type == tar.HARDLINK) == (
                its.isreg(), its.issym(), its.islnk(),
            )  # fmt: skip
        if its.issym() or its.islnk():
            assert _text(member.linkname) == its.linkname, its
        assert member.mode == its.mode & 0o7777


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


TARGET = FuzzTarget(
    read,
    seeds=(
        b"entry name=dir/ type=5 mode=0755\nentry name=dir/f\n+hello\nentry name=l type=2 link=dir/f\nentry name=h type=1 link=dir/f\n",
        b"entry name=link/f\n+x\nentry name=dir/.wh.file\nentry name=out/.wh..wh..opq\n",
        b"pax path=p/q SCHILY.xattr.security.capability=%00%01 mtime=-1.5 uid=4000000000 size=3\nentry name=short\n+abc\n",
        b"global uid=3 mtime=77\nentry name=tty type=3 major=5 minor=1\nentry name=fifo type=6\n",
        b"entry name=././@LongLink type=L\n+long/name\nentry name=x prefix=before\nentry name=y uid=%80%00%00%00%00%00%01%00\n",
        b"entry name=a/b/c\nentry name=a type=2 link=dir\nentry name=loop/x\n",
        b"entry name=f type=7\n+data\nentry name=old/ type=%00 magic=\nentry name=g\nentry name=f type=5\nzero\nentry name=late",
        b"!" + tar.END,
    ),
    words=(
        b"entry ", b"name=", b"type=", b"link=", b"mode=", b"size=", b"uid=", b"mtime=", b"major=", b"sum=", b"prefix=", b"magic=",
        b"\npax ", b"\nglobal ", b"\n+", b"zero\n", b"cut\n", b"path=", b"linkpath=", b"SCHILY.xattr.", b"GNU.sparse.major=",
        b".wh.", b".wh..wh..opq", b"..", b"./", b"//", b"%00", b"%ff", b"%80", b"type=L", b"type=K", b"type=5", b"type=1", b"type=2",
        b"link/", b"loop/", b"out/", b"dir", b"-1", b"0x", b"1_0", b"77777777777",
    ),
)  # fmt: skip
