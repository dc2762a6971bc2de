"""One pass over all layers finds what the views of each layer find."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.difference import compared, layer_differences
from pybuild.store.layers.overlaid import VISIBLE, overlaid
from pybuild.store.layers.view import View
from pybuild.store.layers.waste import hidden_files
from tests.support.layer_stacks import LAYER, members, table


@given(st.lists(LAYER, min_size=1, max_size=5))
@settings(max_examples=100)
def test_a_pass_finds_what_views_find(layers: list[list[tuple[str, bytes]]]) -> None:
    tables: list[Toc] = []
    for layer in layers:
        tables.append(table(members(layer), tables[::-1]))
    found = {each.path: each.versions for each in overlaid(tables)}

    changes = {(v.layer, path, v.change.value) for path, versions in found.items() for v in versions}
    expected = {
        (number, each.path, each.change.value)
        for number, toc in enumerate(tables)
        for each in layer_differences(View(tables[:number][::-1]), toc)
        if each.path
    }
    assert {each for each in changes if each[1]} == expected

    files = {
        (path, v.layer, v.hidden_by)
        for path, versions in found.items()
        for v in versions
        if v.hidden_by != VISIBLE and v.entry is not None and v.entry.kind is Kind.FILE
    }
    assert files == {(each.path, each.layer, each.hidden_by) for each in hidden_files(tables)}

    visible = {
        path: compared(v.entry)  # a later layer can have a directory once more, with another time
        for path, versions in found.items()
        for v in versions
        if path and v.entry is not None and v.hidden_by == VISIBLE
    }
    assert visible == {entry.path: compared(entry) for entry in View(tables[::-1]).walk(b"")}


def test_the_root_and_attributes_of_directories_are_changes() -> None:
    private = Entry(b"d", Kind.DIRECTORY, 0o700)
    tables = [
        Toc.of([Entry(b"", Kind.DIRECTORY, 0o755), Entry(b"d", Kind.DIRECTORY, 0o755)]),
        Toc.of([Entry(b"", Kind.DIRECTORY, 0o700), private, private._replace(path=b"d/e")]),
    ]
    found = [(e.path, [(v.layer, v.change.value, v.hidden_by) for v in e.versions]) for e in overlaid(tables)]
    assert found == [
        (b"", [(0, "A", 1), (1, "C", -1)]),
        (b"d", [(0, "A", 1), (1, "C", -1)]),
        (b"d/e", [(1, "A", -1)]),
    ]
