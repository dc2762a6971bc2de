"""Reading tar archives strictly.

The format is POSIX.1-2017 pax, plus the GNU long-name records and base-256 numbers that occur in real layers. Archives
that two readers could understand differently are refused: a PAX size that contradicts the header, damaged records. An archive
can end without its blocks of zeros, but not within an entry. `tarfile` is not used, because it reads a damaged header in the middle of an archive as its end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import InvalidImage, UnsafePath
from pybuild.values.limits import EXTENDED_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pybuild.store.system.streams import Readable

BLOCK = 512
END = bytes(2 * BLOCK)
XATTR = "SCHILY.xattr."
OCTAL_8, OCTAL_12 = 8**7, 8**11  # the first numbers that do not fit into octal fields of 8 and 12 bytes
_ZEROS = bytes(BLOCK)

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
SPARSE = b"S"  # GNU's type of a file with holes
SPARSE_KEY = "GNU.sparse."  # how the PAX records of such a file begin
WITH_DATA = frozenset((REGULAR, b"\0", b"7"))
_KNOWN = frozenset((REGULAR, b"\0", b"7", HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))


class Member(NamedTuple):
    """One member as the archive has it: neither normalised nor checked against a tree."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    linkname: bytes
    devmajor: int
    devminor: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    offset: int  # bytes from the start of the (uncompressed) archive to the data


def show(name: bytes) -> str:
    """A name for display: in quotes, with control characters and invalid UTF-8 as \\xNN."""
    text = "".join(
        f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c if c.isprintable() else f"\\x{ord(c):02x}"
        for c in name.decode("utf-8", "surrogateescape")
    )
    return f'"{text if len(text) <= 300 else text[:300] + "…"}"'


class SparseMember(InvalidImage):
    """The archive has a file whose holes it does not store. `sparse.PlainTar` makes a plain archive of it."""


class _BadField(Exception):
    """A header has an invalid field. The reader catches it and adds the name of the entry."""


class TarReader:
    """Iterates over the members of an archive. The data of a member can be read once, before the next member.

    Raises InvalidImage, and UnsafePath for a name with a NUL byte.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._position = 0
        self._left = 0  # bytes of the current member's data that are not read yet
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        defaults: Mapping[str, bytes] = {}
        while True:
            pax: dict[str, bytes] = {}
            long_name = long_link = None
            while True:
                header = self._next_header()
                if not header or header == _ZEROS:
                    if pax or long_name is not None or long_link is not None:
                        raise InvalidImage("tar: an extended header without an entry after it")
                    if header:
                        self._finish()
                    return
                kind = header[156:157]
                size = checked_header(header)
                if kind not in (b"x", b"g", b"L", b"K"):
                    break
                record = self._extended(size)
                match kind:
                    case b"L":
                        if long_name is not None:
                            raise InvalidImage("tar: two long names for one entry")
                        long_name = _text(record)
                    case b"K":
                        if long_link is not None:
                            raise InvalidImage("tar: two long link names for one entry")
                        long_link = _text(record)
                    case b"x":
                        if pax:
                            raise InvalidImage("tar: two PAX headers for one entry")
                        pax = parse_pax(record)
                    case _:
                        defaults = _global(parse_pax(record))
            yield self._member(header, size, {**defaults, **pax} if defaults else pax, long_name, long_link)

    def data(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The data of the current member, in pieces of at most `size` bytes."""
        while self._left:
            piece = self._exactly(min(self._left, size))
            self._left -= len(piece)
            yield piece

    def _member(
        self, header: bytes, size: int, pax: Mapping[str, bytes], long_name: bytes | None, long_link: bytes | None
    ) -> Member:
        kind = header[156:157]
        name = pax.get("path", long_name)
        if name is None:
            name = _text(header[0:100])
            if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
                name = prefix + b"/" + name
        link = pax.get("linkpath", long_link)
        if link is None:
            link = _text(header[157:257])
        if kind == SPARSE or any(key.startswith(SPARSE_KEY) for key in pax):
            raise SparseMember(f"entry {show(name)}: sparse files are not supported in a layer")
        if kind not in _KNOWN:
            raise InvalidImage(f"entry {show(name)}: type {kind!r} is not supported in a layer")
        if b"\0" in name or b"\0" in link:
            raise UnsafePath(f"entry {show(name)}: the name holds a NUL byte")
        try:
            return self._checked_member(header, name, link, kind, size, pax)
        except _BadField as error:
            raise InvalidImage(f"entry {show(name)}: {error}") from None

    def _checked_member(
        self, header: bytes, name: bytes, link: bytes, kind: bytes, size: int, pax: Mapping[str, bytes]
    ) -> Member:
        if "size" in pax:
            size = _agreed_size(size, _decimal(pax["size"], "size"))
        has_data = kind in WITH_DATA
        if not has_data:
            # Some writers repeat the file's size in a hard link, and no reader expects data after it. With other types
            # some readers would expect data and others would not.
            if size and kind != HARDLINK:
                raise _BadField(f"a size of {size} bytes for a type that has no data")
            size = 0
        if has_data and name.endswith(b"/"):
            kind = DIRECTORY  # V7 archives have no type for directories
            if size:
                raise _BadField("a directory with data")
        self._left = size if has_data else 0
        self._padding = -self._left % BLOCK
        device = kind in (CHAR, BLOCK_DEVICE)
        return Member(
            name=name,
            type=REGULAR if has_data and kind != DIRECTORY else kind,
            mode=_number(header[100:108], "mode") & 0o7777,
            uid=_id(_decimal(pax["uid"], "uid") if "uid" in pax else _number(header[108:116], "uid"), "uid"),
            gid=_id(_decimal(pax["gid"], "gid") if "gid" in pax else _number(header[116:124], "gid"), "gid"),
            size=size,
            mtime=_seconds(pax["mtime"]) if "mtime" in pax else _number(header[136:148], "mtime", signed=True),
            linkname=link if kind in (HARDLINK, SYMLINK) else b"",
            devmajor=_number(header[329:337], "devmajor", 12) if device else 0,  # the widths of Linux's dev_t
            devminor=_number(header[337:345], "devminor", 20) if device else 0,
            xattrs=tuple(
                sorted(
                    (key[len(XATTR) :].encode("utf-8", "surrogateescape"), value)
                    for key, value in pax.items()
                    if key.startswith(XATTR)
                )
            ),
            offset=self._position,
        )

    def _extended(self, size: int) -> bytes:
        if size > EXTENDED_HEADER_BYTES.value:
            raise EXTENDED_HEADER_BYTES.exceeded(
                InvalidImage, f"tar: an extended header of {size} bytes exceeds the limit of {{}}"
            )
        record = self._exactly(size)
        self._skip(-size % BLOCK)
        return record

    def _finish(self) -> None:
        """Check that the block after the first zero block, if there is one, is zero too. What follows is padding."""
        second = self._stream.read(BLOCK)
        while len(second) < BLOCK and (more := self._stream.read(BLOCK - len(second))):
            second += more
        if second != _ZEROS[: len(second)]:
            raise InvalidImage("tar: an entry after the end of the archive")
        while self._stream.read(1 << 20):
            pass

    def _next_header(self) -> bytes:
        """The block after the current member; b"" at the end of the stream, which may cut off the last padding."""
        self._skip(self._left)
        size = self._padding + BLOCK
        data = self._stream.read(size)
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        self._left = self._padding = 0
        if size - BLOCK < len(data) < size:
            raise self._truncated(len(data))
        self._position += len(data)
        return data[-BLOCK:] if len(data) == size else b""

    def _truncated(self, got: int) -> InvalidImage:
        text = f"tar: truncated after {self._position + got} bytes"
        return InvalidImage(text, hint="the file is incomplete; fetch it again")

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            parts = [data]
            got = len(data)
            while got < size and (data := self._stream.read(size - got)):
                parts.append(data)
                got += len(data)
            data = b"".join(parts)
            if got < size:
                raise self._truncated(got)
        self._position += size
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(size, 1 << 20)))


def parse_pax(record: bytes) -> dict[str, bytes]:
    """The records of a PAX header. Raises InvalidImage for malformed and repeated records."""
    found: dict[str, bytes] = {}
    for name, value in pax_records(record):
        if name in found and not name.startswith(SPARSE_KEY):  # such keys are repeated for each part of a file
            raise InvalidImage(f"tar: PAX record {name!r} appears twice in one header")
        found[name] = value
    return found


def pax_records(record: bytes) -> list[tuple[str, bytes]]:
    """The records `length key=value\\n` of a PAX header, in order. Raises InvalidImage if one is malformed."""
    found = []
    position = 0
    while position < len(record):
        space = record.find(b" ", position, position + 20)
        digits = record[position:space] if space > 0 else b""
        if not digits.isdigit() or digits.startswith(b"0"):
            raise InvalidImage("tar: malformed PAX record")
        end = position + int(digits)
        key, equals, value = record[space + 1 : end - 1].partition(b"=")
        if end > len(record) or end <= space + 2 or not equals or not key or record[end - 1 : end] != b"\n":
            raise InvalidImage("tar: malformed PAX record")
        found.append((key.decode("utf-8", "surrogateescape"), value))
        position = end
    return found


def number(field: bytes) -> int:
    """A number of a header that is not negative. Raises ValueError."""
    try:
        return _number(field, "number")
    except _BadField as error:
        raise ValueError(str(error)) from None


def _global(records: dict[str, bytes]) -> Mapping[str, bytes]:
    """The defaults in a global header: owners and times. A name or a size for all entries would be an attack."""
    for key in ("path", "linkpath", "size"):
        if key in records:
            raise InvalidImage(f"tar: a global PAX header sets {key!r}")
    return {key: value for key, value in records.items() if key in ("uid", "gid", "mtime")}


def is_header(block: bytes) -> bool:
    """Whether `block` is a valid header. Every archive that is not empty begins with one."""
    if len(block) != BLOCK or block == _ZEROS:
        return False
    try:
        checked_header(block)
    except InvalidImage:
        return False
    return True


def checked_header(header: bytes) -> int:
    """Verify the checksum and return the header's size field."""
    try:
        stored, size = _number(header[148:156], "checksum"), _number(header[124:136], "size")
    except _BadField as error:
        raise InvalidImage(f"tar: {error}") from None
    total = sum(header) - sum(header[148:156]) + 8 * 32
    if stored != total:
        signed = sum(b - 256 if b > 127 else b for b in header[:148] + header[156:]) + 8 * 32
        if stored != signed:
            raise InvalidImage("tar: a header has a wrong checksum")
    return size


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


@lru_cache(maxsize=1024)  # a layer has few different modes, owners and sizes
def _number(field: bytes, name: str, bits: int = 63, *, signed: bool = False) -> int:
    """An octal or base-256 number of at most `bits` bits; it can be negative only if `signed`."""
    if field[0] & 0x80:
        value = (
            int.from_bytes(field, "big", signed=True)
            if field[0] == 0xFF
            else int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        )
    else:
        digits, _, rest = field.lstrip(b" ").partition(b"\0")
        digits = digits.rstrip(b" ")
        if rest.strip(b"\0 ") or digits.strip(b"01234567"):
            raise _BadField(f"field {name} is not a number")
        value = int(digits, 8) if digits else 0
    if value >> bits or (value < 0 and not signed):
        if not (signed and -(1 << bits) <= value < 0):
            raise _BadField(f"field {name} is out of range")
    return value


def _decimal(value: bytes, name: str) -> int:
    if not value.isdigit() or len(value) > 19 or int(value) >> 63:
        raise _BadField(f"PAX {name} {value[:40]!r} is out of range")
    return int(value)


def _agreed_size(size: int, pax: int) -> int:
    """The size of an entry that has a PAX size. Its header can differ only if the size does not fit there."""
    if size != pax and not (pax >= OCTAL_12 and size in (0, OCTAL_12 - 1)):
        raise _BadField(f"its PAX header says {pax} bytes, its own header {size}")
    return pax


def _id(number: int, name: str) -> int:
    if number >= 0xFFFFFFFF:  # (uid_t)-1 means "unchanged" to chown(2)
        raise _BadField(f"{name} {number} is out of range")
    return number


def _seconds(value: bytes) -> int:
    """The whole seconds of a PAX time, rounded down, as image writers do."""
    sign = value.startswith(b"-")
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    digits = whole.lstrip(b"0") or b"0"
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(digits) > 18:
        raise _BadField(f"PAX mtime {value[:40]!r} is not a time")
    seconds = int(digits)  # int() raises ValueError for more than 4300 digits, leading zeros included
    return -seconds - (1 if fraction.strip(b"0") else 0) if sign else seconds
