"""SQLite's log (write-ahead log), joined with its database in memory.

SQLite itself needs room for the index of the log to do that, and this is for a disk on which nothing can be written. The
log's last complete transaction counts: what follows it was never committed, or was not written completely.

Source: https://sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = struct.Struct(">8I")  # magic, version, page size, sequence, two salts, two checksums
_FRAME = struct.Struct(">6I")  # number of the page, size of the database in pages after a commit or 0, salts, checksums
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # and the order of the bytes in words that the checksums are made of
_WORD = 0xFFFFFFFF


def joined(database: bytes, log: bytes) -> bytes:
    """The bytes of a database with the content of its log. A log that is not one is ignored, as SQLite does."""
    whole, pending = bytearray(database), []
    for number, pages, data in _frames(log):
        pending.append((number, data))
        if pages:  # a transaction ends
            whole = whole[: pages * len(data)].ljust(pages * len(data), b"\0")
            for place, page in pending:
                if place <= pages:
                    whole[(place - 1) * len(page) : place * len(page)] = page
            pending = []
    return bytes(whole)


def _frames(log: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """The frames of a log up to the first that is not valid: the number of a page, the size as in _FRAME, its bytes."""
    if len(log) < _HEADER.size:
        return
    magic, _, page_size, _, *salts, first, second = _HEADER.unpack_from(log)
    if magic not in _MAGIC:
        return
    order, view = _MAGIC[magic], memoryview(log)
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1):
        return
    sums = _sums((0, 0), view[: _HEADER.size - 8], order)
    if sums != (first, second):
        return
    for at in range(_HEADER.size, len(log) - _FRAME.size - page_size + 1, _FRAME.size + page_size):
        number, size, *found, first, second = _FRAME.unpack_from(log, at)
        data = view[at + _FRAME.size : at + _FRAME.size + page_size]
        if found != salts or not number:
            return
        sums = _sums(_sums(sums, view[at : at + 8], order), data, order)
        if sums != (first, second):
            return
        yield number, size, data


def _sums(sums: tuple[int, int], data: memoryview, order: str) -> tuple[int, int]:
    """The two checksums, continued over `data`."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second
