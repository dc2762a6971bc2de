"""The merged root filesystem of several layers, compared with plain dictionaries."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import ROOT, LinkLoop, View
from tests.support.layer_stacks import LAYER, members, table
from tests.support.tars import directory, entry, symlink, tar

if TYPE_CHECKING:
    pass

# -- the merge, compared with a simple model: unpacking one layer after the other into a dictionary

def applied(tree: dict[bytes, str], said: dict[bytes, str]) -> dict[bytes, str]:
    tree = dict(tree)

    def drop(path: bytes, itself: bool) -> None:
        for known in [k for k in tree if k.startswith(path + b"/") or (itself and k == path)]:
            del tree[known]

    for path in sorted(said, key=sort_key):
        match said[path]:
            case "remove":
                drop(path, True)
            case "opaque":
                drop(path, True)
                tree[path] = "directory"
            case "file":
                drop(path, True)
                tree[path] = "file"
            case _:
                if tree.get(path) == "file":
                    drop(path, True)
                tree[path] = "directory"
    return tree


@given(st.lists(LAYER, min_size=1, max_size=4))
@settings(max_examples=500)
def test_a_view_equals_the_result_of_unpacking_the_layers_in_order(layers: list[list[tuple[str, bytes]]]) -> None:
    tree: dict[bytes, str] = {}
    tocs: list[Toc] = []
    for layer in layers:
        said = members(layer)
        tree = applied(tree, said)
        tocs.insert(0, table(said, tocs))
    view = View(tocs)
    walked = list(view.walk(b""))
    assert {e.path: e.kind for e in walked} == {
        path: Kind.FILE if kind == "file" else Kind.DIRECTORY for path, kind in tree.items()
    }
    for found in walked:
        assert view.lookup(found.path) == found
    for path in {e.path for toc in tocs for e in toc} - set(tree):
        if path:
            assert view.lookup(path) is None
            assert view.readdir(path) == []


    grown = View([])  # the same, each view on top of the one below
    for toc in reversed(tocs):
        grown = grown.on_top(toc)
    assert grown.layers == view.layers
    assert list(grown.walk(b"")) == walked
    for path in [b"", *({e.path for toc in tocs for e in toc})]:
        assert grown.locate(path) == view.locate(path)
        assert grown.locate(path + b"/x") is None
        assert grown.readdir(path) == view.readdir(path)


def test_a_view_on_top_asks_the_new_layer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [Toc.of(read_layer(io.BytesIO(tar(entry(b"etc/%d" % number))), View([]))) for number in range(5)]
    view = View(layers[:1])
    for layer in layers[1:]:
        view = view.on_top(layer)
        view.lookup(b"etc/passwd")
    view.on_top(Toc.of([])).lookup(b"etc/passwd")
    asked = []
    find = Toc.find

    def counted(self: Toc, path: bytes) -> Entry | None:
        asked.append(self)
        return find(self, path)

    monkeypatch.setattr(Toc, "find", counted)
    new = Toc.of([])
    assert view.on_top(new).lookup(b"etc/passwd") is None
    assert set(map(id, asked)) == {id(new)}


def test_a_stack_can_have_any_height() -> None:
    view = stack(tar(entry(b"a/b/file")))
    for number in range(500):
        view = view.on_top(Toc.of(read_layer(io.BytesIO(tar(entry(b"a/%d" % number))), View([]))))
        if number % 100 == 99:
            assert view.lookup(b"a/b/file") is not None
            assert view.lookup(b"a/none") is None
    assert len(view.readdir(b"a")) == 501


def stack(*layers: bytes) -> View:
    tocs: list[Toc] = []
    for data in layers:
        tocs.insert(0, Toc.of(read_layer(io.BytesIO(data), View(tocs))))
    return View(tocs)


def test_the_root_always_exists() -> None:
    assert View([]).lookup(b"") == ROOT
    assert View([]).locate(b"") is None
    assert View([]).readdir(b"") == []
    assert View([]).lookup(b"a/b/c") is None
    assert stack(tar(directory(b"./", mode=0o700)), tar(entry(b"f"))).lookup(b"") == Entry(b"", Kind.DIRECTORY, 0o700)


def test_an_opaque_root_hides_all_lower_layers() -> None:
    view = stack(tar(entry(b"old"), directory(b"./", mode=0o700)), tar(entry(b".wh..wh..opq"), entry(b"new")))
    assert [e.path for e in view.walk(b"")] == [b"new"]


def test_locate_returns_the_layer_of_an_entry() -> None:
    view = stack(tar(entry(b"d/a"), entry(b"d/b")), tar(entry(b"d/b")))
    for path, layer in ((b"d/a", 1), (b"d/b", 0)):
        found = view.locate(path)
        assert found is not None and found[0] is view.layers[layer]


LINKED = stack(
    tar(
        entry(b"usr/lib/x"), symlink(b"lib", b"usr/lib"), symlink(b"abs", b"/usr"), symlink(b"up", b"../../../usr/../usr"),
        symlink(b"usr/here", b"."), symlink(b"usr/lib/back", b"../../abs/lib"), symlink(b"loop", b"loop"), symlink(b"ping", b"pong"),
        symlink(b"pong", b"./ping"), symlink(b"hole", b"/no/where"), symlink(b"root", b"/"),
        *[symlink(b"c%d" % i, b"c%d" % (i + 1)) for i in range(60)], entry(b"c60"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", b""), (b"/", b""), (b"..", b""), (b"../../..", b""), (b"usr/lib/x", b"usr/lib/x"), (b"/usr//lib/./x", b"usr/lib/x"),
        (b"lib/x", b"usr/lib/x"), (b"lib/..", b"usr"), (b"lib/../..", b""), (b"lib/../../../x", b"x"), (b"abs/lib/x", b"usr/lib/x"),
        (b"up/lib", b"usr/lib"), (b"usr/here/here/lib", b"usr/lib"), (b"lib/back/back/x", b"usr/lib/x"), (b"hole", b"no/where"),
        (b"hole/../x", b"no/x"), (b"nothing/at/all", b"nothing/at/all"), (b"nothing/../usr", b"usr"), (b"root/root/lib", b"usr/lib"),
        (b"c25", b"c60"), (b"c20", b"c60"),
    ],
)  # fmt: skip
def test_links_are_followed_inside_the_root(path: bytes, expected: bytes) -> None:
    assert LINKED.resolve(path) == expected


@pytest.mark.parametrize("path", [b"loop", b"loop/x", b"ping", b"pong/x", b"c0", b"c19", b"usr/../loop"])
def test_loops_and_long_chains_of_links_are_refused(path: bytes) -> None:
    with pytest.raises(LinkLoop):
        LINKED.resolve(path)


def test_the_last_link_can_be_left_unfollowed() -> None:
    assert LINKED.resolve(b"lib", follow_last=False) == b"lib"
    assert LINKED.resolve(b"abs/lib", follow_last=False) == b"usr/lib"
    assert LINKED.resolve(b"loop", follow_last=False) == b"loop"
