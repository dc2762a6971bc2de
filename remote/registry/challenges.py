"""Parsing WWW-Authenticate headers.

Source: RFC 9110, 11.3 and 11.6.1. A challenge is a scheme and parameters `name=token` or `name="quoted"`. One header or
several can hold several challenges, separated by commas.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.values import frozen
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LIMIT = 16 << 10  # characters of all headers together; a header beyond that is ignored
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = pattern(
    rf"[\s,]*(?:(?P<name>{_TOKEN})[ \t]*=[ \t]*"
    rf'(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>{_TOKEN}))(?=[ \t]*(?:,|$))'
    rf"|(?P<scheme>{_TOKEN})(?:[ \t]+(?P<token68>[A-Za-z0-9._~+/-]+=*)(?=[ \t]*(?:,|$)))?(?=[ \t,]|$))"
)


@frozen
class Challenge:
    """One way to authenticate that a server offers. Scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """The challenges of all headers, in order. In a malformed header only the challenges before the mistake count."""
    found: list[Challenge] = []
    left = _LIMIT
    for header in headers:
        left -= len(header)
        if left < 0:
            break
        found += _parse(header)
    return tuple(found)


def _parse(header: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _PART.match(header, position):
        position = match.end()
        if match["scheme"] is not None:
            found.append((match["scheme"].lower(), {}))
        elif not found:
            break
        else:
            value = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
            # A parameter must not appear twice. The first one counts, in case an attacker appended another.
            found[-1][1].setdefault(match["name"].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]
