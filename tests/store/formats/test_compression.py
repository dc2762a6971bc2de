"""Compressed streams: every compression of layers, damaged streams, and decompression bombs."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats import compression
from pybuild.store.formats.compression import Compression, Compressor, DecompressingReader, sniff
from pybuild.store.system.syscalls import start_writing
from tests.support.limits import at_most

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROPERTY = settings(max_examples=200)
TEXT = b"".join(b"%d squared is %d\n" % (i, i * i) for i in range(40_000))
MAKE: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.compress, Compression.ZSTD: zstandard.compress, Compression.UNCOMPRESSED: bytes}
SKIPPABLE = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"


def expand(data: bytes, kind: Compression | None = None, piece: int = 100_000) -> bytes:
    reader = DecompressingReader(io.BytesIO(data), kind)
    pieces = []
    while chunk := reader.read(piece):
        pieces.append(chunk)
    out = b"".join(pieces)
    assert reader.diff_id().hex == hashlib.sha256(out).hexdigest()
    assert reader.expanded_bytes == len(out)
    return out


@given(
    pieces=st.lists(st.binary(max_size=3000), max_size=6),
    kind=st.sampled_from(list(Compression)),
    piece=st.integers(1, 5000),
)
@PROPERTY
def test_compressed_data_is_decompressed_unchanged(pieces: list[bytes], kind: Compression, piece: int) -> None:
    out = io.BytesIO()
    with Compressor(out, kind) as compressor:
        for data in pieces:
            compressor.write(data)
        digest = compressor.finish()
    stored = out.getvalue()
    assert (digest.hex, compressor.size) == (hashlib.sha256(stored).hexdigest(), len(stored))
    assert expand(stored, kind, piece) == b"".join(pieces)


@pytest.mark.parametrize("kind", Compression)
def test_the_same_bytes_give_the_same_blob(kind: Compression) -> None:
    def blob() -> bytes:
        out = io.BytesIO()
        with Compressor(out, kind) as compressor:
            compressor.write(TEXT)
            compressor.finish()
        return out.getvalue()

    assert blob() == blob()
    assert sniff(blob()[:4]) is kind
    assert expand(blob()) == TEXT


def test_writing_a_large_blob_to_the_disk_begins_before_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(compression, "_WRITEBACK", 3 << 20)
    monkeypatch.setattr(compression, "start_writing", lambda fd, offset, size: begun.append((offset, size)))
    with open(tmp_path / "blob", "wb") as out, Compressor(out, Compression.UNCOMPRESSED) as compressor:
        compressor.write(bytes(7 << 20))
        compressor.finish()
    assert begun == [(0, 3 << 20), (3 << 20, 3 << 20)]
    with open(tmp_path / "blob", "rb") as whole:
        start_writing(whole.fileno(), 0, 1 << 20)
        assert whole.read() == bytes(7 << 20)


@pytest.mark.parametrize("kind", Compression)
def test_a_blob_does_not_depend_on_the_sizes_of_the_writes(kind: Compression) -> None:
    numbers = random.Random(1)
    data = b"".join(numbers.randbytes(5_000) + bytes(7_000) for _ in range(300))

    def blob(piece: int) -> bytes:
        out = io.BytesIO()
        before: list[bytes] = []
        with Compressor(out, kind, before.append) as compressor:
            for at in range(0, len(data), piece):
                compressor.write(data[at : at + piece])
            digest = compressor.finish()
        assert digest.hex == hashlib.sha256(out.getvalue()).hexdigest()
        assert b"".join(before) == data
        return out.getvalue()

    whole = blob(len(data))
    assert blob(700) == blob(1 << 20) == blob(1_234_567) == whole
    assert expand(whole, kind) == data


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gzip.compress(TEXT) + gzip.compress(b"more"), Compression.GZIP),
        (gzip.compress(b"") + gzip.compress(TEXT) + gzip.compress(b"more"), Compression.GZIP),
        (b"".join(gzip.compress(b"%d" % i) for i in range(3000)), Compression.GZIP),
        (gzip.compress(TEXT) + bytes(5000), Compression.GZIP),
        (zstandard.compress(TEXT) + zstandard.compress(b"more"), Compression.ZSTD),
        (SKIPPABLE + zstandard.compress(TEXT) + SKIPPABLE + zstandard.compress(b"more"), Compression.ZSTD),
        (zstandard.compress(TEXT) + bytes(5000), Compression.ZSTD),
    ],
)
def test_a_stream_of_several_members_or_frames_is_read(data: bytes, kind: Compression) -> None:
    reader = DecompressingReader(io.BytesIO(data))
    assert reader.kind is kind
    assert expand(data) in (TEXT, TEXT + b"more", b"".join(b"%d" % i for i in range(3000)))


def damaged(data: bytes, position: int) -> bytes:
    position %= len(data)
    return data[:position] + bytes((data[position] ^ 0xFF,)) + data[position + 1 :]


CHECKED = zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Compression.GZIP),
        (b"", Compression.ZSTD),
        (b"plain", Compression.GZIP),
        (b"plain", Compression.ZSTD),
        (gzip.compress(TEXT), Compression.ZSTD),
        (zstandard.compress(TEXT), Compression.GZIP),
        (gzip.compress(TEXT) + b"garbage", Compression.GZIP),
        (zstandard.compress(TEXT) + b"garbage", Compression.ZSTD),
        (damaged(gzip.compress(TEXT), -1), Compression.GZIP),
        (damaged(gzip.compress(TEXT), -5), Compression.GZIP),
        (damaged(gzip.compress(TEXT), 5000), Compression.GZIP),
        (damaged(CHECKED, -1), Compression.ZSTD),
        (damaged(CHECKED, 5000), Compression.ZSTD),
        (gzip.compress(TEXT)[:-1], Compression.GZIP),
        (gzip.compress(TEXT)[:-8], Compression.GZIP),
        (gzip.compress(TEXT)[:1000], Compression.GZIP),
        (zstandard.compress(TEXT)[:-1], Compression.ZSTD),
        (zstandard.compress(TEXT)[:1000], Compression.ZSTD),
        (SKIPPABLE[:-1], Compression.ZSTD),
        (b"\x28\xb5\x2f\xfd\x00\x90" + zstandard.compress(TEXT)[6:], Compression.ZSTD),  # a window of 256 MiB
    ],
)  # fmt: skip
def test_a_damaged_stream_is_refused(data: bytes, kind: Compression) -> None:
    with pytest.raises(InvalidImage, match=kind.value):
        expand(data, kind)


class Pieces:
    """A stream that returns these pieces, one in each read."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_data_behind_padding_is_refused_wherever_the_reads_end(kind: Compression) -> None:
    member = MAKE[kind](b"x")
    assert DecompressingReader(Pieces(member, bytes(9), bytes(9))).diff_id()
    for pieces in ((member + bytes(9) + member,), (member + bytes(9), member), (member, bytes(9), member)):
        with pytest.raises(InvalidImage, match=kind.value):
            DecompressingReader(Pieces(*pieces)).diff_id()


def test_the_decompressed_size_is_limited() -> None:
    assert DecompressingReader(io.BytesIO(gzip.compress(bytes(1000))), limit=at_most(1000)).diff_id()
    with pytest.raises(InvalidImage, match="limit of 999 bytes"):
        DecompressingReader(io.BytesIO(gzip.compress(bytes(1000))), limit=at_most(999)).diff_id()


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_zeros_are_not_refused_for_compressing_well(kind: Compression) -> None:
    assert len(expand(MAKE[kind](bytes(64 << 20)), kind)) == 64 << 20


BOMB = """
import io, resource, sys
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.errors import InvalidImage
from pybuild.values.limits import Limit, Unit
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
limit = Limit("bomb", 1 << 30, Unit.BYTES, "this bomb")
reader = DecompressingReader(io.BytesIO(data), limit=limit)
try:
    while reader.read(1 << 20):
        pass
except InvalidImage as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_takes_little_memory(kind: str, tmp_path: Path) -> None:
    """1.5 GiB of zeros: without a limit each library would decompress a whole chunk of input into one object."""
    if kind == "gzip":
        data = gzip.compress(bytes(512 << 20)) * 3
    else:
        # One block of 128 KiB that repeats a byte takes four bytes: RFC 8878, section 3.1.1.2.
        block = struct.pack("<I", (131_072 << 3) | (1 << 1))[:3] + b"\0"
        data = b"\x28\xb5\x2f\xfd\x00\x58" + block * 12_288 + struct.pack("<I", 1)[:3]
    path = tmp_path / "bomb"
    path.write_bytes(data)
    done = subprocess.run([sys.executable, "-c", BOMB, path], capture_output=True, check=True, text=True)
    message, kilobytes = done.stdout.splitlines()
    assert "expands to more than the limit of 1 GiB" in message
    assert int(kilobytes) < 200_000
