"""The file of `--rules`: TOML.

max-size = "500m"            # also max-layer-size, as docker writes sizes
max-waste = "20m"            # or a percentage of all files: "5%"
max-layers = 20
deny = ["setuid", "secrets"]
allowed-users = ["app", "1000:1000"]

[allow]                      # what may break a rule: patterns of paths as in an ignore file, but from the root
setuid = ["/usr/bin/su", "/usr/lib/**/ssh-keysign"]
secrets = ["/usr/share/doc", "env:GPG_KEY"]
"""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING, Any, NoReturn

from pybuild.builder.errors import BuildError
from pybuild.builder.gate.rules import DENIABLE, ImageRules, Waste, as_ignore_pattern, is_name
from pybuild.parser import SizeError, parse_size
from pybuild.parser.errors import PatternError
from pybuild.parser.ignorefile import IgnoreFile
from pybuild.parser.suggest import suggest
from pybuild.store.errors import StoreError
from pybuild.store.system.files import read_regular
from pybuild.values.limits import CONFIGURATION_BYTES
from pybuild.values.pattern import pattern
from pybuild.values.source import Source, Span

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEYS = ("max-size", "max-layer-size", "max-waste", "max-layers", "deny", "allowed-users", "allow")
_TABLE = pattern(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = pattern(r"""\s*([\w."'-]+)\s*=""")
_PERCENTAGE = pattern(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")
_PLACE = pattern(r"\s*\(at line (\d+), column (\d+)\)$")


def read_rules(path: str) -> ImageRules:
    """The rules of a file. Raises BuildError with the place in the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for a writer
        try:
            data = read_regular(fd, CONFIGURATION_BYTES, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise BuildError(f"cannot read the rules: {path}: {error.strerror}") from None
    except StoreError as error:
        raise BuildError(f"cannot read the rules: {error}", hint=error.hint) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        shown = Source(path, data.decode("utf-8", "backslashreplace"))
        line = data[: error.start].count(b"\n") + 1
        raise BuildError("the rules are not UTF-8", span=Span(line, 1, line, 2), source=shown) from None
    return parse_rules(text, path)


def parse_rules(text: str, filename: str) -> ImageRules:
    """The rules of the text of a file. Raises BuildError with the place in the file."""
    reader = _RulesReader(Source(filename, text))
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number can have too many digits
        reader.refuse_toml(str(error))
    return reader.rules(document)


class _RulesReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    def rules(self, document: dict[str, Any]) -> ImageRules:
        self._refuse_unknown(document, _KEYS, "")
        deny = self._texts(document, "deny")
        for name in deny:
            if name not in DENIABLE:
                self._refuse("deny", unknown_rule(name))
        return ImageRules(
            max_size=self._size(document, "max-size"),
            max_layer_size=self._size(document, "max-layer-size"),
            max_waste=self._waste(document),
            max_layers=self._number(document, "max-layers"),
            deny=deny,
            allowed_users=self._texts(document, "allowed-users"),
            allow=self._allow(document.get("allow", {})),
        )

    def _allow(self, table: object) -> dict[str, tuple[str, ...]]:
        if not isinstance(table, dict):
            self._refuse("allow", "expected a table: rule = [patterns]")
        names = (*DENIABLE, "max-waste")
        self._refuse_unknown(table, names, "allow.")
        allowed = {name: self._texts(table, name, "allow.") for name in table}
        for name, patterns in allowed.items():
            for one in patterns:
                self._check_pattern(f"allow.{name}", one)
        return allowed

    def _check_pattern(self, key: str, text: str) -> None:
        if is_name(text):
            if key != "allow.secrets":
                self._refuse(key, f"{text!r}: only secrets have names of variables; expected the pattern of a path")
            return
        if not text.startswith(("/", "**/")):
            self._refuse(key, f"{text!r}: expected a pattern that begins with / or **/")
        if not as_ignore_pattern(text):
            self._refuse(key, f"{text!r}: the pattern matches no file; /** stands for all")
        try:
            IgnoreFile.of([as_ignore_pattern(text)])
        except PatternError as error:
            self._refuse(key, f"{text!r}: {error}")

    def _size(self, table: dict[str, Any], key: str) -> int | None:
        if key not in table:
            return None
        value = table[key]
        if isinstance(value, bool) or not isinstance(value, str | int):
            self._refuse(key, 'expected a size such as "500m"')
        try:
            return parse_size(str(value))
        except SizeError as error:
            self._refuse(key, str(error))

    def _waste(self, table: dict[str, Any]) -> Waste | None:
        value = table.get("max-waste")
        if isinstance(value, str) and (percentage := as_percentage(value)) is not None:
            return percentage
        size = self._size(table, "max-waste")
        return None if size is None else Waste(size)

    def _number(self, table: dict[str, Any], key: str) -> int | None:
        value = table.get(key)
        if value is None or (type(value) is int and value > 0):
            return value
        self._refuse(key, "expected a number that is at least 1")

    def _texts(self, table: dict[str, Any], key: str, prefix: str = "") -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            self._refuse(prefix + key, "expected a list of strings")
        return tuple(one.strip() for one in value)

    def _refuse_unknown(self, table: dict[str, Any], known: Iterable[str], prefix: str) -> None:
        for name in table:
            if name not in known:
                near = suggest(name, known)
                hint = f"did you mean {prefix}{near}?" if near else f"known are {', '.join(known)}"
                self._refuse(prefix + name, "there is no such rule" if prefix else "there is no such key", hint)

    def _refuse(self, key: str, text: str, hint: str | None = None) -> NoReturn:
        line = self._line_of(key)
        raise BuildError(f"{key}: {text}", hint=hint, span=Span(line, 1, line, 2), source=self._source)

    def refuse_toml(self, text: str) -> NoReturn:
        """Raise the error for a text that is not TOML. The parser writes the place at the end of its message."""
        place = _PLACE.search(text)
        lines = self._source.text.rstrip("\n").count("\n") + 1
        line, column = (int(place[1]), int(place[2])) if place else (lines if "end of document" in text else 1, 1)
        message = f"invalid TOML: {text[: place.start()] if place else text}"
        raise BuildError(message, span=Span(line, column, line, column + 1), source=self._source)

    def _line_of(self, key: str) -> int:
        """The line of a key. The parser does not tell it, so this looks for what the key is usually written as."""
        table, best = "", 1
        for number, line in enumerate(self._source.text.split("\n"), 1):
            if header := _TABLE.match(line):
                table = re.sub(r"[\"'\s]", "", header[1])
                found = table
            elif assigned := _KEY.match(line):
                found = ".".join(filter(None, (table, re.sub(r"[\"']", "", assigned[1]))))
            else:
                continue
            if found == key:
                return number
            if key.startswith(f"{found}."):
                best = number  # an inline table
        return best


def unknown_rule(name: str) -> str:
    """What is wrong with the name of a rule that cannot be denied."""
    near = suggest(name, DENIABLE)
    advice = f"did you mean {near}?" if near else f"known are {', '.join(DENIABLE)}"
    return f"there is no rule {name!r}; {advice}"


def as_percentage(text: str) -> Waste | None:
    """The waste of a text such as `5%`; None if it is not a percentage below 100, which an image can exceed."""
    found = _PERCENTAGE.fullmatch(text.strip())
    return Waste(float(found[1]), is_percentage=True) if found and float(found[1]) < 100 else None
