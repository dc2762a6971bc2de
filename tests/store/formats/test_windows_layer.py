"""Layers of Windows: what their entries have besides those of other layers."""

from __future__ import annotations

import base64
import io
import struct
import tarfile
from typing import TYPE_CHECKING

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.formats.windows_layer import is_windows_layer, windows_records, with_hives
from pybuild.store.layers.write import write_layer

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Entry(b"Files/app.exe", Kind.FILE, 0o644, size=2, offset=0)


class Content:
    def chunks(self, entry: Entry) -> Iterator[bytes]:
        yield b"x" * entry.size


def members(entries: list[Entry]) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    write_layer(entries, Content(), out, Compression.UNCOMPRESSED)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_each_layer_has_both_directories_and_nothing_stays_nothing() -> None:
    entries = with_hives([FILE])
    assert [entry.path for entry in entries] == [b"Files", b"Files/app.exe", b"Hives"]
    assert is_windows_layer(entries) and with_hives(entries) == entries
    assert with_hives([]) == []


def test_files_and_directories_have_attributes_and_an_owner() -> None:
    found = members(with_hives([FILE]))
    assert found["Files/app.exe"].pax_headers["MSWINDOWS.fileattr"] == "32"
    assert found["Files"].pax_headers == {"MSWINDOWS.fileattr": "16"}
    record = base64.b64decode(found["Files/app.exe"].pax_headers["MSWINDOWS.rawsd"])
    revision, _, control, owner, group, audit, access = struct.unpack_from("<BBHIIII", record)
    assert (revision, control, audit) == (1, 0x8004, 0)
    assert struct.unpack_from("<BB6sII", record, owner) == (1, 2, b"\0\0\0\0\0\5", 32, 544)  # Administrators
    assert struct.unpack_from("<BB6sI", record, group) == (1, 1, b"\0\0\0\0\0\5", 18)  # SYSTEM
    assert struct.unpack_from("<BBHHH", record, access) == (2, 0, len(record) - access, 3, 0)


def test_links_have_none() -> None:
    assert windows_records(Entry(b"Files/l", Kind.SYMLINK, link=b"x")) == ()
    assert windows_records(FILE._replace(hardlink=b"Files/other")) == ()


def test_a_layer_with_only_one_of_the_directories_is_an_ordinary_one() -> None:
    found = members([Entry(b"Files", Kind.DIRECTORY, 0o755), FILE])
    assert found["Files/app.exe"].pax_headers == {}
