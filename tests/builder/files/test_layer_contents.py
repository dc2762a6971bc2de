"""Files of a layer that is stored only as a blob: each file is checked against its digest, and the rest is not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.builder.files.layer_contents import BlobPlace, LayerPlace, StoredContents
from pybuild.store.errors import DigestMismatch
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Entry, Kind, encode
from pybuild.store.layers.write import write_layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SIZE = 3000


class _Letters:
    """Files whose content is their name."""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        yield entry.path * entry.size


def _layer(directory: Path) -> tuple[LayerPlace, tuple[Entry, ...]]:
    entries = [Entry(name, Kind.FILE, 0o644, size=_SIZE) for name in (b"a", b"b", b"c")]
    with open(directory / "blob", "wb") as out:
        layer = write_layer(entries, _Letters(), out, Compression.UNCOMPRESSED)
    (directory / "toc").write_bytes(encode(layer.entries))
    blob = BlobPlace(str(directory / "blob"), str(layer.digest), layer.size, "uncompressed")
    return LayerPlace("1", str(directory / "toc"), None, blob), layer.entries


def _read(place: LayerPlace, entry: Entry, spool: Path) -> bytes:
    with StoredContents([place], str(spool)) as contents:
        return b"".join(contents.chunks(0, entry))


def test_a_file_is_read_although_the_rest_of_the_blob_is_missing(tmp_path: Path) -> None:
    place, (_, second, third) = _layer(tmp_path)
    with open(tmp_path / "blob", "r+b") as blob:
        blob.truncate(third.offset)
    assert _read(place, second, tmp_path / "spool") == b"b" * _SIZE
    with pytest.raises(DigestMismatch, match="the bytes do not match"):
        _read(place, third, tmp_path / "another")


def test_a_file_that_does_not_match_its_digest_is_an_error(tmp_path: Path) -> None:
    place, (first, second, _) = _layer(tmp_path)
    with open(tmp_path / "blob", "r+b") as blob:
        blob.seek(second.offset + 7)
        blob.write(b"x")
    assert _read(place, first, tmp_path / "spool") == b"a" * _SIZE
    with pytest.raises(DigestMismatch, match=f'blob {place.blob and place.blob.digest}: "b" does not match its digest'):
        _read(place, second, tmp_path / "another")
