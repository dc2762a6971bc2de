"""The data of a page, read back here as its script reads it in a browser."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.pages.columns import Columns
from pybuild.pages.file_rows import put_files
from pybuild.pages.texts import shown_json, shown_name, shown_text
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.overlaid import overlaid
from pybuild.store.layers.view import View
from pybuild.store.layers.waste import hidden_files, repeated_files
from tests.support.imagined import a_file, removed, with_parents


def unpacked(packed: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    data = zlib.decompress(base64.b64decode(packed), -zlib.MAX_WBITS)
    length = int.from_bytes(data[:4], "little")
    head, at = json.loads(data[4 : 4 + length]), 4 + length
    columns: dict[str, list[Any]] = {}
    for name, (kind, size, *rest) in head["columns"].items():
        if kind == "texts":
            columns[name] = data[at : at + size].decode().split("\0")
            at += size
        else:
            width, smallest = rest
            planes = [data[at + plane * size : at + (plane + 1) * size] for plane in range(width)]
            columns[name] = [smallest + int.from_bytes(bytes(each), "little") for each in zip(*planes, strict=True)] or (
                [smallest] * size
            )
            at += size * width
    assert at == len(data)
    return head, columns


@given(st.lists(st.integers(-(2**46), 2**46)), st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_columns_come_back(numbers: list[int], texts: list[str]) -> None:
    columns = Columns()
    columns.numbers("n", numbers)
    columns.texts("t", texts)
    assert unpacked(columns.packed({"a": 1}))[1] == {"n": numbers, "t": texts}


def test_a_number_that_no_file_has_is_cut() -> None:
    columns = Columns()
    columns.numbers("n", [0, 2**63])
    assert unpacked(columns.packed({}))[1]["n"] == [0, 2**48 - 1]


def test_nodes_and_rows() -> None:
    columns = Columns()
    tables = [
        Toc.of(with_parents([a_file("a/b/c", 5), a_file("a.x", 7, uid=3)])),
        Toc.of(with_parents([removed("a/b"), Entry(b"l", Kind.SYMLINK, 0o777, link=b"a\xff"), a_file("a.x", 8)])),
    ]
    put_files(columns, overlaid(tables), 2)
    _, found = unpacked(columns.packed({}))
    assert found["names"] == ["a", "b", "c", "a.x", "l"]
    assert found["depth"] == [1, 2, 3, 1, 1]
    assert found["rows"] == [1, 2, 1, 2, 1]
    assert found["layer"] == [0, 0, 1, 0, 0, 1, 1]
    assert found["change"] == [0, 0, 2, 0, 0, 1, 0]
    assert found["hidden"] == [0, 2, 0, 2, 2, 0, 0]
    assert found["size"] == [0, 0, 0, 5, 7, 8, 0]
    assert found["links"][found["link"][-1]] == "a\\xff"
    assert found["uid"][found["attribute"][4]] == 3


def test_sums_are_those_of_the_other_commands() -> None:
    layers = [
        [a_file("a", 5), a_file("b", 5, of="a"), a_file("d/x", 9, "same"), a_file("e", 9, "same")],
        [removed("b"), removed("d"), a_file("f", 9, "same")],
        [removed("a"), a_file("g", 3)],
    ]
    tables = [Toc.of(with_parents(layer)) for layer in layers]
    sums = put_files(Columns(), overlaid(tables), len(tables))
    assert sum(sums.hidden) == sum(found.size for found in hidden_files(tables)) == 14
    assert sums.content == [23, 9, 3]
    assert sums.repeated == sum(found.size for found in repeated_files(View(tables[::-1]))) == 9
    assert sums.visible == [(b"e", 9), (b"f", 9), (b"g", 3)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"plain", "plain"), ("é".encode(), "é"), (b"\xff\n", "\\xff\\x0a"), ("\u202ex".encode(), "\\x202ex"), (b"</script>", "</script>")],
)
def test_a_name_shows_all_of_its_characters(name: bytes, shown: str) -> None:
    assert shown_name(name) == shown


def test_texts_keep_their_lines() -> None:
    assert shown_text("a\n\tb\x1b[0m") == "a\n    b\\x1b[0m"
    assert shown_json({"a\0": ["\r", 1, None, ("x",)]}) == {"a\\x00": ["\\x0d", 1, None, ["x"]]}
