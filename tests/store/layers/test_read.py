"""From the tar of a layer to entries to a tree: nothing leaves the root, and the tree equals the archive.

Every tar here is also read in one pass, in which its tree is made while it is read. That gives the same entries or the same
error, and the same tree, or none.
"""

from __future__ import annotations

import io
import os
import re
import stat
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage, StoreError, UnsafePath
from pybuild.store.formats import tar as tarformat
from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers import tree as trees
from pybuild.store.layers.compare import tree_difference
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree_files import open_directory
from pybuild.store.layers.view import View
from pybuild.store.system.directories import opened_directory
from pybuild.values.limits import applied
from tests.support.one_pass import assert_same, in_one_pass, unused_path
from tests.support.tars import directory, entry, hardlink, listing, symlink, tar

if TYPE_CHECKING:
    from pathlib import Path

PROPERTY = settings(max_examples=150)


def read_twice(data: bytes, below: tuple[list[Entry], ...], tree: str) -> tuple[list[Entry], bool]:
    """The entries of a layer on top of others, the topmost of them first; and whether its tree was made in one pass."""
    view = View([Toc.of(layer) for layer in below])
    try:
        found = read_layer(io.BytesIO(data), view)
    except StoreError as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            in_one_pass(data, view, tree)
        raise
    again, whole = in_one_pass(data, view, tree)
    assert again == found
    return found, whole


def entries_of(data: bytes, *below: list[Entry]) -> list[Entry]:
    """The entries of a layer on top of others, the topmost of them first."""
    with unused_path() as tree:
        found, whole = read_twice(data, below, tree)
        if whole:
            with opened_directory(tree) as fd:
                assert not tree_difference(fd, found, lambda: None, content=True)
    assert [e.path for e in found] == sorted({e.path for e in found}, key=sort_key)
    assert list(Toc.of(found)) == found
    paths = {e.path: e for e in found}
    for e in found:
        assert b".." not in e.path.split(b"/") and not e.path.startswith(b"/")
        if b"/" in e.path:
            assert paths[e.path.rpartition(b"/")[0]].kind is Kind.DIRECTORY
        if e.hardlink:
            assert paths[e.hardlink]._replace(path=e.path, hardlink=e.hardlink) == e
    return found


def names(data: bytes, *below: list[Entry]) -> list[str]:
    """The paths of a layer: whiteouts with a minus, opaque directories with an exclamation mark."""
    return [
        ("-" if e.kind is Kind.WHITEOUT else "") + os.fsdecode(e.path) + ("!" if e.opaque else "")
        for e in entries_of(data, *below)
    ]


def unpack(data: bytes, root: Path, *below: list[Entry]) -> dict[str, tuple[object, ...]]:
    """The tree of a layer. Made in one pass it is the same."""
    with unused_path() as tree:
        entries, whole = read_twice(data, below, tree)
        again = listing(tree) if whole else {}
    root.mkdir()
    with opened_directory(str(root)) as fd:
        trees.make_tree(entries, io.BytesIO(data), fd)
    made = listing(root)
    if whole:
        assert_same(again, made, entries)
    return made


def one(data: bytes, path: bytes, *below: list[Entry]) -> Entry:
    return next(e for e in entries_of(data, *below) if e.path == path)


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    """A directory outside every root, which no layer may change."""
    outside = tmp_path / "sentinel"
    (outside / "sub").mkdir(parents=True)
    (outside / "file").write_text("canary")
    (outside / "file").chmod(0o644)
    return outside


# -- names


@pytest.mark.parametrize(
    "name", [b"..", b"../x", b"a/../../x", b"a/../x", b"/../x", b"a/..", b"./..", b"../" * 50 + b"etc/passwd"]
)
@pytest.mark.parametrize(
    "kind", [tarformat.REGULAR, tarformat.DIRECTORY, tarformat.SYMLINK, tarformat.HARDLINK, tarformat.FIFO]
)
def test_a_name_with_dot_dot_leaves_the_root(name: bytes, kind: bytes) -> None:
    with pytest.raises(UnsafePath, match="leaves the root") as caught:
        entries_of(tar(entry(name, kind, link=b"x")))
    assert tarformat.show(name).rstrip("/") in str(caught.value).replace('/"', '"')


@pytest.mark.parametrize(
    ("name", "path"), [(b"/abs/x", "abs/x"), (b"./x", "x"), (b"a//b/./c", "a/b/c"), (b"C:\\x", "C:\\x")]
)
def test_absolute_and_untidy_names_stay_inside(name: bytes, path: str) -> None:
    assert names(tar(entry(name)))[-1] == path


@pytest.mark.parametrize("name", [b".", b"/", b"./", b"", b"./.", b"//"])
@pytest.mark.parametrize(
    "kind", [tarformat.SYMLINK, tarformat.REGULAR, tarformat.HARDLINK, tarformat.FIFO, tarformat.CHAR]
)
def test_a_member_that_names_the_root_is_skipped_unless_it_is_a_directory(name: bytes, kind: bytes) -> None:
    if kind == tarformat.REGULAR and name.endswith(b"/"):
        kind = tarformat.BLOCK_DEVICE  # old writers mark a directory by a slash at the end of its name
    data = b"skipped" if kind == tarformat.REGULAR else b""
    found = entries_of(tar(entry(b"f", data=b"1"), entry(name, kind, data, link=b"f", device=(1, 3)), entry(b"g", data=b"2")))
    assert [(e.path, e.sha256) for e in found] == [(b"f", sha256(b"1").digest()), (b"g", sha256(b"2").digest())]


def test_mode_and_owner_of_the_root_are_read(tmp_path: Path) -> None:
    found = unpack(tar(directory(b"./", mode=0o700, uid=5, gid=6, mtime=7)), tmp_path / "t")
    assert found[""][1:5] == (0o700, 5, 6, 7)


@pytest.mark.parametrize(
    "data",
    [
        entry(b"x" * 256),
        entry(b"d/" + b"x" * 256 + b"/f"),
        entry(b"a/" * 4096 + b"f"),
        entry(b"a" * 33_000),
        symlink(b"l", b"x" * 4096),
        symlink(b"l", b""),
        entry(b"f", xattrs=((b"user." + b"k" * 70_000, b"v"),)),
        entry(b"f", xattrs=((b"user.k", b"v" * 70_000),)),
        entry(b"f", xattrs=((b"", b"v"),)),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_entries_that_no_file_system_can_store_are_refused(data: bytes) -> None:
    with pytest.raises(UnsafePath, match=r"^entry "):
        entries_of(tar(data))


# -- links: each kind of link with each kind of entry below it

LINKS = {
    "absolute": [(b"ln", b"/SENTINEL")],
    "relative": [(b"ln", b"../../../../../SENTINEL")],
    "chain": [(b"ln", b"l0"), *[(b"l%d" % i, b"l%d" % (i + 1)) for i in range(38)], (b"l38", b"/SENTINEL")],
    "loop": [(b"ln", b"l0"), (b"l0", b"ln")],
    "self": [(b"ln", b".")],
}
LATER = {
    "file": [entry(b"ln/file", data=b"pwned")],
    "directory": [directory(b"ln/sub/", mode=0o777), entry(b"ln/sub/x")],
    "hard link": [entry(b"src"), hardlink(b"ln/file", b"src")],
    "hard link through": [hardlink(b"got", b"ln/file")],
    "symlink": [symlink(b"ln/file", b"x")],
    "whiteout": [entry(b"ln/.wh.file")],
    "opaque": [entry(b"ln/.wh..wh..opq")],
    "device": [entry(b"ln/file", tarformat.CHAR, device=(1, 3))],
    "attributes of the same name": [directory(b"ln/", mode=0o777, uid=1, xattrs=((b"user.x", b"y"),))],
    "file of the same name": [entry(b"ln", data=b"pwned", mode=0o777)],
}


@pytest.mark.parametrize("layers", ["same", "next"])
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("links", LINKS)
def test_nothing_goes_through_a_link_to_the_outside(
    links: str, later: str, layers: str, tmp_path: Path, sentinel: Path
) -> None:
    before = listing(sentinel)
    target = os.fsencode(str(sentinel).lstrip("/"))
    first = [symlink(name, to.replace(b"SENTINEL", target)) for name, to in LINKS[links]]
    below: list[list[Entry]] = []
    members = [*first, *LATER[later]]
    if layers == "next":
        below, members = [entries_of(tar(*first))], LATER[later]
    try:
        unpack(tar(*members), tmp_path / "root", *below)
    except UnsafePath as error:
        assert str(error).startswith("entry ")
    assert listing(sentinel) == before


def test_links_in_the_path_of_an_entry_are_followed_inside_the_root() -> None:
    below = entries_of(tar(directory(b"usr/lib/", mode=0o711), symlink(b"lib", b"usr/lib"), symlink(b"up", b"../../usr")))
    assert names(tar(entry(b"lib/x")), below) == ["usr", "usr/lib", "usr/lib/x"]
    assert one(tar(entry(b"lib/x")), b"usr/lib", below).mode == 0o711
    assert names(tar(entry(b"up/lib/.wh.y")), below) == ["usr", "usr/lib", "-usr/lib/y"]
    assert names(tar(symlink(b"l", b"/a/b"), entry(b"l/c"))) == ["a", "a/b", "a/b/c", "l"]


@pytest.mark.parametrize("target", [b"/" + b"a/../" * 20, b"/" + b"a/../" * 600])
def test_long_chains_of_links_are_refused_quickly(target: bytes) -> None:
    links = [symlink(b"l%d" % i, target + b"/l%d" % (i + 1)) for i in range(60)]
    with pytest.raises(UnsafePath, match="too many levels"):
        entries_of(tar(*links, *[entry(b"l0/x")]), entries_of(tar(*links)))


@pytest.mark.parametrize(
    "members",
    [
        [hardlink(b"h", b"../x")],
        [hardlink(b"h", b"/etc/passwd")],
        [hardlink(b"h", b"missing")],
        [hardlink(b"h", b"later"), entry(b"later")],
        [hardlink(b"h", b"h")],
        [entry(b"h"), hardlink(b"h", b"./h")],
        [directory(b"d/"), hardlink(b"h", b"d")],
        [directory(b"d/"), hardlink(b"h", b"")],
        [entry(b".wh.gone"), hardlink(b"h", b"gone")],
    ],
)
def test_a_hard_link_to_anything_but_an_earlier_file_of_its_layer_is_refused(members: list[bytes]) -> None:
    with pytest.raises(UnsafePath, match=r"^entry "):
        entries_of(tar(*members), entries_of(tar(entry(b"low"))))


def test_a_hard_link_to_a_file_of_a_lower_layer_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsafePath, match=r'entry "h": hard link to "low"') as caught:
        entries_of(tar(hardlink(b"h", b"low")), entries_of(tar(entry(b"low"))))
    assert caught.value.hint == "a layer below has that file; pack both names into one tar"
    with pytest.raises(UnsafePath) as caught:
        entries_of(tar(entry(b".wh.low"), hardlink(b"h", b"low")), entries_of(tar(entry(b"low"))))
    assert caught.value.hint is None


def test_a_hard_link_to_a_symbolic_link_is_that_link(tmp_path: Path) -> None:
    found = unpack(tar(symlink(b"a", b"/etc/passwd"), hardlink(b"b", b"a")), tmp_path / "t")
    assert found["b"][0] == stat.S_IFLNK and found["b"][-1] == "a"


def test_the_first_name_in_order_is_the_file_of_a_hard_link_group(tmp_path: Path) -> None:
    data = tar(entry(b"z", data=b"one"), hardlink(b"a", b"z"), hardlink(b"m", b"a"))
    assert [(e.path, e.hardlink) for e in entries_of(data)] == [(b"a", b""), (b"m", b"a"), (b"z", b"a")]
    found = unpack(data, tmp_path / "t")
    assert [found[name][5] for name in "amz"] == [b"one"] * 3
    assert {found[name][-1] for name in "amz"} == {"a"}


@pytest.mark.parametrize("kind", [tarformat.REGULAR, tarformat.CHAR, tarformat.FIFO])
def test_hard_links_are_still_the_old_file_after_their_target_was_replaced(tmp_path: Path, kind: bytes) -> None:
    old = entry(b"f", kind, device=(5, 1), mode=0o600)
    data = tar(old, hardlink(b"g", b"f"), hardlink(b"h", b"f"), entry(b"f", kind, device=(5, 1), mode=0o644, mtime=9))
    assert [(e.path, e.hardlink, e.mode) for e in entries_of(data)] == [
        (b"f", b"", 0o644),
        (b"g", b"", 0o600),
        (b"h", b"g", 0o600),
    ]
    assert unpack(data, tmp_path / "t")["h"][-1] == "g"


# -- whiteouts


@pytest.mark.parametrize(
    "name", [b".wh.", b".wh..", b".wh...", b".wh..wh.foo", b".wh..wh.", b"d/.wh.", b"d/.wh...", b"d/.wh..wh..plnk"]
)
def test_an_invalid_whiteout_is_refused(name: bytes) -> None:
    with pytest.raises(UnsafePath, match="whiteout"):
        entries_of(tar(entry(name)))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([entry(b".wh.a")], ["-a"]),
        ([entry(b"d/.wh.a")], ["d", "-d/a"]),
        ([entry(b".wh.a"), entry(b"a")], ["a"]),
        ([entry(b"a"), entry(b".wh.a")], ["a"]),
        ([entry(b".wh..wh..opq")], ["!"]),
        ([entry(b"d/.wh..wh..opq"), entry(b"d/x")], ["d!", "d/x"]),
        ([entry(b"d/x"), entry(b"d/.wh..wh..opq")], ["d!", "d/x"]),
        ([entry(b"d/x"), entry(b"d/.wh..wh..opq"), entry(b"d/.wh.y")], ["d!", "d/x"]),
        ([entry(b".wh.d"), entry(b"d/x")], ["d!", "d/x"]),
        ([entry(b"d/x"), entry(b".wh.d")], ["d!", "d/x"]),
        ([*[entry(b"a", tarformat.HARDLINK, link=b"b")][:0], entry(b".wh.a"), symlink(b"a", b"b")], ["a"]),
    ],
)
def test_whiteouts_affect_only_the_layers_below(members: list[bytes], expected: list[str]) -> None:
    assert names(tar(*members)) == expected


@pytest.mark.parametrize("name", [b".wh.etc/passwd", b"d/.wh.x/y/z", b".wh..wh..opq/f"])
def test_a_directory_with_the_name_of_a_whiteout_is_refused(name: bytes) -> None:
    with pytest.raises(UnsafePath, match=r"\.wh\."):
        entries_of(tar(directory(name) if name.endswith(b"/") else entry(name)))


def test_a_directory_made_again_inherits_nothing_from_the_removed_one() -> None:
    below = entries_of(
        tar(directory(b"d/", mode=0o700, uid=7), directory(b"d/e/", mode=0o711), symlink(b"d/l", b"/elsewhere"))
    )
    found = entries_of(tar(entry(b".wh.d"), entry(b"d/e/x"), entry(b"d/l/y")), below)
    assert {e.path: e.mode for e in found if e.kind is Kind.DIRECTORY} == dict.fromkeys((b"d", b"d/e", b"d/l"), 0o755)
    merged = View([Toc.of(found), Toc.of(below)])
    assert [e.path for e in merged.walk(b"")] == [b"d", b"d/e", b"d/e/x", b"d/l", b"d/l/y"]


def test_a_tree_has_whiteouts_and_opaque_directories_as_overlayfs_reads_them(tmp_path: Path) -> None:
    found = unpack(tar(entry(b".wh.a"), entry(b"d/.wh..wh..opq")), tmp_path / "t")
    assert found["a"][0] == stat.S_IFCHR and found["a"][5] == 0
    assert found["d"][6] == {"user.overlay.opaque": b"y"}


# -- one path, several entries


def test_the_last_entry_of_a_path_wins(tmp_path: Path) -> None:
    found = unpack(tar(entry(b"f", data=b"old"), entry(b"f", data=b"newer")), tmp_path / "t")
    assert found["f"][5] == b"newer"


def test_a_file_that_replaces_a_directory_removes_its_entries() -> None:
    data = tar(
        directory(b"d/"), entry(b"d/e/f"), entry(b"d/e/.wh..wh..opq"), entry(b"d/.wh.g"), entry(b"d", data=b"x"), entry(b"dz"),
    )  # fmt: skip
    assert names(data) == ["d", "dz"]
    assert names(tar(directory(b"d/"), entry(b"d/f"), entry(b"d"), directory(b"d/"), entry(b"d/g"))) == ["d", "d/g"]


def test_an_entry_below_a_file_of_its_layer_is_refused() -> None:
    with pytest.raises(UnsafePath, match="not a directory"):
        entries_of(tar(entry(b"f"), entry(b"f/x")))


def test_replacing_directories_by_files_takes_linear_time() -> None:
    """A reader with quadratic time would need minutes."""
    flip = directory(b"d/") + entry(b"d/x") + entry(b"d")
    crowd = b"".join(entry(b"f%d" % i) for i in range(10_000))
    assert len(entries_of(flip + crowd + flip * 3000 + tar())) == 10_001


# -- devices, attributes, limits


def test_a_device_is_a_placeholder_in_the_tree_and_a_device_in_the_table(tmp_path: Path) -> None:
    data = tar(
        entry(b"null", tarformat.CHAR, device=(1, 3), mode=0o666),
        entry(b"disk", tarformat.BLOCK_DEVICE, device=(8, 0), uid=3),
    )
    found = unpack(data, tmp_path / "t")
    assert found["null"][:2] == (stat.S_IFREG, 0o666) and found["disk"][:3] == (stat.S_IFREG, 0o644, 3)
    assert (one(data, b"null").kind, one(data, b"null").rdev) == (Kind.CHAR, os.makedev(1, 3))
    assert (one(data, b"disk").kind, one(data, b"disk").rdev) == (Kind.BLOCK, os.makedev(8, 0))


@pytest.mark.parametrize(
    "member",
    [
        entry(b"f", tarformat.CHAR, device=(0, 0)),
        *[
            directory(b"f/", xattrs=((key, b"y"),))
            for key in (b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"trusted.overlay.metacopy",
                        b"user.overlay.opaque", b"user.overlay.whiteout", b"user.overlay.redirect", b"user.overlay.origin")
        ],
    ],
)  # fmt: skip
def test_entries_that_would_control_overlayfs_are_refused(member: bytes) -> None:
    with pytest.raises(UnsafePath, match=r'^entry "f"'):
        entries_of(tar(member))


def test_setuid_bits_and_capabilities_are_unchanged_in_the_tree(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    data = tar(
        entry(b"su", mode=0o6755, uid=12, gid=13), entry(b"ping", xattrs=((b"security.capability", capability), (b"user.x", b"1"))),
        directory(b"tmp/", mode=0o1777),
    )  # fmt: skip
    found = unpack(data, tmp_path / "t")
    assert found["su"][1:4] == (0o6755, 12, 13)
    assert found["tmp"][1] == 0o1777
    assert found["ping"][6] == {"security.capability": capability, "user.x": b"1"}


def test_attributes_that_the_file_system_refuses_are_only_in_the_table(tmp_path: Path) -> None:
    data = tar(entry(b"f", xattrs=((b"nonsense.x", b"1"), (b"user.big", b"x" * 60_000))))
    assert "nonsense.x" not in unpack(data, tmp_path / "t")["f"][6]  # type: ignore[operator]
    assert dict(one(data, b"f").xattrs)[b"nonsense.x"] == b"1"


def test_the_number_of_entries_is_limited() -> None:
    with applied({"layer-entries": 100}):
        entries_of(tar(*[entry(b"%d" % i) for i in range(100)]))
        with pytest.raises(InvalidImage, match="limit of 100 entries"):
            entries_of(tar(*[entry(b"%d" % i) for i in range(101)]))


def test_parents_without_an_entry_are_limited() -> None:
    """Entries of a few kilobytes, each with thousands of parents of its own, would fill the memory."""
    with applied({"implied-directory-bytes": 4 << 20}), pytest.raises(InvalidImage, match="parents without an entry"):
        entries_of(tar(*[entry(b"%d/" % i + b"a/" * 4000 + b"f") for i in range(100)]))


def test_a_path_longer_than_one_system_call_takes_is_made(tmp_path: Path) -> None:
    deep = b"/".join([b"n" * 200] * 40)
    data = tar(entry(deep + b"/f", data=b"x"), hardlink(deep + b"/g", deep + b"/f"), symlink(deep + b"/l", b"f"))
    entries = entries_of(data)
    (tmp_path / "t").mkdir()
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    trees.make_tree(entries, io.BytesIO(data), fd)
    inside = open_directory(fd, deep)
    assert sorted(os.listdir(inside)) == ["f", "g", "l"]
    assert os.stat("g", dir_fd=inside).st_nlink == 2
    os.close(inside)
    os.close(fd)


def test_a_layer_shorter_than_its_table_is_refused(tmp_path: Path) -> None:
    data = tar(entry(b"f", data=b"x" * 2000))
    (tmp_path / "t").mkdir()
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    with pytest.raises(InvalidImage, match="shorter"):
        trees.make_tree(entries_of(data), io.BytesIO(data[:1000]), fd)
    os.close(fd)


# -- properties

PART = st.sampled_from([b"a", b"b", b"c", b"\xff\n", b"x" * 255, b"-rf", b".wh.a", b".wh..wh..opq", b".", b"..", b""])
ANY = st.builds(
    lambda name, kind, data, link, mode: entry(
        name, kind, data if kind == b"0" and not name.endswith(b"/") else b"", link=link, mode=mode, device=(1, 3)
    ),
    st.lists(PART, min_size=1, max_size=4).map(b"/".join),
    st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"5", b"6"]),
    st.binary(max_size=20),
    st.lists(PART, min_size=1, max_size=3).map(b"/".join),
    st.integers(0, 0o7777),
)


@given(first=st.lists(ANY, max_size=12), second=st.lists(ANY, max_size=12))
@settings(max_examples=500)
def test_any_archive_is_refused_or_gives_a_valid_table_and_tree(
    first: list[bytes], second: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        below = entries_of(tar(*first))
    except StoreError:
        below = []
    try:
        found = entries_of(tar(*second), below)
    except StoreError:
        return
    place = tmp_path_factory.mktemp("any")
    made = unpack(tar(*second), place / "root", below)
    assert set(made) == {"", *(os.fsdecode(e.path) for e in found)}


TREE = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), st.binary(max_size=1500), st.integers(0, 0o7777)),
        st.tuples(st.just("link"), st.binary(min_size=1, max_size=30).filter(lambda t: b"\0" not in t), st.just(0)),
        st.tuples(st.just("fifo"), st.just(b""), st.integers(0, 0o7777)),
    ),
    lambda inner: st.dictionaries(
        st.binary(min_size=1, max_size=255).filter(
            lambda n: not set(n) & {0, 47} and n not in (b".", b"..") and not n.startswith(b".wh.")
        ) | st.sampled_from([b"a", b"b", b"n" * 255]),
        inner,
        max_size=4,
    ),
    max_leaves=10,
)  # fmt: skip


@given(tree=TREE.filter(lambda tree: isinstance(tree, dict)), uid=st.integers(0, 70_000), mtime=st.integers(-5, 2**33))
@PROPERTY
def test_a_tree_equals_the_one_in_the_archive(
    tree: dict[bytes, object], uid: int, mtime: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    members: list[bytes] = []
    expected: dict[str, tuple[object, ...]] = {}

    def put(path: bytes, value: object) -> None:
        shown = os.fsdecode(path)
        if isinstance(value, dict):
            members.append(directory(path + b"/" if path else b"./", uid=uid, mtime=mtime, mode=0o705))
            expected[shown] = (stat.S_IFDIR, 0o705, uid, 0, mtime, None)
            for name, inner in value.items():
                put(path + b"/" + name if path else name, inner)
            return
        assert isinstance(value, tuple)
        kind, held, mode = value
        match kind:
            case "file":
                members.append(entry(path, data=held, uid=uid, mtime=mtime, mode=mode))
                expected[shown] = (stat.S_IFREG, mode, uid, 0, mtime, held)
            case "link":
                members.append(symlink(path, held, uid=uid, mtime=mtime))
                expected[shown] = (stat.S_IFLNK, 0o777, uid, 0, mtime, os.fsdecode(held))
            case _:
                members.append(entry(path, tarformat.FIFO, uid=uid, mtime=mtime, mode=mode))
                expected[shown] = (stat.S_IFIFO, mode, uid, 0, mtime, None)

    put(b"", tree)
    found = unpack(tar(*members), tmp_path_factory.mktemp("tree") / "root")
    assert {path: value[:6] for path, value in found.items()} == expected


def test_a_directory_that_is_not_there_costs_no_descriptor(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        open_directory(fd, b"a/b")
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)
