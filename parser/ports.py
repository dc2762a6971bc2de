"""The ports of EXPOSE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROTOCOLS = ("tcp", "udp", "sctp")


def parse_ports(words: Iterable[str]) -> tuple[str, ...]:
    """Each `port[-port][/protocol]` as `port/protocol`: ranges written out, tcp when nothing is said, sorted as text.

    Raises PortError.
    """
    found: set[str] = set()
    for word in words:
        low, high, protocol = _range(word)
        found |= {f"{port}/{protocol}" for port in range(low, high + 1)}
    return tuple(sorted(found))


def check_port(word: str) -> None:
    """Raise PortError if one word is none that `parse_ports` takes."""
    _range(word)


def _range(word: str) -> tuple[int, int, str]:
    numbers, slash, protocol = word.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise PortError(f"invalid protocol {protocol!r} in port {word!r}", hint=f"it can be {', '.join(_PROTOCOLS)}")
    # docker's `ip:host:container` form is accepted there, but only the container's port has a meaning here.
    first, dash, last = numbers.rpartition(":")[2].partition("-")
    low, high = _port(first, word), _port(last if dash else first, word)
    if high < low:
        raise PortError(f"invalid range of ports {word!r}", hint="the first one is the lower one")
    return low, high, protocol


def _port(text: str, word: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise PortError(f"invalid port {word!r}", hint="ports go from 0 to 65535")
    return int(text)
