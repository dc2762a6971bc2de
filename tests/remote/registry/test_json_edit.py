"""Changing one entry of a JSON document: every other byte stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.remote.registry.json_edit import remove_entries, set_entry

ENTRY = {"auth": "bWU6cHc="}

SET = {
    "no file": ("", '{\n\t"auths": {\n\t\t"a": {\n\t\t\t"auth": "bWU6cHc="\n\t\t}\n\t}\n}\n'),
    "an empty object": ("{}", '{"auths": {"a": {"auth": "bWU6cHc="}}}'),
    "an empty object on two lines": ("{\n}\n", '{"auths": {"a": {"auth": "bWU6cHc="}}}\n'),
    "no section": ('{"x":1.50}', '{"x":1.50,"auths": {"a": {"auth": "bWU6cHc="}}}'),
    "no section, lines": (
        '{\n  "x": 1E2\n}',
        '{\n  "x": 1E2,\n  "auths": {\n    "a": {\n      "auth": "bWU6cHc="\n    }\n  }\n}',
    ),
    "a section that is null": ('{"auths":null,"x":0}', '{"auths":{"a": {"auth": "bWU6cHc="}},"x":0}'),
    "an empty section": ('{"auths": { },"x":0}', '{"auths": {"a": {"auth": "bWU6cHc="}},"x":0}'),
    "another entry": ('{"auths":{"b" :{}}}', '{"auths":{"b" :{},"a": {"auth": "bWU6cHc="}}}'),
    "two other entries": ('{"auths":{"b":{} , "c":{} }}', '{"auths":{"b":{} , "c":{} , "a": {"auth": "bWU6cHc="} }}'),
    "the entry itself": ('{"auths":{"a":{"auth":"old"} , "b":{}}}', '{"auths":{"a":{"auth": "bWU6cHc="} , "b":{}}}'),
    "other keys with these names": (
        '{"x":{"auths":{"a":1}},"auths":{"b":{"a":2}},"\\u0061":"}"}',
        '{"x":{"auths":{"a":1}},"auths":{"b":{"a":2},"a": {"auth": "bWU6cHc="}},"\\u0061":"}"}',
    ),
    "an escaped key": ('{"auths":{"\\u0061":{}}}', '{"auths":{"\\u0061":{"auth": "bWU6cHc="}}}'),
}  # fmt: skip


@pytest.mark.parametrize("case", SET)
def test_an_entry_is_set(case: str) -> None:
    before, after = SET[case]
    assert set_entry(before, "auths", "a", ENTRY) == after
    expected = json.loads(before or "{}")
    expected["auths"] = {**(expected.get("auths") or {}), "a": ENTRY}
    assert json.loads(after) == expected


REMOVE = {
    "no section": ('{"x": 1}', '{"x": 1}'),
    "null": ('{"auths": null}', '{"auths": null}'),
    "not there": ('{"auths": {"b": 1}}', '{"auths": {"b": 1}}'),
    "the only one": ('{"auths": {\n "a": 1\n}, "x": 1.0}', '{"auths": {}, "x": 1.0}'),
    "the first": ('{"auths": {\n "a": {},\n "b": 2\n}}', '{"auths": {\n "b": 2\n}}'),
    "the last": ('{"auths": {\n "b": 2,\n "a": "}"\n}}', '{"auths": {\n "b": 2\n}}'),
    "in between": ('{"auths": {"b":2 , "a":[1,{}] , "c":3}}', '{"auths": {"b":2 , "c":3}}'),
    "two": ('{"auths": {"d": 2, "b":2, "a":1}}', '{"auths": {"b":2}}'),
}


@pytest.mark.parametrize("case", REMOVE)
def test_entries_are_removed(case: str) -> None:
    before, after = REMOVE[case]
    assert remove_entries(before, "auths", ["a", "d", "e"]) == after


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(("x", "y", "auth", "")), JSON, max_size=3),
    st.dictionaries(st.text(max_size=3), JSON, max_size=4),
    st.text(max_size=3),
    st.sampled_from((None, 1, "\t")),
    st.booleans(),
)
def test_only_this_entry_changes(
    others: dict[str, object], auths: dict[str, object], key: str, indent: int | str | None, plain: bool
) -> None:
    document = {**others, "auths": auths, "last": 1}
    text = json.dumps(document, indent=indent, ensure_ascii=plain)
    changed = set_entry(text, "auths", key, ENTRY)
    assert list(json.loads(changed).items()) == list({**document, "auths": {**auths, key: ENTRY}}.items())
    expected = {name: value for name, value in auths.items() if name != key}
    assert json.loads(remove_entries(changed, "auths", [key])) == {**document, "auths": expected}
    if key not in auths and auths:
        assert remove_entries(changed, "auths", [key]) == text
