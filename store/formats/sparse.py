"""Archives with sparse files: GNU's own form, and its PAX forms 0.0, 0.1 and 1.0.

The rest of pybuild finds the content of a file at one place of an archive. So `PlainTar` turns an archive with sparse files
into one without: the same members, with the holes as zeros. Source: the manual of GNU tar, "Storing Sparse Files".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats import tar
from pybuild.store.formats.tar import BLOCK, OCTAL_12, SPARSE_KEY, show
from pybuild.values.limits import EXTENDED_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.system.streams import Readable
    from pybuild.values.limits import Limit

_CHUNK = 1 << 18
_ZEROS = bytes(_CHUNK)
_MAP_BYTES = 16 << 20  # of the list of parts before the data of a file in the form 1.0
_GNU_PARTS = slice(386, 482)  # of a header: offset and length of four parts, 12 bytes each number
_NUMBER = 12  # bytes of a number in a header

_Parts = list[tuple[int, int]]  # offset in the file, length


class PlainTar:
    """A readable stream of an archive whose sparse files are plain ones. Reading raises InvalidImage."""

    def __init__(self, stream: Readable, limit: Limit) -> None:
        """`limit` is for the bytes of the plain archive."""
        self._stream = stream
        self._limit = limit
        self._left = limit.value
        self._pieces = self._plain()
        self._piece = b""
        self._at = 0  # what was returned of the piece

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        while self._at == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left -= len(piece)
            if self._left < 0:
                raise self._limit.exceeded(
                    InvalidImage, "with the holes of its sparse files, more than the limit of {}"
                )
            self._piece, self._at = piece, 0
        piece = self._piece[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def _plain(self) -> Iterator[bytes]:
        held = b""  # the extended header of the next member, as it is in the archive
        records: list[tuple[str, bytes]] = []
        while len(header := self._up_to(BLOCK)) == BLOCK and header.strip(b"\0"):
            size, kind = tar.checked_header(header), header[156:157]
            if kind == b"x":
                record = self._up_to(min(size, EXTENDED_HEADER_BYTES.value + 1) + -size % BLOCK)
                held, records = header + record, tar.pax_records(record[:size])
                continue
            known = dict(records)
            size = _decimal(known["size"]) if "size" in known else size
            if kind == tar.SPARSE or any(key.startswith(SPARSE_KEY) for key in known):
                yield from self._sparse(header, held, records, size)
            else:
                yield held + header
                yield from self._copied(size + -size % BLOCK if kind in tar.WITH_DATA or kind in b"gLK" else 0)
            held, records = b"", []
        yield held + header
        while data := self._stream.read(_CHUNK):
            yield data

    def _sparse(self, header: bytes, held: bytes, records: list[tuple[str, bytes]], size: int) -> Iterator[bytes]:
        known = dict(records)
        name = known.get(f"{SPARSE_KEY}name", known.get("path", header[:100].partition(b"\0")[0]))
        padding = -size % BLOCK
        try:
            if header[156:157] == tar.SPARSE:
                parts, real = self._gnu_parts(header)
            elif f"{SPARSE_KEY}major" in known:
                parts, used = self._parts_before_data()
                real, size = _decimal(known[f"{SPARSE_KEY}realsize"]), size - used
            else:
                parts, real = _pax_parts(records), _decimal(known[f"{SPARSE_KEY}size"])
            _check(parts, real, size)
        except (ValueError, KeyError, IndexError):
            raise InvalidImage(f"entry {show(name)}: its list of holes is damaged") from None
        plain = {key: value for key, value in records if not key.startswith(SPARSE_KEY) and key != "size"}
        if held:
            record = b"".join(_record(key, value) for key, value in {**plain, "path": name}.items())
            yield _with_size(held[:BLOCK], len(record)) + record + bytes(-len(record) % BLOCK)
        yield _with_size(header[:156] + tar.REGULAR + header[157:345] + bytes(BLOCK - 345), real)
        at = 0
        for offset, length in parts:
            yield from _zeros(offset - at)
            yield from self._copied(length)
            at = offset + length
        yield from _zeros(real - at + -real % BLOCK)
        self._up_to(padding)

    def _gnu_parts(self, header: bytes) -> tuple[_Parts, int]:
        """The parts of a file in GNU's own form: four in its header, more in blocks after it."""
        numbers = header[_GNU_PARTS]
        more, real = header[482], tar.number(header[483:495])
        while more:
            block = self._up_to(BLOCK)
            numbers += block[:504]
            more = block[504]
            if len(numbers) > _MAP_BYTES:
                raise ValueError
        found = [numbers[at : at + _NUMBER] for at in range(0, len(numbers), _NUMBER)]
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(tar.number(offset), tar.number(length)) for offset, length in pairs if offset.strip(b"\0")], real

    def _parts_before_data(self) -> tuple[_Parts, int]:
        """The parts of a file in the form 1.0, which are lines before its data; and the bytes of these blocks."""
        text = b""
        count = -1
        while count < 0 or text.count(b"\n") < 1 + 2 * count:
            block = self._up_to(BLOCK)
            text += block
            if len(block) < BLOCK or len(text) > _MAP_BYTES:
                raise ValueError
            if count < 0 and b"\n" in text:
                count = _decimal(text.partition(b"\n")[0])
        numbers = [_decimal(line) for line in text.split(b"\n")[1 : 1 + 2 * count]]
        return list(zip(numbers[::2], numbers[1::2], strict=True)), len(text)

    def _copied(self, size: int) -> Iterator[bytes]:
        while size and (data := self._stream.read(min(size, _CHUNK))):
            size -= len(data)
            yield data

    def _up_to(self, size: int) -> bytes:
        return b"".join(self._copied(size))


def _pax_parts(records: list[tuple[str, bytes]]) -> _Parts:
    """The parts in the PAX records of the forms 0.0, which repeats two keys, and 0.1, which has one list."""
    numbers = [
        _decimal(number)
        for key, value in records
        if key in (f"{SPARSE_KEY}offset", f"{SPARSE_KEY}numbytes", f"{SPARSE_KEY}map") and value
        for number in value.split(b",")
    ]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check(parts: _Parts, real: int, size: int) -> None:
    """Raise ValueError unless the parts are in order, lie in a file of `real` bytes, and have `size` bytes."""
    at = 0
    for offset, length in parts:
        if offset < at or offset + length > real:
            raise ValueError
        at = offset + length
    if sum(length for _, length in parts) != size:
        raise ValueError


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _ZEROS[:size]
        size -= _CHUNK


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ValueError(text)
    return int(text)


def _record(key: str, value: bytes) -> bytes:
    """A PAX record, which begins with its own length."""
    rest = b" %s=%s\n" % (key.encode("utf-8", "surrogateescape"), value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d%s" % (length, rest)


def _with_size(header: bytes, size: int) -> bytes:
    """A header with another size, and so with another checksum."""
    field = b"%011o\0" % size if size < OCTAL_12 else b"\x80" + size.to_bytes(11, "big")
    blank = header[:124] + field + header[136:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]
