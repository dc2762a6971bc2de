"""The differences between root filesystems, by tables of contents only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.difference import Change, differences, layer_differences
from pybuild.store.layers.view import View

FILE = Entry(b"f", Kind.FILE, 0o644, size=1, sha256=b"1" * 32, mtime=1)
DIRECTORY = Entry(b"d", Kind.DIRECTORY, 0o755)


def view(*layers: list[Entry]) -> View:
    """A view of layers, the topmost last."""
    return View([Toc.of(layer) for layer in layers][::-1])


def changed_paths(before: View, after: View) -> list[tuple[str, bytes]]:
    return [(found.change.value, found.path) for found in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        pytest.param([], [FILE], [("A", b"f")], id="added"),
        pytest.param([FILE], [], [("D", b"f")], id="deleted"),
        pytest.param([FILE], [FILE._replace(mtime=9)], [], id="another time"),
        pytest.param([FILE], [FILE._replace(mode=0o600)], [("C", b"f")], id="another mode"),
        pytest.param([FILE], [FILE._replace(uid=1)], [("C", b"f")], id="another owner"),
        pytest.param([FILE], [FILE._replace(sha256=b"2" * 32)], [("C", b"f")], id="other content of the same size"),
        pytest.param([FILE], [Entry(b"f", Kind.SYMLINK, 0o777, link=b"x")], [("C", b"f")], id="another type"),
        pytest.param([], [Entry(b"", Kind.DIRECTORY, 0o700)], [("C", b"")], id="the root's own mode"),
        pytest.param(
            [DIRECTORY, FILE._replace(path=b"d/f"), FILE._replace(path=b"d.x")], [FILE._replace(path=b"d.x")],
            [("D", b"d"), ("D", b"d/f")], id="a directory goes with what it held",
        ),
        pytest.param(
            [FILE, FILE._replace(path=b"g", hardlink=b"f")], [FILE, FILE._replace(path=b"g")], [],
            id="a hard link that became a file of its own",
        ),
    ],
)  # fmt: skip
def test_a_difference(before: list[Entry], after: list[Entry], changes: list[tuple[str, bytes]]) -> None:
    assert changed_paths(view(before), view(after)) == changes


def test_the_number_of_layers_does_not_matter() -> None:
    one = view([DIRECTORY, FILE._replace(path=b"d/f")])
    gone = Entry(b"d/g", Kind.WHITEOUT)
    several = view([DIRECTORY, FILE._replace(path=b"d/g")], [DIRECTORY, FILE._replace(path=b"d/f"), gone])
    assert changed_paths(one, several) == []


def test_a_removed_directory_is_one_difference_and_unchanged_parents_are_none() -> None:
    below = view([DIRECTORY, FILE._replace(path=b"d/f"), Entry(b"e", Kind.DIRECTORY, 0o755), FILE._replace(path=b"e/f")])
    layer = [DIRECTORY, FILE._replace(path=b"d/f", size=2), Entry(b"e", Kind.WHITEOUT), Entry(b"no", Kind.WHITEOUT)]
    found = [(item.change, item.path) for item in layer_differences(below, layer)]
    assert found == [(Change.CHANGED, b"d/f"), (Change.DELETED, b"e")]


@st.composite
def trees(draw: st.DrawFn) -> dict[bytes, Entry]:
    """A few files in a few directories, by path."""
    found: dict[bytes, Entry] = {}
    for path in draw(st.sets(st.sampled_from([b"a", b"a/b", b"a/b/c", b"a.b", b"b/a", b"b", b"c"]))):
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            found[parent] = Entry(parent, Kind.DIRECTORY, 0o755)
        if path not in found:
            found[path] = FILE._replace(path=path, size=draw(st.integers(1, 2)))
    return found


@given(trees(), trees())
def test_differences_are_the_paths_with_different_entries(before: dict[bytes, Entry], after: dict[bytes, Entry]) -> None:
    def layer(tree: dict[bytes, Entry]) -> list[Entry]:
        return [tree[path] for path in sorted(tree, key=sort_key)]

    expected = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    found = [difference.path for difference in differences(view(layer(before)), view(layer(after)))]
    assert found == sorted(expected, key=sort_key)


def test_a_directory_that_was_made_again_lacks_what_it_held() -> None:
    below = view(
        [
            DIRECTORY, FILE._replace(path=b"d/a"), DIRECTORY._replace(path=b"d/e"), FILE._replace(path=b"d/e/f"),
            DIRECTORY._replace(path=b"d/k"), FILE._replace(path=b"d/k/x"), FILE._replace(path=b"d/k/y"),
        ]
    )  # fmt: skip
    layer = [
        DIRECTORY._replace(opaque=True), FILE._replace(path=b"d/b"), DIRECTORY._replace(path=b"d/k"),
        FILE._replace(path=b"d/k/y", size=2), FILE._replace(path=b"z"),
    ]  # fmt: skip
    found = [(item.change.value, item.path) for item in layer_differences(below, layer)]
    assert found == [("D", b"d/a"), ("A", b"d/b"), ("D", b"d/e"), ("D", b"d/k/x"), ("C", b"d/k/y"), ("A", b"z")]
