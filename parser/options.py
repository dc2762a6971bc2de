"""The values of --network, --security and --device of RUN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser.directives import read_bool
from pybuild.parser.errors import ParseError
from pybuild.parser.instructions import Device
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.parser.instructions import RunNetwork, RunSecurity, Word

_DEVICE = pattern(r"[A-Za-z0-9][A-Za-z0-9._/=-]*")


def read_network(word: Word) -> RunNetwork:
    """Read the value of --network. Raises ParseError."""
    match word.text:
        case "default" | "none" | "host":
            return word.text
        case _:
            raise ParseError(f"invalid network mode {word.text!r}", word.span, hint="it can be default, none or host")


def read_security(word: Word) -> RunSecurity:
    """Read the value of --security. Raises ParseError."""
    match word.text:
        case "sandbox" | "insecure":
            return word.text
        case _:
            raise ParseError(f"invalid security mode {word.text!r}", word.span, hint="it can be sandbox or insecure")


def parse_device(word: Word) -> Device:
    """Read the value of --device: `vendor/class=name`, `name=…`, and `required[=true]`. Raises ParseError."""
    name: str | None = None
    required: bool | None = None
    for field in word.text.split(","):
        key, equals, value = field.partition("=")
        match key.lower():
            case "required" if required is None:
                required = read_bool(value) if equals else True
                if required is None:
                    raise ParseError(f"device option {field!r}: expected true or false", word.span)
            case "name" if equals and name is None:
                name = value
            case _ if name is None and "/" in field:
                name = field
            case "required" | "name":
                raise ParseError(f"duplicate device option {key!r}", word.span)
            case _:
                raise ParseError(
                    f"invalid device option {field!r}", word.span, hint="--device=vendor/class=name,required"
                )
    if name is None or not _DEVICE.fullmatch(name):
        raise ParseError("a device needs a name", word.span, hint="--device=vendor/class=name")
    return Device(name, required or False, word.span)
