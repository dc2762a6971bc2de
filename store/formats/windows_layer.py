"""Layers of Windows images: a tar with the directories `Files` and `Hives`, whose entries have attributes of Windows.

pybuild has such a layer as it is in the tar: its table of contents has `Files/…`. A layer is one of Windows if it has both
directories. Source: hcsshim's layer format and go-winio's backuptar package; the owner and the access list are those that
new files and directories on the drive C: get.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pybuild.store.formats.toc import Entry, Kind, sort_key

if TYPE_CHECKING:
    from collections.abc import Collection

FILES, HIVES = "Files", "Hives"
_TOP = frozenset((FILES.encode(), HIVES.encode()))
_DIRECTORY_BIT, _FILE_BIT = 0o040000, 0o100000  # in the mode, as in stat(2)
_ATTRIBUTE_DIRECTORY, _ATTRIBUTE_ARCHIVE = 0x10, 0x20
_ALL, _GENERIC_ALL, _READ_EXECUTE, _ADD_SUBDIRECTORY, _ADD_FILE = 0x1F01FF, 0x10000000, 0x1200A9, 0x4, 0x2
_OBJECT_INHERIT, _CONTAINER_INHERIT, _INHERIT_ONLY = 0x1, 0x2, 0x8
_BOTH = _OBJECT_INHERIT | _CONTAINER_INHERIT
# Security identifiers as authority and subauthorities: [MS-DTYP] 2.4.2.4.
_ADMINISTRATORS, _USERS, _SYSTEM, _CREATOR_OWNER = (5, (32, 544)), (5, (32, 545)), (5, (18,)), (3, (0,))
_Sid = tuple[int, tuple[int, ...]]
_Ace = tuple[int, int, _Sid]  # flags, access mask, whom it is for
_FILE_ACCESS: tuple[_Ace, ...] = ((0, _ALL, _ADMINISTRATORS), (0, _ALL, _SYSTEM), (0, _READ_EXECUTE, _USERS))
_DIRECTORY_ACCESS: tuple[_Ace, ...] = (
    (_BOTH, _ALL, _ADMINISTRATORS), (_BOTH, _ALL, _SYSTEM), (0, _ALL, _ADMINISTRATORS),
    (_BOTH | _INHERIT_ONLY, _GENERIC_ALL, _CREATOR_OWNER), (_BOTH, _READ_EXECUTE, _USERS),
    (_CONTAINER_INHERIT, _ADD_SUBDIRECTORY, _USERS), (_CONTAINER_INHERIT, _ADD_FILE, _USERS),
)  # fmt: skip


def is_windows_layer(entries: Collection[Entry]) -> bool:
    """Whether these are the entries of a layer of Windows."""
    return sum(entry.kind is Kind.DIRECTORY and entry.path in _TOP for entry in entries) == len(_TOP)


def with_hives(entries: list[Entry]) -> list[Entry]:
    """The sorted entries of a step, with the two directories that each layer of Windows has. Nothing stays nothing."""
    if not entries:
        return []
    there = {entry.path for entry in entries}
    missing = [Entry(name, Kind.DIRECTORY, 0o755) for name in _TOP - there]
    return sorted([*entries, *missing], key=lambda entry: sort_key(entry.path))


def windows_records(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The PAX records of an entry of such a layer; only files and directories have some."""
    if entry.hardlink or entry.kind not in (Kind.FILE, Kind.DIRECTORY):
        return ()
    is_directory = entry.kind is Kind.DIRECTORY
    attributes = _ATTRIBUTE_DIRECTORY if is_directory else _ATTRIBUTE_ARCHIVE
    records = ((b"MSWINDOWS.fileattr", b"%d" % attributes),)
    if entry.path in _TOP:
        return records
    return (*records, (b"MSWINDOWS.rawsd", _descriptor(is_directory)))


def windows_mode(entry: Entry) -> int:
    """The mode of an entry with the bits for its kind, as Windows' own tools write it."""
    if entry.hardlink or entry.kind not in (Kind.FILE, Kind.DIRECTORY):
        return entry.mode
    return entry.mode | (_DIRECTORY_BIT if entry.kind is Kind.DIRECTORY else _FILE_BIT)


@cache
def _descriptor(is_directory: bool) -> bytes:
    """The security descriptor in base64: owned by Administrators, group SYSTEM. [MS-DTYP] 2.4.6, self-relative."""
    import base64  # local imports: most layers are not those of Windows
    import struct

    owner, group = _sid(_ADMINISTRATORS), _sid(_SYSTEM)
    aces = b"".join(_ace(*ace) for ace in (_DIRECTORY_ACCESS if is_directory else _FILE_ACCESS))
    count = len(_DIRECTORY_ACCESS if is_directory else _FILE_ACCESS)
    access = struct.pack("<BBHHH", 2, 0, 8 + len(aces), count, 0) + aces
    offset = 20  # of the owner, after the header
    group_at, access_at = offset + len(owner), offset + len(owner) + len(group)
    present, self_relative = 0x4, 0x8000
    header = struct.pack("<BBHIIII", 1, 0, present | self_relative, offset, group_at, 0, access_at)
    return base64.b64encode(header + owner + group + access)


def _sid(sid: _Sid) -> bytes:
    authority, parts = sid
    numbers = b"".join(part.to_bytes(4, "little") for part in parts)
    return bytes((1, len(parts))) + authority.to_bytes(6, "big") + numbers


def _ace(flags: int, mask: int, sid: _Sid) -> bytes:
    """An entry of an access list that allows something."""
    whom = _sid(sid)
    return bytes((0, flags)) + (8 + len(whom)).to_bytes(2, "little") + mask.to_bytes(4, "little") + whom
