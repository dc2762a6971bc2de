"""Untrusted text made safe for one line of a terminal."""

from __future__ import annotations

import re

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.progress.terminal_text import clip, harmless

ESC = "\x1b"
ROWS = {
    "plain": (b"text", 10, "text"),
    "cut": (b"0123456789ab", 10, "012345678…"),
    "just fits": (b"0123456789", 10, "0123456789"),
    "no room": (b"text", 0, ""),
    "a colour ends with the line": (b"\x1b[1;31mred", 10, "\x1b[1;31mred\x1b[0m"),
    "colons in colours": (b"\x1b[38:2::1:2:3mx", 10, "\x1b[38:2::1:2:3mx\x1b[0m"),
    "a colour takes no room": (b"\x1b[31m0123456789", 10, "\x1b[31m0123456789\x1b[0m"),
    "what is cut keeps its colour": (b"\x1b[31m0123456789a", 10, "\x1b[31m012345678…\x1b[0m"),
    "colours without bound": (b"\x1b[" + b"1;" * 100 + b"mx", 10, "x"),
    "cursor": (b"a\x1b[2Jb\x1b[10;10Hc\x1b[?25ld", 10, "abcd"),
    "title": (b"\x1b]0;title\x07x", 10, "x"),
    "title with a string terminator": (b"\x1b]0;title\x1b\\x", 10, "x"),
    "link": (b"\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\", 10, "here"),
    "a string that never ends": (b"a\x1bPqqq", 10, "a"),
    "a query": (b"a\x1b[6n\x1b[c\x1bZb", 10, "ab"),
    "character set": (b"\x1b(0lqk", 10, "lqk"),
    "reset": (b"a\x1bcb", 10, "ab"),
    "a lone escape": (b"a\x1b", 10, "a"),
    "one-byte controls": ("a\x9b2Jb\x9d0;t\x07c\x85d".encode(), 10, "abcd"),
    "bell, backspace, shift out": (b"a\x07\x08\x0e\x0fb\x00\x7f", 10, "ab"),
    "not UTF-8": (b"a\xffb\xc3", 10, "a�b�"),
    "wide": ("日本語日本語".encode(), 10, "日本語日…"),
    "wide, and one cell left": ("a日本語日b".encode(), 10, "a日本語日b"),
    "combining": ("e\u0301\u0301\u0301\u0301x".encode(), 2, "e\u0301\u0301x"),
    "directions": ("a\u202eb\u2066c\u200d".encode(), 10, "abc"),
    "variants": ("\u2764\ufe0f".encode(), 10, "\u2764"),
    "tabs": (b"a\tb", 20, "a       b"),
    "a tab at the end": (b"0123456\t89", 10, "0123456 89"),
    "other spaces": ("a\u00a0b\u3000c".encode(), 10, "a b c"),
    "progress bar": (b"10%\r20%\r30%", 10, "30%"),
    "progress bar at the end of its line": (b"10%\r20%\r", 10, "20%"),
}


@pytest.mark.parametrize(("data", "columns", "expected"), ROWS.values(), ids=ROWS)
def test_a_line_of_output(data: bytes, columns: int, expected: str) -> None:
    assert harmless(data, columns) == expected


def test_colours_can_be_disabled() -> None:
    assert harmless(b"\x1b[31mred", 10, colour=False) == "red"
    assert clip("\x1b[31mred") == "red"


def test_a_million_escapes_take_no_time() -> None:
    assert harmless(b"\x1b]" * 500_000 + b"x") == harmless(b"\x1b[1" * 300_000).replace("1", "") == ""


PIECES = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(["\x1b[31m", "\x1b[", "\x1b]0;", "\x07", "\x1b\\", "\t", "\r", "日", "\u0301", "\x1b[9999C", "\x9b"]),
    ),
    max_size=12,
).map("".join)


@given(PIECES, st.integers(0, 30))
def test_no_text_leaves_its_line(text: str, columns: int) -> None:
    """A terminal emulator that receives the line and then a mark on the next line shows both in the right rows."""
    line = harmless(text.encode("utf-8", "replace"), columns)
    assert set(re.findall(f"{ESC}.", line.replace(f"{ESC}[", ""))) == set()
    screen = pyte.Screen(40, 3)
    pyte.Stream(screen).feed(f"{line}|\r\nmark")
    assert screen.cursor.y == 1
    assert screen.display[1].rstrip() == "mark"
    assert max(column for column in range(40) if screen.buffer[0][column].data.startswith("|")) <= columns
