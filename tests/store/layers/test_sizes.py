"""Listings of changes with their bytes: sums by directory, the order by size, and what is waste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.difference import Change, Difference, differences
from pybuild.store.layers.sizes import (
    by_directory,
    largest_growth,
    largest_in_layer,
    listed,
    listed_in_layer,
    shortened,
)
from pybuild.store.layers.view import View
from pybuild.store.layers.waste import hidden_files, layer_changes, repeated_files

if TYPE_CHECKING:
    from collections.abc import Callable


def file(path: str, size: int = 1, *, of: str = "", content: str = "x") -> Entry:
    return Entry(path.encode(), Kind.FILE, size=size, hardlink=of.encode(), sha256=content.encode().ljust(32))


def directory(path: str, *, opaque: bool = False) -> Entry:
    return Entry(path.encode(), Kind.DIRECTORY, 0o755, opaque=opaque)


def gone(path: str) -> Entry:
    return Entry(path.encode(), Kind.WHITEOUT)


def tables(*layers: list[Entry]) -> list[Toc]:
    return [Toc.of(sorted(layer, key=lambda entry: sort_key(entry.path))) for layer in layers]


D = directory("d")
A_AND_B = [D, file("d/a", 10), file("d/b", 20)]
LINKS = [file("a", 10), file("b", 10, of="a"), file("c", 10, of="a")]


@pytest.mark.parametrize(
    ("layers", "hidden"),
    [
        pytest.param([A_AND_B], [], id="one layer hides nothing"),
        pytest.param([A_AND_B, [D, file("d/a", 1)]], [("d/a", 10, 0, 1, "d/a", False)], id="overwritten"),
        pytest.param([A_AND_B, [D, gone("d/a")]], [("d/a", 10, 0, 1, "d/a", True)], id="deleted"),
        pytest.param(
            [A_AND_B, [gone("d")]], [("d/a", 10, 0, 1, "d", True), ("d/b", 20, 0, 1, "d", True)],
            id="deleted with its directory",
        ),
        pytest.param(
            [A_AND_B, [file("d", 5)]], [("d/a", 10, 0, 1, "d", True), ("d/b", 20, 0, 1, "d", True)],
            id="a file in place of the directory",
        ),
        pytest.param(
            [A_AND_B, [directory("d", opaque=True), file("d/b", 2)]],
            [("d/a", 10, 0, 1, "d/a", True), ("d/b", 20, 0, 1, "d/b", False)],
            id="a directory that was made again",
        ),
        pytest.param(
            [[D, directory("d/e"), directory("d/e/f"), file("d/e/f/a", 9)], [directory("d", opaque=True)]],
            [("d/e/f/a", 9, 0, 1, "d/e", True)],
            id="the topmost directory that is gone is the cause",
        ),
        pytest.param(
            [[file("a", 1)], [file("a", 2)], [gone("a")]],
            [("a", 1, 0, 1, "a", False), ("a", 2, 1, 2, "a", True)],
            id="each layer's bytes count once",
        ),
        pytest.param([[file("a", 1)], [gone("a")], [gone("a")]], [("a", 1, 0, 1, "a", True)], id="deleted twice"),
        pytest.param([LINKS, [gone("a")]], [("a", 0, 0, 1, "a", True)], id="a file with other names is not hidden"),
        pytest.param(
            [LINKS, [gone("a"), gone("b")], [file("c", 1)]],
            [("a", 0, 0, 1, "a", True), ("b", 0, 0, 1, "b", True), ("c", 10, 0, 2, "c", False)],
            id="the last name takes its bytes with it",
        ),
        pytest.param([A_AND_B, [D]], [], id="a directory as a parent"),
        pytest.param([[D], [gone("d"), gone("no")]], [], id="what has no bytes"),
    ],
)  # fmt: skip
def test_what_a_later_layer_hides(layers: list[list[Entry]], hidden: list[tuple[object, ...]]) -> None:
    found = hidden_files(tables(*layers))
    assert [(each.path.decode(), *each[1:4], each.cause.decode(), each.deleted) for each in found] == hidden


def test_the_bytes_of_all_layers_are_visible_or_hidden() -> None:
    layers = tables(A_AND_B + LINKS, [D, file("d/a", 7), gone("b")], [directory("d", opaque=True), file("d/c", 3)])
    changes = list(layer_changes(layers))
    visible = sum(line.size for line in listed(differences(View([]), View(layers[::-1]))))
    assert [layer.content for layer in changes] == [40, 7, 3]
    assert [layer.hidden for layer in changes] == [30, 7, 0]
    assert visible == 50 - 37
    assert sum(line.hides for layer in changes for line in layer.lines) == 37
    assert sum(line.growth for layer in changes for line in layer.lines) == visible


def test_files_with_the_content_of_an_earlier_one() -> None:
    layers = tables(
        [D, file("a", 5, content="5"), file("d/b", 5, content="5"), file("l", 5, of="a", content="5")],
        [file("empty", 0), file("e", 0), file("other", 5, content="6"), file("m", 5, content="5")],
    )
    found = [(each.path, each.size, each.same_as) for each in repeated_files(View(layers[::-1]))]
    assert found == [(b"d/b", 5, b"a"), (b"m", 5, b"a")]


def change(path: str, before: int | None, after: int | None) -> Difference:
    sides = [None if size is None else file(path, size) for size in (before, after)]
    return Difference(path.encode(), sides[0], sides[1])


CHANGES = [
    change("a/b/c", None, 1),
    change("a/b/d", None, 2),
    change("a/e", 5, None),
    change("a.x", 4, 9),
    change("f", None, 16),
]


@pytest.mark.parametrize(
    ("depth", "lines"),
    [
        (0, [("/", "C", 28, 19, 5)]),
        (1, [("a/", "C", 3, -2, 3), ("a.x", "C", 9, 5, 1), ("f", "A", 16, 16, 1)]),
        (2, [("a/b/", "A", 3, 3, 2), ("a/e", "D", 0, -5, 1), ("a.x", "C", 9, 5, 1), ("f", "A", 16, 16, 1)]),
        (3, [("a/b/c", "A", 1, 1, 1), ("a/b/d", "A", 2, 2, 1), ("a/e", "D", 0, -5, 1), ("a.x", "C", 9, 5, 1),
             ("f", "A", 16, 16, 1)]),
    ],
)  # fmt: skip
def test_sums_by_directory(depth: int, lines: list[tuple[object, ...]]) -> None:
    found = by_directory(listed(CHANGES), depth)
    assert [(line.path.decode(), line.change.value, line.size, line.growth, line.paths) for line in found] == lines


def test_a_directory_is_part_of_its_sum() -> None:
    lines = listed([Difference(b"d", None, D), change("d/a", None, 3), change("d/b", None, 4)])
    (sum_,) = by_directory(lines, 1)
    assert (sum_.path, sum_.size, sum_.paths, sum_.difference) == (b"d/", 7, 3, None)
    (alone,) = by_directory(lines[:1], 1)
    assert (alone.path, alone.difference) == (b"d", lines[0].difference)


@given(st.lists(st.tuples(st.lists(st.sampled_from("ab."), min_size=1, max_size=4), st.integers(0, 9))), st.integers(0, 5))
def test_sums_keep_all_bytes(files: list[tuple[list[str], int]], depth: int) -> None:
    changes = [change("/".join(parts), None, size) for parts, size in files]
    found = by_directory(listed(changes), depth)
    assert sum(line.size for line in found) == sum(size for _, size in files)
    assert sum(line.paths for line in found) == len(files)
    assert len({line.path.rstrip(b"/") for line in found}) == len(found)


@pytest.mark.parametrize(
    ("path", "depth", "short"),
    [(b"", 0, b""), (b"a", 0, b"/"), (b"a", 1, b"a"), (b"a/b", 1, b"a/"), (b"a/b/c", 2, b"a/b/"), (b"a/b", 9, b"a/b")],
)
def test_a_path_of_some_depth(path: bytes, depth: int, short: bytes) -> None:
    assert shortened(path, depth) == short


def test_the_largest_come_first_and_equal_ones_by_path() -> None:
    lines = listed_in_layer([*CHANGES, change("b", None, 16)], {b"a/e": 5, b"a.x": 20})
    assert [line.path for line in sorted(lines, key=largest_in_layer)] == [
        b"a.x", b"b", b"f", b"a/e", b"a/b/d", b"a/b/c",
    ]  # fmt: skip
    assert [line.path for line in sorted(listed(CHANGES), key=largest_growth)] == [
        b"f", b"a/e", b"a.x", b"a/b/d", b"a/b/c",
    ]  # fmt: skip


def test_the_other_names_of_a_file_have_no_bytes() -> None:
    changes = [Difference(entry.path, None, entry) for entry in LINKS]
    assert [(line.size, line.change) for line in listed(changes)] == [(10, Change.ADDED), (0, Change.ADDED), (0, Change.ADDED)]


@pytest.mark.parametrize("removed", [gone("d"), directory("d", opaque=True)], ids=["removed", "made again"])
def test_the_work_grows_with_the_number_of_entries_also_in_deep_directories(
    removed: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["/".join(["d"] * depth) for depth in range(1, 201)]
    below = [directory(path) for path in paths] + [file(f"{paths[-1]}/f{number:03}") for number in range(200)]
    again = [directory(path, opaque=True) for path in paths] if removed.opaque else [removed]
    layers = tables(below, again)
    done = 0

    def counted(function: Callable[[Any, bytes], Any]) -> Callable[[Any, bytes], Any]:
        def call(of: Any, path: bytes) -> Any:
            nonlocal done
            done += 1
            return function(of, path)

        return call

    monkeypatch.setattr(View, "readdir", counted(View.readdir))
    monkeypatch.setattr(Toc, "find", counted(Toc.find))
    assert sum(layer.hidden for layer in layer_changes(layers)) == 200
    assert done < 20 * (len(below) + len(again))
