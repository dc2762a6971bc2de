"""The data of a page in a compact form: a JSON object and columns, compressed, as text that HTML can hold.

    data    = base64 of the raw deflate (RFC 1951) of the following
    content = u32 length of the head, head, bytes of all columns one after the other     (little-endian)
    head    = a JSON object; its member "columns" describes each column: {name: [kind, ...]}
              ["numbers", count, width, smallest]   `width` planes of `count` bytes each: the lowest bytes of all numbers
                                                    first. A number is the smallest one plus these bytes.
              ["texts", bytes]                      UTF-8, joined by NUL

Half a million files become some 5 to 10 MB so: planes of equal bytes compress well, and neighbours in a sorted list of
paths have similar names. pybuild/pages/static/data.js reads it.
"""

from __future__ import annotations

import base64
import json
import zlib
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDEST = 6  # bytes of a number: JavaScript's are exact up to 53 bits
_LARGEST = (1 << 8 * _WIDEST) - 1


class Columns:
    """Columns of numbers and of texts, to be packed together."""

    def __init__(self) -> None:
        self._described: dict[str, list[object]] = {}
        self._parts: list[bytes] = []

    def numbers(self, name: str, values: Sequence[int]) -> None:
        """Add a column of whole numbers; differences above 2**48 are cut to that, since no real one is so large."""
        smallest = min(values, default=0)
        offsets = array("Q", [min(value - smallest, _LARGEST) for value in values])
        width = (max(offsets, default=0).bit_length() + 7) // 8
        data = offsets.tobytes()
        self._described[name] = ["numbers", len(values), width, smallest]
        self._parts += [data[plane :: offsets.itemsize] for plane in range(width)]

    def texts(self, name: str, values: Sequence[str]) -> None:
        """Add a column of texts, which contain no NUL and no surrogates."""
        data = "\0".join(values).encode()
        self._described[name] = ["texts", len(data)]
        self._parts.append(data)

    def packed(self, head: Mapping[str, object]) -> str:
        """The columns with a head."""
        text = json.dumps({**head, "columns": self._described}, separators=(",", ":")).encode()
        deflate = zlib.compressobj(9 if len(text) < 1 << 16 else 6, zlib.DEFLATED, -zlib.MAX_WBITS)
        parts = [deflate.compress(part) for part in (len(text).to_bytes(4, "little"), text, *self._parts)]
        return base64.b64encode(b"".join([*parts, deflate.flush()])).decode("ascii")
