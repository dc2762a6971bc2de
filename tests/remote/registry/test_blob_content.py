"""Content that is checked while it is sent, in any order of parts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.remote.errors import Unreachable
from pybuild.remote.registry.blob_content import PIECE, CheckedContent, SourceFailed
from pybuild.store.errors import DigestMismatch
from pybuild.store.formats.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 5 * PIECE + 1234
DATA = random.Random(1).randbytes(SIZE)


class Place:
    """Where content is read; it counts how often reading begins."""

    def __init__(self, data: bytes, step: int = 100_000) -> None:
        self.data = data
        self.step = step
        self.begun: list[int] = []

    def read(self, offset: int) -> Iterator[bytes]:
        self.begun.append(offset)
        for position in range(offset, len(self.data), self.step):
            yield self.data[position : position + self.step]


def content(place: Place, digest: Digest | None = None, size: int | None = None) -> CheckedContent:
    return CheckedContent(digest or Digest.of(place.data), len(place.data) if size is None else size, place.read, "a blob")


def sent(checked: CheckedContent, offset: int, size: int) -> bytes:
    return b"".join(checked.pieces(offset, size))


@given(st.integers(20_000, SIZE), st.integers(500, 200_000))
def test_parts_one_after_the_other_are_read_once(chunk: int, step: int) -> None:
    place = Place(DATA, step)
    checked = content(place)
    parts = [sent(checked, offset, min(chunk, SIZE - offset)) for offset in range(0, SIZE, chunk)]
    assert b"".join(parts) == DATA
    assert place.begun == [0]


@given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8))
def test_any_part_can_be_sent_again(parts: list[tuple[int, int]]) -> None:
    checked = content(Place(DATA))
    for offset, size in parts:
        size = min(size, SIZE - offset)
        assert sent(checked, offset, size) == DATA[offset : offset + size]


def test_after_a_break_reading_begins_close_to_it() -> None:
    place = Place(DATA)
    checked = content(place)
    pieces = checked.pieces(0, SIZE)
    for _ in range(4):
        next(pieces)
    assert sent(checked, 2 * PIECE + 5, SIZE - 2 * PIECE - 5) == DATA[2 * PIECE + 5 :]
    assert place.begun == [0, 2 * PIECE]


@pytest.mark.parametrize("at", [0, PIECE, SIZE - 1])
@pytest.mark.parametrize("chunk", [SIZE, PIECE, 100_000])
def test_the_last_piece_of_wrong_content_is_never_sent(at: int, chunk: int) -> None:
    wrong = bytearray(DATA)
    wrong[at] ^= 1
    checked = content(Place(bytes(wrong)), Digest.of(DATA))
    out = bytearray()
    with pytest.raises(SourceFailed, match="the content has the digest") as caught:
        for offset in range(0, SIZE, chunk):
            for piece in checked.pieces(offset, min(chunk, SIZE - offset)):
                out += piece
    assert isinstance(caught.value.error, DigestMismatch)
    assert len(out) <= 5 * PIECE


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1, 0])
def test_another_size_is_an_error(size: int) -> None:
    with pytest.raises(SourceFailed, match=r"digest|only"):
        sent(content(Place(DATA), size=size), 0, size)


def test_empty_content() -> None:
    assert sent(content(Place(b"")), 0, 0) == b""


def test_content_that_changes_between_two_tries_is_an_error() -> None:
    """A hostile source sends a wrong piece, breaks, and sends the right one when it is asked again."""
    wrong = bytearray(DATA)
    wrong[PIECE + 9] ^= 1
    place = Place(bytes(wrong))
    checked = content(place, Digest.of(DATA))
    pieces = checked.pieces(0, SIZE)
    for _ in range(3):
        next(pieces)
    place.data = DATA
    with pytest.raises(SourceFailed, match="other bytes than at the first time"):
        sent(checked, PIECE + 100, SIZE - PIECE - 100)


def test_many_states_are_not_kept() -> None:
    data = bytes(2000 * PIECE)
    place = Place(data, 1 << 20)
    checked = content(place)
    for _ in checked.pieces(0, len(data)):
        pass
    assert len(checked._states) <= 1024
    assert sent(checked, 10 * PIECE, PIECE) == bytes(PIECE)
    assert place.begun == [0, 0]


def test_an_error_of_the_source_is_not_one_of_the_upload() -> None:
    def fail(offset: int) -> Iterator[bytes]:
        raise Unreachable("gone")
        yield b""

    with pytest.raises(SourceFailed) as caught:
        sent(CheckedContent(Digest.of(b"x"), 1, fail, "a blob"), 0, 1)
    assert isinstance(caught.value.error, Unreachable)
