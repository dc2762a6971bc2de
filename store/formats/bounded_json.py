"""Reading untrusted JSON within limits, and writing JSON that is always the same for the same value.

Python's reader accepts NaN, silently keeps the last of several equal keys, recurses once for each nesting level and is
quadratic in the digits of a number. Attackers have used each of these. Here each of them is an
InvalidImage error that names the document.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeAlias

from pybuild.store.errors import InvalidImage
from pybuild.values.limits import JSON_ITEMS
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.values.limits import Limit

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64
MAX_DIGITS = 20
# A string is matched whole, so brackets inside it do not count. An unterminated string is matched to the end of the
# document: trying again at each of its quotes would take quadratic time.
_STRUCTURE = pattern(rb'"(?:[^"\\]|\\.)*+"?+|[\[{]|[\]}]|[,:]', re.DOTALL)


def load_object(data: bytes, name: str, *, limit: Limit) -> dict[str, Json]:
    """Read a JSON object of at most `limit`; `name` is the document in errors. Raises InvalidImage."""
    value = _load(data, name, limit)
    if not isinstance(value, dict):
        raise InvalidImage(f"{name} is not a JSON object")
    return value


def load_list(data: bytes, name: str, *, limit: Limit) -> list[Fields]:
    """Read a JSON list of objects of at most `limit`. Raises InvalidImage."""
    value = _load(data, name, limit)
    if not isinstance(value, list):
        raise InvalidImage(f"{name} is not a JSON list")
    found = []
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise InvalidImage(f"{name}[{index}]: expected an object")
        found.append(Fields(item, f"{name}[{index}]"))
    return found


def _load(data: bytes, name: str, limit: Limit) -> Json:
    if len(data) > limit.value:
        raise limit.exceeded(InvalidImage, f"{name} of {len(data)} bytes exceeds the limit of {{}}")
    _check_structure(data, name)
    try:
        value: Json = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _object(pairs, name),
            parse_constant=lambda text: _refuse(f"{name}: {text} is not a number"),
            parse_int=lambda text: _integer(text, name),
            parse_float=lambda text: _float(text, name),
        )
    except UnicodeDecodeError:
        raise InvalidImage(f"{name} is not UTF-8") from None
    except ValueError as error:
        raise InvalidImage(f"{name} is not JSON: {error}") from None
    if b"\\u" in data:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidImage(f"{name}: half of a surrogate pair is not text") from None
    return value


def dump(value: object) -> bytes:
    """Compact JSON with the mapping's own order, so the same value always has the same digest."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def _check_structure(data: bytes, name: str) -> None:
    depth = items = 0
    most = JSON_ITEMS.value
    for match in _STRUCTURE.finditer(data):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidImage(f"{name} is nested deeper than the limit of {MAX_DEPTH}")
        elif token in b"]}":
            depth -= 1
        elif token == b",":
            items += 1
            if items >= most:
                raise JSON_ITEMS.exceeded(InvalidImage, f"{name} has more than the limit of {{}} items")


def _object(pairs: list[tuple[str, Json]], name: str) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidImage(f"{name}: key {repeated[:80]!r} appears twice")
    return found


def _refuse(message: str) -> float:
    raise InvalidImage(message)


def _integer(text: str, name: str) -> int:
    if len(text) > MAX_DIGITS:
        raise InvalidImage(f"{name}: a number has {len(text)} digits, the limit is {MAX_DIGITS}")
    return int(text)


def _float(text: str, name: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidImage(f"{name}: {text[:40]} is out of range")
    return value


class Fields:
    """Typed access to a JSON object. Its methods raise InvalidImage, which names the field by its path."""

    def __init__(self, data: dict[str, Json], where: str) -> None:
        self.data = data
        self.where = where

    def others(self, known: frozenset[str]) -> dict[str, Json]:
        """The members whose names are not in `known`."""
        return {key: value for key, value in self.data.items() if key not in known}

    def text(self, name: str, default: str | None = None) -> str:
        """A string. It is required unless there is a default; null counts as missing."""
        value = self.data.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        if "\0" in value:
            raise self.wrong(name, "a string without NUL")
        return value

    def optional_text(self, name: str) -> str | None:
        """A string or None."""
        return None if self.data.get(name) is None else self.text(name)

    def integer(self, name: str, highest: int) -> int:
        """A whole number from 0 to `highest`."""
        value = self.data.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
            raise self.wrong(name, f"an integer from 0 to {highest}")
        return value

    def flag(self, name: str) -> bool:
        """A boolean; false if missing."""
        value = self.data.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return bool(value)

    def objects(self, name: str) -> list[Fields]:
        """A list of objects; empty if missing."""
        return [
            Fields(self._checked_object(name, index, value), f"{self.where}.{name}[{index}]")
            for index, value in enumerate(self._list(name))
        ]

    def object(self, name: str) -> Fields:
        """An object; empty if missing."""
        value = self.data.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, f"{self.where}.{name}")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty if missing."""
        values = self._list(name)
        for value in values:
            if not isinstance(value, str) or "\0" in value:
                raise self.wrong(name, "a list of strings")
        return tuple(str(value) for value in values)

    def mapping(self, name: str) -> dict[str, str]:
        """An object whose values are strings; empty if missing."""
        found = self.object(name)
        return {key: found.text(key) for key in found.data}

    def wrong(self, name: str, expected: str) -> InvalidImage:
        """The error for a field that is not `expected`."""
        return InvalidImage(f"{self.where}.{name}: expected {expected}")

    def _list(self, name: str) -> list[Json]:
        value = self.data.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value

    def _checked_object(self, name: str, index: int, value: Json) -> dict[str, Json]:
        if not isinstance(value, dict):
            raise self.wrong(f"{name}[{index}]", "an object")
        return value
