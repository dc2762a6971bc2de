"""A tree that is made while its layer is read: which layers allow that, and what becomes of a stream that is cut or wrong.

test_read.py reads each of its tars in one pass as well.
"""

from __future__ import annotations

import ctypes
import io
import os
import pwd
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, StoreError
from pybuild.store.formats import tar as tarformat
from pybuild.store.formats.toc import Entry, Kind, Toc, encode_record
from pybuild.store.layers.compare import tree_difference
from pybuild.store.layers.fed_tree import make_fed_tree
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree import make_tree
from pybuild.store.layers.tree_feed import END, SIZE, STOPPED, TreeFeed
from pybuild.store.layers.view import View
from pybuild.store.system.directories import opened_directory
from tests.support.one_pass import assert_same, in_one_pass, make_from, stream_file, unused_path
from tests.support.tars import directory, entry, hardlink, listing, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = View([])
BELOW = View([
    Toc.of([
        Entry(b"lib", Kind.SYMLINK, link=b"usr/lib"),
        Entry(b"usr", Kind.DIRECTORY, 0o711, 3, 4, 5),
        Entry(b"usr/lib", Kind.DIRECTORY, 0o750, 6, 7, 8),
    ])
])  # fmt: skip
BIG = os.urandom(3000) + bytes(1 << 20) + os.urandom(700_000)

WHOLE = {
    "nothing": [],
    "the root": [directory(b"./", mode=0o700, uid=1, gid=2, mtime=3)],
    "a parent that comes later": [entry(b"d/f", data=b"1"), directory(b"d/", mode=0o750, uid=9, mtime=7)],
    "a parent that does not come": [entry(b"a/b/c/f")],
    "a parent of the layer below": [entry(b"usr/lib/f")],
    "a parent through a link of the layer below": [entry(b"lib/f"), directory(b"lib/d/")],
    "a parent through a link": [directory(b"real/"), symlink(b"l", b"real"), entry(b"l/f", data=b"1")],
    "a directory twice": [directory(b"d/", mode=0o700), entry(b"d/f"), directory(b"d/", mode=0o711, mtime=9)],
    "a whiteout": [entry(b"d/.wh.gone"), entry(b".wh.other")],
    "a whiteout of what the layer has": [entry(b".wh.f"), entry(b"f"), entry(b"g"), entry(b".wh.g")],
    "a removed directory": [directory(b"d/"), entry(b"d/f"), entry(b".wh.d")],
    "an opaque directory, told last": [entry(b"d/f"), entry(b"d/.wh..wh..opq"), entry(b"d/.wh.g")],
    "an opaque root": [entry(b".wh..wh..opq"), entry(b"f")],
    "hard links": [entry(b"z", data=b"1", uid=5), hardlink(b"d/a", b"z"), hardlink(b"m", b"d/a")],
    "hard links to others": [
        symlink(b"s", b"x"), hardlink(b"s2", b"s"), entry(b"p", tarformat.FIFO), hardlink(b"p2", b"p"),
        entry(b"c", tarformat.CHAR, device=(1, 3)), hardlink(b"c2", b"c"),
    ],
    "a directory without permissions": [directory(b"d/", mode=0, mtime=4), entry(b"d/f", data=b"1")],
    "special modes": [entry(b"f", mode=0o6755, uid=3, gid=4), directory(b"d/", mode=0o3777)],
    "attributes": [entry(b"f", xattrs=((b"user.a", b"1"), (b"security.capability", bytes.fromhex("01000002" + "00" * 16))))],
    "files of some size": [entry(b"a", data=BIG), entry(b"b", data=BIG[:300_000]), entry(b"c", data=b"end")],
    "a name as long as names are": [entry(b"n" * 255)],
    "times": [entry(b"old", mtime=-5), entry(b"new", mtime=1 << 33)],
}  # fmt: skip
NOT_WHOLE = {
    "a file twice": [entry(b"f", data=b"1"), entry(b"f", data=b"2")],
    "a file in place of a directory": [directory(b"d/"), entry(b"d/f"), entry(b"d")],
    "a directory in place of a file": [entry(b"d"), directory(b"d/"), entry(b"d/f")],
    "a link in place of a directory": [directory(b"d/"), symlink(b"d", b"x")],
    "a hard link to something replaced": [entry(b"f", data=b"1"), hardlink(b"g", b"f"), entry(b"f", data=b"2")],
    "a hard link in place of a file": [entry(b"f"), entry(b"g"), hardlink(b"g", b"f")],
    "a device in place of a link": [symlink(b"l", b"x"), entry(b"l", tarformat.BLOCK_DEVICE, device=(8, 0))],
}


def compared(members: list[bytes]) -> bool:
    """Whether the tree of a layer can be made in one pass; if so, it is the one that is made of the table of contents."""
    data = tar(*members)
    with unused_path() as tree, unused_path() as other:
        entries, whole = in_one_pass(data, BELOW, tree)
        assert entries == read_layer(io.BytesIO(data), BELOW)
        if not whole:
            return False
        os.mkdir(other, 0o755)
        with opened_directory(other) as fd:
            make_tree(entries, io.BytesIO(data), fd)
        with opened_directory(tree) as fd:
            assert tree_difference(fd, entries, lambda: BELOW, content=True) == ""
        made, again = listing(other), listing(tree)
        assert_same(again, made, entries)
        for path in made:
            assert os.lstat(f"{tree}/{path}").st_blocks <= os.lstat(f"{other}/{path}").st_blocks + 8
    return True


def as_single_id(work: Callable[[], object]) -> None:
    """Do work as root of a user namespace with one id, an ordinary user's."""
    user = pwd.getpwnam("nobody")
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            libc = ctypes.CDLL(None, use_errno=True)
            libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: otherwise its id map belongs to root
            assert libc.unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
            for file, text in (
                ("setgroups", "deny"),
                ("uid_map", f"0 {user.pw_uid} 1"),
                ("gid_map", f"0 {user.pw_gid} 1"),
            ):
                with open(f"/proc/self/{file}", "w") as out:
                    out.write(text)
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", WHOLE)
def test_the_tree_is_that_of_the_table_of_contents(name: str) -> None:
    assert compared(WHOLE[name])


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_a_path_with_several_entries_stops_the_tree(name: str) -> None:
    assert not compared(NOT_WHOLE[name])


def test_an_ordinary_user_gets_the_same_trees() -> None:
    def both() -> None:
        for name, members in WHOLE.items():
            if name != "attributes":  # a capability of a file takes more than one id
                assert compared(members), name
        for name, members in NOT_WHOLE.items():
            assert not compared(members), name

    as_single_id(both)


PART = st.sampled_from([b"a", b"b", b"c", b"\xff", b".wh.a", b".wh..wh..opq", b"lib", b"."])
MEMBERS = st.lists(
    st.builds(
        lambda name, kind, data, link, mode, owner, mtime: entry(
            name,
            kind,
            data if kind == b"0" else b"",
            link=link,
            mode=mode,
            uid=owner,
            gid=owner,
            mtime=mtime,
            device=(1, 3),
        ),
        st.lists(PART, min_size=1, max_size=4).map(b"/".join),
        st.sampled_from([b"0", b"0", b"0", b"1", b"2", b"3", b"5", b"5", b"5", b"6"]),
        st.one_of(st.binary(max_size=20), st.just(bytes(70_000) + b"x")),
        st.lists(PART, min_size=1, max_size=3).map(b"/".join),
        st.integers(0, 0o7777),
        st.integers(0, 70_000),
        st.integers(-5, 2**33),
    ),
    max_size=12,
)


def test_the_trees_of_any_archives_are_the_same() -> None:
    seen: list[bool | None] = []

    @given(MEMBERS)
    @settings(max_examples=200, deadline=None)
    def any_archive(members: list[bytes]) -> None:
        try:
            seen.append(compared(members))
        except StoreError:
            seen.append(None)

    any_archive()
    assert {True, False} <= set(seen)
    as_single_id(any_archive)


def stream_of(members: list[bytes]) -> bytes:
    """What the reader of a layer sends."""
    with stream_file() as stream:
        read_layer(io.BytesIO(tar(*members)), NOTHING, TreeFeed(stream))
        return os.pread(stream, 1 << 20, 0)


def made_of(data: bytes) -> bool:
    with stream_file() as stream, unused_path() as tree:
        os.write(stream, data)
        return make_from(stream, tree)


def test_a_stream_that_is_cut_anywhere_gives_no_tree() -> None:
    stream = stream_of([directory(b"d/"), entry(b"d/f", data=b"0123456789"), hardlink(b"g", b"d/f"), entry(b".wh.w")])
    assert made_of(stream)
    assert [size for size in range(len(stream)) if made_of(stream[:size])] == []


def mark(number: int) -> bytes:
    return number.to_bytes(SIZE, "little")


def described(*entries: Entry | bytes) -> bytes:
    """A stream of entries, or of their records, without content."""
    records = [entry if isinstance(entry, bytes) else encode_record(entry) for entry in entries]
    return b"".join(mark(len(record)) + record for record in records) + mark(END)


RECORD = encode_record(Entry(b"f", Kind.FILE))


@pytest.mark.parametrize(
    "stream",
    [
        mark(2) + b"xx",
        mark(1 << 31) + RECORD,
        described(RECORD[:-1]),
        described(RECORD[:-1] + b"g"),
        described(Entry(b"d/f", Kind.FILE)),
        described(Entry(b"../f", Kind.FILE)),
        described(RECORD, Entry(b"f/g", Kind.DIRECTORY)),
        described(Entry(b"l", Kind.SYMLINK, link=b"/tmp"), Entry(b"l/g", Kind.FIFO)),
        described(Entry(b"h", Kind.FILE, hardlink=b"../x")),
    ],
)
def test_a_wrong_stream_is_refused(stream: bytes) -> None:
    """The reader does not send such a thing. If it did, nothing would be made outside of the tree."""
    try:
        assert not made_of(stream)
    except InvalidImage as error:
        assert str(error).startswith("the description of a tree is damaged")


@pytest.mark.parametrize("name", [b"..", b"."])
def test_a_wrong_name_fails(name: bytes) -> None:
    for kind in (Kind.FILE, Kind.DIRECTORY, Kind.FIFO, Kind.SYMLINK):
        with pytest.raises(OSError, match="exists"):
            made_of(described(Entry(name, kind, link=b"x")))


def test_nothing_is_sent_when_nobody_reads() -> None:
    """The maker has failed, and says so itself; the layer is read to its end."""
    reader, writer = os.pipe()
    os.close(reader)
    members = [entry(b"%d" % number, data=BIG) for number in range(3)]
    assert len(read_layer(io.BytesIO(tar(*members)), NOTHING, TreeFeed(writer))) == 3
    os.close(writer)


def test_the_maker_ends_when_the_reader_has_stopped() -> None:
    reader, writer = os.pipe()
    os.write(writer, mark(STOPPED))
    with unused_path() as tree:
        os.mkdir(tree)
        with opened_directory(tree) as fd:
            assert not make_fed_tree(reader, fd)  # the writing end is still open
    os.close(reader)
    os.close(writer)


def test_placeholders_and_whiteouts_are_made() -> None:
    with unused_path() as tree:
        in_one_pass(tar(entry(b"tty", tarformat.CHAR, device=(5, 0), mode=0o620), entry(b".wh.w")), NOTHING, tree)
        assert stat.S_IMODE(os.lstat(f"{tree}/tty").st_mode) == 0o620 and os.lstat(f"{tree}/tty").st_size == 0
        assert stat.S_ISCHR(os.lstat(f"{tree}/w").st_mode) and os.lstat(f"{tree}/w").st_rdev == 0
