"""Values of options that are comma-separated KEY=VALUE fields, quoted as in CSV, as docker's buildx reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_LISTS = ("mounts", "name")  # keys whose values can have commas
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_COMPRESSIONS = {kind.value: kind for kind in Compression}


@frozen
class KeyValues:
    """The fields of one value of an option. Every error is a click.UsageError that begins with the option and its text."""

    option: str  # --output
    text: str
    values: Mapping[str, str]

    @staticmethod
    def read(option: str, text: str, fields: Iterable[str]) -> KeyValues:
        """Read fields as csv_fields gives them. Keys are lower case, and each can be given once."""
        values: dict[str, str] = {}
        for field in fields:
            key, equals, value = field.partition("=")
            key = key.strip().lower()
            before = next(reversed(values), "")
            if not equals and before in _LISTS:
                hint = f'"{before}={values[before]},{field}"'
                raise usage_error(option, text, f"a value with commas is quoted together with its key: {hint}")
            if not equals or not key:
                raise usage_error(option, text, f"expected KEY=VALUE, not {field!r}")
            if key in values:
                raise usage_error(option, text, f"{key}= is given twice")
            values[key] = value
        return KeyValues(option, text, values)

    def error(self, message: str) -> click.UsageError:
        """The error to raise."""
        return usage_error(self.option, self.text, message)

    def type_of(self, types: Collection[str]) -> str:
        """The value of type=, which has to be one of `types`."""
        kind = self.values.get("type", "")
        if kind not in types:
            wrong = f"unknown type {kind!r}" if kind else "type= is missing"
            raise self.error(f"{wrong}; it can be {', '.join(types)}")
        return kind

    def refuse_other_keys(self, allowed: Sequence[str], unlisted: Collection[str] = ()) -> None:
        """Raise the error for a key that is not `type` and in neither list. It names those of `allowed`."""
        for key in self.values:
            if key != "type" and key not in allowed and key not in unlisted:
                takes = ", ".join(("type", *allowed))
                raise self.error(f"unknown key {key!r}; type={self.values['type']} takes {takes}")

    def truth(self, key: str, default: bool) -> bool:
        """A value that is true or false."""
        value = self.values.get(key)
        if value is None:
            return default
        if value.lower() not in (*_TRUE, *_FALSE):
            raise self.error(f"{key}={value}: it can be true or false")
        return value.lower() in _TRUE

    def compression(self) -> Compression | None:
        """The value of compression=, or None."""
        name = self.values.get("compression")
        if name is not None and name not in _COMPRESSIONS:
            raise self.error(f"compression={name}: it can be {', '.join(_COMPRESSIONS)}")
        return _COMPRESSIONS[name] if name is not None else None

    def reference(self, name: str) -> Reference:
        """A name of an image, with the tag `latest` if it has neither tag nor digest."""
        try:
            return Reference.parse(name.strip()).with_default_tag()
        except InvalidImage as error:
            raise self.error(f"{error}; {error.hint}" if error.hint else str(error)) from None


def usage_error(option: str, text: str, message: str) -> click.UsageError:
    """An error about one value of an option."""
    return click.UsageError(f"{option} {text}: {message}")
