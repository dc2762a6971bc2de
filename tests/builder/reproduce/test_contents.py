"""What is said of two contents of a file."""

from __future__ import annotations

import gzip
import io
import marshal
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.builder.reproduce.contents import difference


def tar(*members: tuple[str, bytes, int]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data, time in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), time
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(*members: tuple[str, bytes, int]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data, year in members:
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6)), data)
    return out.getvalue()


def pyc(time: int, code: str = "1") -> bytes:
    return b"\xa7\r\r\n" + struct.pack("<III", 0, time, 9) + marshal.dumps(compile(code, "x", "eval"))


def ar(time: int, data: bytes = b"x") -> bytes:
    return b"!<arch>\n" + f"{'m.o/':<16}{time:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data


@pytest.mark.parametrize(
    ("one", "other", "lines"),
    [
        (b"a\nb\nc\n", b"a\nB\nc\n", ["-b", "+B"]),
        (b"a\0b", b"a\0c", ["from byte 2: 62; 63"]),
        (b"a\0", b"a\0c", ["from byte 2: the end; 63"]),
        (pyc(1), pyc(2), ["the time of its source in the header of the .pyc: 1, 2"]),
        (pyc(1), pyc(1, "2"), ["the code in the .pyc"]),
        (gzip.compress(b"x", mtime=1), gzip.compress(b"x", mtime=2), ["the time in the header of gzip: 1, 2"]),
        (gzip.compress(b"x", 1, mtime=1), gzip.compress(b"y", 1, mtime=1), ["-x", "+y"]),
        (tar(("a", b"", 1)), tar(("a", b"", 2)), ["a: time 1, mode 644, owner 0:0; time 2, mode 644, owner 0:0"]),
        (tar(("a", b"1\n", 1), ("b", b"", 1)), tar(("a", b"2\n", 1)), ["a: -1", "a: +2", "b: only in the first archive"]),
        (tar(("a", b"", 1), ("b", b"", 1)), tar(("b", b"", 1), ("a", b"", 1)), ["the order or the form of the members of the archive"]),
        (zipped(("a", b"x", 2001)), zipped(("a", b"x", 2002)), ["a: time 2001-01-02 03:04:06; time 2002-01-02 03:04:06"]),
        (zipped(("t.tgz", gzip.compress(tar(("a", b"1\n", 1)), mtime=0), 2001)), zipped(("t.tgz", gzip.compress(tar(("a", b"2\n", 1)), mtime=0), 2001)), ["t.tgz: a: -1", "t.tgz: a: +2"]),
        (ar(1), ar(2), ["m.o/: time 1, owner 0:0; time 2, owner 0:0"]),
    ],
)  # fmt: skip
def test_what_differs(one: bytes, other: bytes, lines: list[str]) -> None:
    assert difference(one, other) == lines


def test_programs_differ_by_section(tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        source = tmp_path / f"{number}.c"
        source.write_text(f'const char *text = "text {number}"; int main(void) {{ return 0; }}\n')
        subprocess.run(["gcc", "-O0", "-Wl,--build-id", "-o", tmp_path / f"{number}", source], check=True)
        found.append((tmp_path / f"{number}").read_bytes())
    lines = difference(found[0], found[1])
    assert "section .note.gnu.build-id (the build id)" in lines and "section .rodata" in lines


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from([b"", b"PK\3\4", b"\x7fELF\2\1", b"\x1f\x8b", b"!<arch>\n", b"\xa7\r\r\n"]))
def test_anything_can_be_compared(one: bytes, other: bytes, start: bytes) -> None:
    lines = difference(start + one, start + other)
    assert lines and all(isinstance(line, str) for line in lines)
