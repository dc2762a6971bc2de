"""The ports of EXPOSE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROTOCOLS = ("tcp", "udp", "sctp")


def parse_ports(words: Iterable[str]) -> tuple[str, ...]:
    """The ports of words `port[-port][/protocol]` as `port/protocol`, with ranges written out, sorted as text.

    The default protocol is tcp. Raises PortError.
    """
    found: set[str] = set()
    for word in words:
        low, high, protocol = _range(word)
        found |= {f"{port}/{protocol}" for port in range(low, high + 1)}
    return tuple(sorted(found))


def check_port(word: str) -> None:
    """Raise PortError if `parse_ports` would not accept the word."""
    _range(word)


def _range(word: str) -> tuple[int, int, str]:
    numbers, slash, protocol = word.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise PortError(f"invalid protocol {protocol!r} in port {word!r}", hint=f"it can be {', '.join(_PROTOCOLS)}")
    # docker accepts `ip:host:container` here; only the port of the container has a meaning in a recipe.
    first, dash, last = numbers.rpartition(":")[2].partition("-")
    low, high = _port(first, word), _port(last if dash else first, word)
    if high < low:
        raise PortError(f"invalid range of ports {word!r}", hint="the lower port comes first")
    return low, high, protocol


def _port(text: str, word: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise PortError(f"invalid port {word!r}", hint="ports go from 0 to 65535")
    return int(text)
