"""Changing one entry of a JSON document and no other byte.

Other programs own the file too: their keys, their order, their numbers and their spaces stay as they are. The caller has
checked the document with store/formats/bounded_json.py: it is an object, not too deep, without repeated keys.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.values import frozen
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Collection

_SPACE = pattern(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@frozen
class _Member:
    """A member of an object: its name, and where its name and its value stand in the text."""

    name: str
    start: int
    value: int
    end: int


def set_entry(text: str, section: str, key: str, entry: dict[str, str]) -> str:
    """The document with `entry` as the value of `key` in the object `section`; the section is made if it is missing.

    An empty text becomes a document with nothing else in it.
    """
    if not text:
        return json.dumps({section: {key: entry}}, ensure_ascii=False, indent="\t") + "\n"
    start = _skip(text, 0)
    members = _members(text, start)
    found = _find(members, section)
    if found is None:
        return _append(text, start, members, section, {key: entry})
    if text[found.value] != "{":  # null
        return text[: found.value] + _render({key: entry}, text, found.start) + text[found.end :]
    inner = _members(text, found.value)
    old = _find(inner, key)
    if old is not None:
        return text[: old.value] + _render(entry, text, old.start) + text[old.end :]
    return _append(text, found.value, inner, key, entry)


def remove_entries(text: str, section: str, keys: Collection[str]) -> str:
    """The document without these keys of the object `section`. Keys that are not there are ignored."""
    for key in keys:
        found = _find(_members(text, _skip(text, 0)), section)
        if found is None or text[found.value] != "{":
            return text
        inner = _members(text, found.value)
        position = next((index for index, member in enumerate(inner) if member.name == key), None)
        if position is None:
            continue
        if len(inner) == 1:
            text = text[: found.value + 1] + text[found.end - 1 :]
        elif position:  # with the comma before it
            text = text[: inner[position - 1].end] + text[inner[position].end :]
        else:  # with the comma after it
            text = text[: inner[0].start] + text[inner[1].start :]
    return text


def _members(text: str, start: int) -> list[_Member]:
    """The members of the object that begins at `start`."""
    found = []
    position = _skip(text, start + 1)
    while text[position] != "}":
        name, end = _DECODER.raw_decode(text, position)
        value = _skip(text, _skip(text, end) + 1)  # behind the colon
        _, value_end = _DECODER.raw_decode(text, value)
        found.append(_Member(name, position, value, value_end))
        position = _skip(text, value_end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return found


def _append(text: str, start: int, members: list[_Member], name: str, value: object) -> str:
    """Add a member at the end of the object that begins at `start`, spaced as the members before it."""
    if not members:
        return f"{text[: start + 1]}{_member(name, value, text, start)}{text[_skip(text, start + 1) :]}"
    last = members[-1]
    before = text[members[-2].end : last.start] if len(members) > 1 else "," + text[start + 1 : last.start]
    return text[: last.end] + before + _member(name, value, text, last.start) + text[last.end :]


def _member(name: str, value: object, text: str, position: int) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}: {_render(value, text, position)}"


def _render(value: object, text: str, position: int) -> str:
    """A value for a member at `position`: on several lines if the member begins a line, indented deeper than it."""
    indent = text[text.rfind("\n", 0, position) + 1 : position]
    if not indent or indent.strip():
        return json.dumps(value, ensure_ascii=False)
    step = "\t" if "\t" in indent else "  "
    return json.dumps(value, ensure_ascii=False, indent=step).replace("\n", "\n" + indent)


def _find(members: list[_Member], name: str) -> _Member | None:
    return next((member for member in members if member.name == name), None)


def _skip(text: str, position: int) -> int:
    """The position of the next character that is not a space."""
    match = _SPACE.match(text, position)
    assert match is not None  # it matches the empty string too
    return match.end()
