"""Tars as text, so that a corpus of them can be read, and a fuzzer gets past the checksums.

A line makes one header, or the data of the header before it:

    entry name=a/b type=0 mode=0644 link=x     a header; a field is its bytes, %XX is one byte; the size is that of the data
    +text                                      data; several such lines follow each other without a newline
    pax path=a/b mtime=1.5                     an extended header with these records
    global uid=3                               a global one
    zero                                       a block of zeros

Two zero blocks end each archive, except after a line `cut`. A checksum is right unless the field `sum` gives another.
An input that begins with `!` is a tar as it is. All other lines are ignored, so every text is a tar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK = 512
_FIELDS = {  # name -> offset and width in a ustar header
    b"name": (0, 100), b"mode": (100, 8), b"uid": (108, 8), b"gid": (116, 8), b"size": (124, 12), b"mtime": (136, 12),
    b"type": (156, 1), b"link": (157, 100), b"magic": (257, 8), b"major": (329, 8), b"minor": (337, 8), b"prefix": (345, 155),
}  # fmt: skip
_DEFAULTS = {b"mode": b"0644", b"uid": b"0", b"gid": b"0", b"mtime": b"0", b"type": b"0", b"magic": b"ustar%0000"}


def tar_of(text: bytes) -> bytes:
    """The tar that a text describes."""
    if text.startswith(b"!"):
        return text[1:]
    out = bytearray()
    lines = text.split(b"\n")
    position = 0
    while position < len(lines):
        kind, *pairs = lines[position].split(b" ")
        position += 1
        data = b""
        while position < len(lines) and lines[position].startswith(b"+"):
            data += lines[position][1:]
            position += 1
        fields = dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
        match kind:
            case b"entry":
                out += _member(fields, data)
            case b"pax" | b"global":
                records = b"".join(map(_record, fields.items())) + data
                out += _member({b"name": b"pax", b"type": b"x" if kind == b"pax" else b"g"}, records)
            case b"zero":
                out += bytes(_BLOCK)
            case b"cut":
                return bytes(out)
            case _:
                pass
    return bytes(out) + bytes(2 * _BLOCK)


def _member(fields: dict[bytes, bytes], data: bytes) -> bytes:
    header = bytearray(_BLOCK)
    for name, value in {b"size": b"%o" % len(data), **_DEFAULTS, **fields}.items():
        if name in _FIELDS:
            offset, width = _FIELDS[name]
            value = unquote_to_bytes(value)[:width]
            header[offset : offset + len(value)] = value
    checksum = b"%06o\0 " % (sum(header) + 8 * 32)
    given = unquote_to_bytes(fields[b"sum"])[:8] if b"sum" in fields else checksum
    header[148 : 148 + len(given)] = given
    return bytes(header) + data + bytes(-len(data) % _BLOCK)


def _record(pair: Iterable[bytes]) -> bytes:
    key, value = map(unquote_to_bytes, pair)
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
