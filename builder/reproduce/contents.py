"""What differs between two contents of a file: as text, by members of archives, by sections of programs.

Sources: elf(5); CPython's Lib/importlib/_bootstrap_external.py (the header of .pyc); RFC 1952 (gzip); zip by the standard
library, which only reads here.
"""

from __future__ import annotations

import difflib
import gzip
import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.formats.tar import TarReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST = 64 << 20  # bytes of a file, or of what it holds, that is looked into
_LINES = 12  # of a difference
_DEPTH = 3  # archives in archives
_WIDTH = 160  # characters of a line
_PYC_TIME = slice(8, 12)
_BUILD_ID = ".note.gnu.build-id"
_FAILURES = (
    OSError,
    EOFError,
    ValueError,
    struct.error,
    zlib.error,
    StoreError,
    RuntimeError,
    zipfile.BadZipFile,
    NotImplementedError,
)


def difference(one: bytes, other: bytes, depth: int = 0) -> list[str]:
    """Lines that say what differs."""
    for of_kind in (_of_pyc, _of_gzip, _of_archives, _of_elf, _of_text):
        try:
            found = of_kind(one, other, depth)
        except _FAILURES:
            continue
        if found:
            return found[:_LINES]
    return [_first_byte(one, other)]


def _of_text(one: bytes, other: bytes, depth: int) -> list[str]:
    if b"\0" in one or b"\0" in other:
        return []
    first, second = (data.decode("utf-8").splitlines() for data in (one, other))
    lines = list(difflib.unified_diff(first, second, lineterm="", n=0))[2:]
    return [line[:_WIDTH] for line in lines if not line.startswith("@@")]


def _of_pyc(one: bytes, other: bytes, depth: int) -> list[str]:
    if len(one) < 16 or one[2:4] != b"\r\n" or one[:4] != other[:4]:
        return []
    if one[4:8] == other[4:8] == bytes(4) and one[_PYC_TIME] != other[_PYC_TIME]:
        times = [int.from_bytes(data[_PYC_TIME], "little") for data in (one, other)]
        return [f"the time of its source in the header of the .pyc: {times[0]}, {times[1]}"]
    return ["the code in the .pyc"]


def _of_gzip(one: bytes, other: bytes, depth: int) -> list[str]:
    if one[:2] != b"\x1f\x8b" or other[:2] != b"\x1f\x8b" or depth >= _DEPTH:
        return []
    found = []
    if one[4:8] != other[4:8]:
        times = [int.from_bytes(data[4:8], "little") for data in (one, other)]
        found.append(f"the time in the header of gzip: {times[0]}, {times[1]}")
    contents = [gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST) for data in (one, other)]
    if contents[0] != contents[1]:
        found += difference(contents[0], contents[1], depth + 1)
    return found or ["how gzip compressed the same content"]


def _of_archives(one: bytes, other: bytes, depth: int) -> list[str]:
    if depth >= _DEPTH:
        return []
    for read in (_zip_members, _tar_members, _ar_members):
        members = [read(one), read(other)]
        if members[0] is not None and members[1] is not None:
            return list(_members(members[0], members[1], depth)) or [
                "the order or the form of the members of the archive"
            ]
    return []


def _members(one: Mapping[str, tuple[str, bytes]], other: Mapping[str, tuple[str, bytes]], depth: int) -> Iterator[str]:
    for name in dict.fromkeys((*one, *other)):
        if name not in one or name not in other:
            yield f"{name}: only in the {'first' if name in one else 'second'} archive"
            continue
        (facts, data), (other_facts, other_data) = one[name], other[name]
        if facts != other_facts:
            yield f"{name}: {facts}; {other_facts}"
        if data != other_data:
            yield from (f"{name}: {line}" for line in difference(data, other_data, depth + 1))


def _zip_members(data: bytes) -> dict[str, tuple[str, bytes]] | None:
    if data[:2] != b"PK":
        return None
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > LARGEST:
            return None
        return {
            info.filename: ("time {}-{:02}-{:02} {:02}:{:02}:{:02}".format(*info.date_time), archive.read(info))
            for info in archive.infolist()
        }


def _tar_members(data: bytes) -> dict[str, tuple[str, bytes]] | None:
    if data[257:262] != b"ustar":
        return None
    found = {}
    reader = TarReader(io.BytesIO(data))
    for member in reader:
        facts = f"time {member.mtime}, mode {member.mode:o}, owner {member.uid}:{member.gid}"
        found[member.name.decode("utf-8", "backslashreplace")] = (facts, b"".join(reader.data()))
    return found


def _ar_members(data: bytes) -> dict[str, tuple[str, bytes]] | None:
    if data[:8] != b"!<arch>\n":
        return None
    found, at = {}, 8
    while at + 60 <= len(data):
        header = data[at : at + 60].decode("ascii")
        size = int(header[48:58])
        facts = f"time {header[16:28].strip()}, owner {header[28:34].strip()}:{header[34:40].strip()}"
        found[header[:16].strip()] = (facts, data[at + 60 : at + 60 + size])
        at += 60 + size + size % 2
    return found


def _of_elf(one: bytes, other: bytes, depth: int) -> list[str]:
    if one[:4] != b"\x7fELF" or other[:4] != b"\x7fELF":
        return []
    sections = [_sections(one), _sections(other)]
    names = [
        name for name in dict.fromkeys((*sections[0], *sections[1])) if sections[0].get(name) != sections[1].get(name)
    ]
    shown = [f"section {name}" + (" (the build id)" if name == _BUILD_ID else "") for name in names]
    return shown or ["the headers of the program"]


def _sections(data: bytes) -> dict[str, bytes]:
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), data, 40 if wide else 32)
    size, count, names_at = struct.unpack_from(order + "HHH", data, 58 if wide else 46)
    headers = []
    for number in range(count):
        name, kind = struct.unpack_from(order + "II", data, table + number * size)
        place = struct.unpack_from(order + ("QQ" if wide else "II"), data, table + number * size + (24 if wide else 16))
        headers.append((name, kind, place[0], place[1]))
    start = headers[names_at][2]
    found = {}
    for name, kind, offset, length in headers:
        end = data.index(b"\0", start + name)
        text = data[start + name : end].decode("ascii", "replace")
        found[text] = b"" if kind == 8 else data[offset : offset + length]  # SHT_NOBITS
    return found


def _first_byte(one: bytes, other: bytes) -> str:
    at = next(
        (number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
    shown = [data[at : at + 8].hex(" ") or "the end" for data in (one, other)]
    return f"from byte {at}: {shown[0]}; {shown[1]}"
