"""COPY: the entries that it plans, compared with a table of the rules, and with a model of the rules on generated trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pybuild.builder.errors import CopyError
from pybuild.builder.files.copy import PlannedEntry, plan_entries
from pybuild.builder.files.copy_layer import changed, links_across, with_digests
from pybuild.store.errors import UnsafePath
from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.view import View
from tests.support.copies import ALONE, FILES, MemoryTree, afterwards, layer_of, planned, request, trees, view_of
from tests.support.copymodel import ANY_TIME, SYMBOLIC, Directory, File, Link, ModelCopy, Refused, flat

if TYPE_CHECKING:
    from pybuild.store.formats.toc import Links

TIME = 1_000
SOURCE = Directory(
    {
        "a.txt": File(b"a", 0o640, (5, 6), TIME),
        "b.txt": File(b"b", 0o4755, (5, 6), TIME),
        "[x]": File(b"x"),
        "dir": Directory(
            {
                "f": File(b"f", 0o600, (7, 8), TIME),
                "sub": Directory({"g": File(b"g"), "up": Link("../f", (7, 8), TIME)}, 0o700, (7, 8), TIME),
            },
            0o750, (7, 8), TIME,
        ),
        "other": Directory({"f": File(b"F"), "h": File(b"h")}, 0o711, (0, 0), TIME + 1),
        "empty": Directory({}, 0o700, (1, 1), TIME),
        "tofile": Link("a.txt"),
        "todir": Link("/dir/sub/.."),
        "out": Link("../../a.txt"),
        "gone": Link("nowhere"),
        "loop": Link("loop"),
    },
    mtime=TIME,
)  # fmt: skip
IMAGE = Directory(
    {
        "etc": Directory({"conf": File(b"old"), "d": Directory({"keep": File()}, 0o711, (9, 9), 5)}, 0o751, (3, 4), 7),
        "file": File(b"old"),
        "link": Link("/etc"),
        "filelink": Link("file"),
        "dangling": Link("lost/found"),
        "loop": Link("loop"),
        "full": Directory({"f": Directory({}, 0o755), "sub": Link("../etc")}, 0o755),
    }
)


def named(items: list[PlannedEntry]) -> list[str]:
    """The paths of a plan: directories with a slash, links with an arrow, hard links with the name of the file."""
    return [
        entry.path.decode()
        + ("/" if entry.kind is Kind.DIRECTORY else "")
        + (f" -> {entry.link.decode()}" if entry.kind is Kind.SYMLINK else "")
        + (f" = {entry.hardlink.decode()}" if entry.hardlink else "")
        for entry, _, _ in items
    ]


def paths(sources: str, dest: str) -> list[str]:
    return named(planned(ModelCopy(tuple(sources.split()), dest), SOURCE, IMAGE))


DIR = ["f", "sub/", "sub/g", "sub/up -> ../f"]


def below(directory: str, names: list[str]) -> list[str]:
    return [f"{directory}/{name}" for name in names]


@pytest.mark.parametrize(
    ("sources", "dest", "expected"),
    [
        pytest.param("a.txt", "/new", ["new"], id="E36 a file to a name"),
        pytest.param("a.txt", "/new/", ["new/", "new/a.txt"], id="E36 a file into a directory that does not exist"),
        pytest.param("a.txt", "/x/y/z", ["x/", "x/y/", "x/y/z"], id="E36 missing parents"),
        pytest.param("a.txt", "/etc", ["etc/a.txt"], id="E36 a file into a directory"),
        pytest.param("a.txt b.txt", "/etc", ["etc/a.txt", "etc/b.txt"], id="E7 files into a directory without a slash"),
        pytest.param("dir", "/new", ["new/", *below("new", DIR)], id="E35 a directory gives its contents"),
        pytest.param("dir/", "/new/", ["new/", *below("new", DIR)], id="E35 slashes do not matter"),
        pytest.param("dir", "/etc", below("etc", DIR), id="E35 into one that exists"),
        pytest.param("dir", "/", DIR, id="E35 into the root"),
        pytest.param("empty", "/new", ["new/"], id="E35 an empty directory"),
        pytest.param("empty", "/etc/", [], id="E35 an empty directory into another"),
        pytest.param("dir other", "/new", ["new/", *below("new", [*DIR[:1], "h", *DIR[1:]])], id="E7 directories merge"),
        pytest.param("other a.txt", "/new", ["new/", "new/a.txt", "new/f", "new/h"], id="a file into a merged directory"),
        pytest.param("a.txt", "/link", ["etc/a.txt"], id="E39 a destination that leads to a directory"),
        pytest.param("a.txt", "/link/x", ["etc/x"], id="E39 a link on the way"),
        pytest.param("dir", "/link", below("etc", DIR), id="E39 a directory through a link"),
        pytest.param("a.txt", "/filelink", ["file"], id="E40 the file that a link names is written"),
        pytest.param("a.txt", "/dangling", ["lost/", "lost/found"], id="E40 what a link to nothing names is made"),
        pytest.param("*.txt", "/new", ["new"], id="E7 matched files onto one name"),
        pytest.param("a.txt b.txt", "/file", ["file"], id="E7 files onto a file"),
        pytest.param("a.txt", "/dangling/", ["lost/", "lost/found/", "lost/found/a.txt"], id="a link to nothing is followed with a slash"),
        pytest.param("a.txt", "/file", ["file"], id="E40 a file is replaced"),
        pytest.param("a.txt", "/full/sub", ["etc/a.txt"], id="E39 a link to a directory at the end"),
        pytest.param("tofile", "/new", ["new"], id="E38 a link named directly is followed"),
        pytest.param("tofile", "/etc/", ["etc/tofile"], id="E38 the copy has the name of the link"),
        pytest.param("todir", "/new", ["new/", *below("new", DIR)], id="E38 a link to a directory"),
        pytest.param("todir/f", "/new", ["new"], id="E38 a link on the way"),
        pytest.param("out", "/new", ["new"], id="E38 a link out of the source is followed inside it"),
        pytest.param("to*e", "/etc/", ["etc/tofile"], id="E38 a link matched by a pattern"),
        pytest.param("../../a.txt", "/new", ["new"], id="no way out of the source"),
        pytest.param("dir/../a.txt", "/new", ["new"], id="dots are taken out as text"),
        pytest.param("/a.txt", "/new", ["new"], id="an absolute source"),
        pytest.param("*.txt", "/etc/", ["etc/a.txt", "etc/b.txt"], id="E41 a star"),
        pytest.param("?.txt", "/etc/", ["etc/a.txt", "etc/b.txt"], id="E41 a question mark"),
        pytest.param("[^b].txt", "/etc/", ["etc/a.txt"], id="E41 a class"),
        pytest.param(r"\[x]", "/etc/", ["etc/[x]"], id="E41 an escape"),
        pytest.param("*/f", "/new/", ["new/", "new/f"], id="E41 a star for a directory"),
        pytest.param("**/g", "/new/", [], id="E41 two stars are one"),
        pytest.param("todir/*b", "/new/", ["new/", *below("new", ["g", "up -> ../f"])], id="a link before a pattern"),
        pytest.param("to*/f", "/new/", [], id="a link is no directory for a pattern"),
        pytest.param("a.txt/*", "/new/", [], id="a file is no directory for a pattern"),
        pytest.param("*.none", "/new/", [], id="E41 no match is not an error"),
        pytest.param("*.none a.txt", "/new/", ["new/", "new/a.txt"], id="E41 a pattern without a match next to one with a match"),
        pytest.param("di*", "/new/", ["new/", *below("new", DIR)], id="E41 a directory matched"),
    ],
)  # fmt: skip
def test_which_path_is_copied_to_which(sources: str, dest: str, expected: list[str]) -> None:
    assert paths(sources, dest) == expected


@pytest.mark.parametrize(
    ("sources", "dest", "message"),
    [
        pytest.param("missing", "/new", '"missing": not found', id="E41 a literal path that is not there"),
        pytest.param("dir/missing", "/new", '"dir/missing": not found', id="one in a directory"),
        pytest.param("a.txt/x", "/new", '"a.txt/x": not found', id="one below a file"),
        pytest.param("gone", "/new", '"gone": not found: it is a symbolic link to "nowhere"', id="a link to nothing"),
        pytest.param("g*", "/new/", '"gone": not found: it is a symbolic link to "nowhere"', id="a link to nothing, matched by a pattern"),
        pytest.param("x*/../missing", "/new", '"missing": not found', id="a pattern that dots take out again"),
        pytest.param("loop", "/new", '"loop": too many levels of symbolic links', id="a loop in the source"),
        pytest.param("loop/x", "/new", '"loop/x": too many levels of symbolic links', id="a loop on the way"),
        pytest.param("loop/*", "/new", '"loop": too many levels of symbolic links', id="a loop before a pattern"),
        pytest.param("missing/*", "/new/", '"missing": not found', id="no directory for a pattern"),
        pytest.param("a.txt", "/loop/x", "/loop/x: too many levels of symbolic links in the image", id="a loop in the image"),
        pytest.param("dir", "/file", 'cannot copy to non-directory: "/file"', id="E40 a directory onto a file"),
        pytest.param("dir", "/filelink", 'cannot copy to non-directory: "/file"', id="E40 a directory onto a link to a file"),
        pytest.param("dir", "/file/x", 'cannot copy to non-directory: "/file"', id="a directory below a file"),
        pytest.param("a.txt", "/file/x", 'cannot copy to non-directory: "/file"', id="a file below a file"),
        pytest.param("a.txt", "/file/", 'cannot copy to non-directory: "/file"', id="a file with a slash behind it"),
        pytest.param("dir", "/full", 'cannot replace the directory "/full/f" with a file', id="E40 a file onto a directory"),
        pytest.param("a.txt dir", "/new", 'cannot copy to non-directory: "/new"', id="a directory onto a file just copied"),
    ],
)  # fmt: skip
def test_sources_that_do_not_fit_the_destination_are_refused(sources: str, dest: str, message: str) -> None:
    with pytest.raises(CopyError) as caught:
        paths(sources, dest)
    assert str(caught.value).startswith(message)


def test_a_file_cannot_be_copied_through_a_nested_link() -> None:
    source = Directory({"sub": Directory({"x": File()})})
    with pytest.raises(CopyError, match='cannot copy to non-directory: "/full/sub"'):
        planned(ModelCopy((".",), "/full"), source, IMAGE)


def test_a_nested_link_is_replaced_by_a_file() -> None:
    assert named(planned(ModelCopy((".",), "/full"), Directory({"sub": File()}), IMAGE)) == ["full/sub"]


def metadata(copy: ModelCopy) -> dict[str, tuple[int, int, int]]:
    """Path -> mode, uid, gid."""
    return {e.path.decode(): (e.mode, e.uid, e.gid) for e, _, _ in planned(copy, SOURCE, IMAGE)}


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        pytest.param(ModelCopy(("b.txt",), "/x/y"), {"x": (0o755, 0, 0), "x/y": (0o4755, 5, 6)}, id="E43 a link is copied as a link"),
        pytest.param(
            ModelCopy(("b.txt",), "/x/y", (1, 2)), {"x": (0o755, 1, 2), "x/y": (0o4755, 1, 2)}, id="E36 --chown, parents too"
        ),
        pytest.param(
            ModelCopy(("b.txt",), "/x/y", None, 0o600), {"x": (0o600, 0, 0), "x/y": (0o600, 5, 6)}, id="E37 --chmod of parents"
        ),
        pytest.param(
            ModelCopy(("dir/sub",), "/new"),
            {"new": (0o755, 0, 0), "new/g": (0o644, 0, 0), "new/up": (0o777, 7, 8)},
            id="E37 a new directory does not have the mode of the source",
        ),
        pytest.param(
            ModelCopy(("dir",), "/new", (1, 2), 0o604),
            {
                "new": (0o604, 1, 2), "new/f": (0o604, 1, 2), "new/sub": (0o604, 1, 2), "new/sub/g": (0o604, 1, 2),
                "new/sub/up": (0o777, 1, 2),
            },
            id="E46 --chmod of a tree, not of links",
        ),
        pytest.param(
            ModelCopy(("dir/sub",), "/etc", (1, 2)), {"etc/g": (0o644, 1, 2), "etc/up": (0o777, 1, 2)}, id="E37 an existing directory is not changed"
        ),
    ],
)  # fmt: skip
def test_modes_and_owners(copy: ModelCopy, expected: dict[str, tuple[int, int, int]]) -> None:
    assert metadata(copy) == expected


def test_a_nested_directory_that_exists_takes_the_source_s_metadata() -> None:
    source = Directory({"d": Directory({}, 0o700, (1, 2), TIME)})
    ((entry, _, _),) = planned(ModelCopy((".",), "/etc"), source, IMAGE)
    assert (entry.path, entry.mode, entry.uid, entry.gid, entry.mtime) == (b"etc/d", 0o700, 1, 2, TIME)


def test_a_new_directory_has_the_time_of_the_source() -> None:
    assert planned(ModelCopy(("dir",), "/new"), SOURCE, IMAGE)[0].entry.mtime == TIME


# Names of one file

SHARED = File(b"s", inode=1)


@pytest.mark.parametrize(
    ("source", "sources", "expected"),
    [
        pytest.param({"a": SHARED, "b": SHARED}, ".", ["d/", "d/a", "d/b = d/a"], id="in one directory"),
        pytest.param({"a": SHARED, "b": SHARED}, "b a", ["d/", "d/a", "d/b = d/a"], id="in another order"),
        pytest.param(
            {"x": Directory({"f": SHARED}), "y": Directory({"f": SHARED})}, ".", ["d/", "d/x/", "d/x/f", "d/y/", "d/y/f = d/x/f"],
            id="in two directories",
        ),
        pytest.param(
            {"z": SHARED, "y": Directory({"f": SHARED})}, ".", ["d/", "d/y/", "d/y/f", "d/z = d/y/f"], id="at two depths"
        ),
        pytest.param(
            {"x": Directory({"f": SHARED, "g": SHARED, "h": SHARED}), "y": Directory({"f": File(b"other")})}, "x y",
            ["d/", "d/f", "d/g", "d/h = d/g"], id="one name is replaced by another file",
        ),
        pytest.param(
            {"x": Directory({"f": SHARED}), "y": Directory({"f": SHARED})}, "x y", ["d/", "d/f"], id="one onto the other"
        ),
        pytest.param({"a": SHARED, "b": SHARED}, "a", ["d/", "d/a"], id="only one name"),
    ],
)  # fmt: skip
def test_hard_links_are_kept(
    source: dict[str, File | Directory], sources: str, expected: list[str]
) -> None:
    copy = ModelCopy(tuple(sources.split()), "/d/")
    assert named(planned(copy, Directory(dict(source)), Directory())) == expected


def test_the_next_name_is_the_file_if_the_image_has_the_first() -> None:
    source = Directory({"a": SHARED, "b": SHARED, "c": SHARED})
    image = Directory({"a": File(b"s")})
    assert named(layer_of(ModelCopy((".",), "/"), source, image)) == ["b", "c = b"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [("", ()), ("a", ((b"a", b"b"),)), ("b", ((b"a", b"b"),)), ("a b", ((b"a", b"b"),)), ("a b c", ((b"a", b"b", b"c"),))],
)
def test_names_that_the_image_has_are_still_names_of_the_file(there: str, expected: Links) -> None:
    names = ["a", "b"] if "c" not in there else ["a", "b", "c"]
    source = Directory({**dict.fromkeys(names, SHARED), "other": File(b"s")})
    tree, below_ = MemoryTree(source), view_of(Directory({name: File(b"s") for name in [*there.split(), "other"]}))
    everything = plan_entries(request(ModelCopy((".",), "/")), tree, below_)
    assert links_across(everything, changed(everything, below_)) == expected


@pytest.mark.parametrize("there", ["a", "b"])
def test_all_names_of_a_file_have_its_digest(there: str) -> None:
    source, image = Directory({"a": SHARED, "b": SHARED}), Directory({there: File(b"s")})
    tree, below_ = MemoryTree(source), view_of(image)
    everything = plan_entries(request(ModelCopy((".",), "/")), tree, below_)
    written = {item.entry.path: item.entry.sha256 for item in with_digests(changed(everything, below_))}
    known = [item._replace(entry=item.entry._replace(sha256=written.get(item.entry.path, b""))) for item in everything]
    assert len({item.entry.sha256 for item in with_digests(known)}) == 1


# The layer


def test_entries_that_the_image_has_are_not_in_the_layer() -> None:
    source = Directory({"etc": Directory({"conf": File(b"old"), "new": File()}, 0o751, (3, 4), 99)})
    copy = ModelCopy((".",), "/")
    assert named(planned(copy, source, IMAGE)) == ["etc/", "etc/conf", "etc/new"]
    assert named(layer_of(copy, source, IMAGE)) == ["etc/", "etc/new"]


def test_parents_of_a_change_keep_their_metadata() -> None:
    (etc, _) = layer_of(ModelCopy(("a.txt",), "/etc/"), SOURCE, IMAGE)
    assert (etc.entry.mode, etc.entry.uid, etc.entry.gid, etc.entry.mtime) == (0o751, 3, 4, 7)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(File(b"old", 0o600), id="mode"),
        pytest.param(File(b"old", owner=(1, 0)), id="owner"),
        pytest.param(File(b"old", mtime=1), id="time"),
        pytest.param(File(b"older"), id="size"),
        pytest.param(File(b"OLD"), id="content"),
        pytest.param(Link("old"), id="kind"),
    ],
)
def test_an_entry_that_differs_in_any_field_is_a_change(other: File | Link) -> None:
    (item,) = layer_of(ModelCopy((".",), "/"), Directory({"file": other}), IMAGE)
    assert item.entry.path == b"file"


def test_content_is_only_read_if_all_other_fields_are_equal() -> None:
    tree, view = MemoryTree(Directory({"file": File(b"longer")})), view_of(IMAGE)
    changed(plan_entries(request(ModelCopy((".",), "/")), tree, view), view)
    assert tree.reads == 0


def test_devices_cannot_be_copied_from_a_context() -> None:
    class Devices(MemoryTree):
        def lookup(self, path: bytes) -> Entry | None:
            return Entry(path, Kind.CHAR, rdev=259) if path else super().lookup(path)

    with pytest.raises(CopyError, match='"null" is a device, which cannot be copied from a context'):
        plan_entries(request(ModelCopy(("null",), "/x")), Devices(Directory({"null": File()})), view_of(IMAGE))


@pytest.mark.parametrize(
    ("sources", "dest"),
    [
        pytest.param(".wh.x", "/", id="a file"),
        pytest.param(".", "/new", id="within a directory"),
        pytest.param("f", "/.wh.x", id="a destination"),
        pytest.param("f", "/.wh.x/y", id="a parent"),
        pytest.param("d", "/.wh..wh..opq", id="a directory"),
    ],
)
def test_names_of_whiteouts_are_refused(sources: str, dest: str) -> None:
    source = Directory({".wh.x": File(), "f": File(), "d": Directory()})
    with pytest.raises(UnsafePath, match="cannot be stored in a layer"):
        planned(ModelCopy((sources,), dest), source, IMAGE)


def test_a_tree_can_be_deeper_than_the_recursion_limit() -> None:
    tree = Directory({"f": File()})
    for _ in range(3000):
        tree = Directory({"d": tree})
    assert len(planned(ModelCopy((".",), "/new"), tree, IMAGE)) == 3002


# The model

SOURCES = [".", "a", "b", "a/b", "c/", "../a", "a/../b", "*", "a/*", "?/b", "[ab]", "c/*/a"]
PIVOTS = ["a/./b", "./a", "*/./*", "a/.", "a/./b/./c", "**/b", "a/**", "**", "*/./**/a"]
OWNERS, MODES = st.none() | st.just((1, 2)), st.none() | st.sampled_from([0o640, *SYMBOLIC])
EXCLUDED = st.lists(st.sampled_from(["a", "*", "a/b", "**/b", "*/c", "!a", "!*/b", "!**/c", "/a"]), max_size=3).map(tuple)
DESTS = st.sampled_from(["/", "/a", "/b/", "/a/b", "/a/b/", "/c/a/b", "/new", "/new/", "/new/x"])


def sources(texts: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(texts), min_size=1, max_size=3).map(tuple)


COPIES = st.builds(ModelCopy, sources([*SOURCES, "[^a]", "[^b]*"]), DESTS, OWNERS, MODES, EXCLUDED)
WITH_PARENTS = st.builds(ModelCopy, sources([*SOURCES, *PIVOTS]), DESTS, OWNERS, MODES, EXCLUDED, st.just(True))


@settings(max_examples=400)
@given(trees(FILES), trees(ALONE), COPIES | WITH_PARENTS)
def test_the_plan_does_what_the_model_does(source: Directory, image: Directory, copy: ModelCopy) -> None:
    try:
        expected = flat(copy.apply(source, image))
    except Refused as refused:
        event(str(refused))
        with pytest.raises(CopyError):
            planned(copy, source, image)
        return
    event("copied")
    found = afterwards(planned(copy, source, image), source, image)
    assert without_time_of_parents(found, expected) == expected


def without_time_of_parents(
    found: dict[str, tuple[object, ...]], expected: dict[str, tuple[object, ...]]
) -> dict[str, tuple[object, ...]]:
    """The entries, without the times of created parents, which the model does not define."""
    made = {path for path, row in expected.items() if row[0] == "directory" and row[3] == ANY_TIME}
    return {path: (*row[:3], ANY_TIME) if path in made else row for path, row in found.items()}


@settings(max_examples=200)
@given(trees(FILES), trees(ALONE), COPIES | WITH_PARENTS)
def test_the_layer_has_the_same_effect_as_the_whole_plan(source: Directory, image: Directory, copy: ModelCopy) -> None:
    try:
        whole = planned(copy, source, image)
    except CopyError:
        return
    layer = layer_of(copy, source, image)
    before = {entry.path: entry for entry in view_of(image).walk(b"")}
    expected = before | {item.entry.path: item.entry for item in whole}
    merged = View([Toc.of(item.entry for item in layer), *view_of(image).layers])
    assert [comparable(row) for row in merged.walk(b"")] == [
        comparable(expected[path]) for path in sorted(expected, key=sort_key) if path
    ]


def comparable(entry: Entry) -> Entry:
    """An entry without the time of a directory, which does not count as a change, and without hard links across layers."""
    return entry._replace(hardlink=b"", mtime=0 if entry.kind is Kind.DIRECTORY else entry.mtime)
