"""Untrusted JSON: everything outside of the limits is refused with an error that names the document."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.bounded_json import MAX_DEPTH, dump, load_object
from pybuild.values.limits import JSON_ITEMS
from tests.support.limits import at_most

PROPERTY = settings(max_examples=300)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b'{"a":1', "not JSON"),
        (b'{"a":1}x', "not JSON"),
        (b'{"a":1,"a":1}', "appears twice"),
        (b'{"b":{"a":1,"a":2}}', "appears twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", "digits"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "JSON"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udc80":1}', "surrogate"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper"),
        (b'{"a":[' + b"1," * JSON_ITEMS.default + b"1]}", "more than the limit of 100000 items"),
        (b'{"a":"' + b"x" * 2_000_000 + b'"}', "exceeds the limit"),
        (b'{"a":"' + b'\\"' * 400_000, "not JSON"),
    ],
)
def test_json_beyond_the_limits_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as caught:
        load_object(data, "thing", limit=at_most(1 << 20))
    assert str(caught.value).startswith("thing")


def test_brackets_and_commas_in_strings_do_not_count() -> None:
    text = '[{,\\"' * 50_000
    assert load_object(dump({"a": text}), "thing", limit=at_most(1 << 20)) == {"a": text}


def test_json_at_the_limits_is_read() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert load_object(dump({"a": deep}), "thing", limit=at_most(1 << 20)) == {"a": deep}
    assert load_object(b'{"a":"\\ud83d\\ude00"}', "thing", limit=at_most(100)) == {"a": "😀"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _JSON, max_size=5))
@PROPERTY
def test_what_is_written_reads_back(value: dict[str, object]) -> None:
    assert load_object(dump(value), "thing", limit=at_most(1 << 20)) == value


@given(st.binary(max_size=200))
@PROPERTY
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidImage):
        load_object(b'{"a":' + data + b"}", "thing", limit=at_most(1 << 20))
