"""What waits for its feature is refused at its place, and only that."""

from __future__ import annotations

import pytest

from builder import unsupported
from builder.errors import PlanError
from builder.unsupported import refuse_unsupported
from parser import parse

INSTRUCTIONS = {
    "ADD": "ADD a /b",
    "HEALTHCHECK": "HEALTHCHECK NONE",
    "MAINTAINER": "MAINTAINER a",
    "ONBUILD": "ONBUILD RUN a",
}
FLAGS = {
    ("ADD", "checksum"): "ADD --checksum=abcd a /b",
    ("ADD", "keep-git-dir"): "ADD --keep-git-dir a /b",
    ("ADD", "link"): "ADD --link a /b",
    ("ADD", "unpack"): "ADD --unpack a /b",
    ("ADD", "exclude"): "ADD --exclude=a b /c",
    ("COPY", "exclude"): "COPY --exclude=a b /c",
    ("COPY", "link"): "COPY --link a /b",
    ("COPY", "parents"): "COPY --parents a /b",
    ("FROM", "platform"): "FROM --platform=linux/amd64 b",
    ("RUN", "device"): "RUN --device=a/b=c d",
}
MOUNTS = {
    "bind": "target=/a",
    "cache": "target=/a",
    "secret": "id=a",
    "ssh": "required",
    "tmpfs": "target=/a",
}


def refusal(text: str) -> str | None:
    try:
        refuse_unsupported(parse(f"FROM a\n{text}\nFROM a"))
    except PlanError as error:
        assert error.span is not None
        return f"{error.span.line}:{error.span.column} {error}"
    return None


@pytest.mark.parametrize("keyword", sorted(INSTRUCTIONS))
def test_an_instruction_that_waits_is_refused_where_it_begins(keyword: str) -> None:
    expected = f"2:1 {keyword} is not supported yet" if keyword in unsupported._INSTRUCTIONS else None
    assert refusal(INSTRUCTIONS[keyword]) == expected


@pytest.mark.parametrize("flag", sorted(FLAGS), ids=" --".join)
def test_a_flag_that_waits_is_refused_where_it_stands(flag: tuple[str, str]) -> None:
    keyword, name = flag
    if keyword in unsupported._INSTRUCTIONS:
        expected = f"2:1 {keyword} is not supported yet"
    elif flag in unsupported._FLAGS:
        expected = f"2:{len(keyword) + 2} {keyword} --{name} is not supported yet"
    else:
        assert refusal(FLAGS[flag]) is None
        return
    assert refusal(FLAGS[flag]) == expected


@pytest.mark.parametrize("kind", sorted(MOUNTS))
def test_a_mount_that_waits_is_refused_where_its_flag_stands(kind: str) -> None:
    expected = f"2:5 mounts of type {kind} are not supported yet" if kind in unsupported._MOUNTS else None
    assert refusal(f"RUN --mount=type={kind},{MOUNTS[kind]} c") == expected


def test_every_line_of_the_tables_is_tested() -> None:
    assert set(INSTRUCTIONS) >= unsupported._INSTRUCTIONS
    assert set(FLAGS) >= unsupported._FLAGS
    assert set(MOUNTS) >= unsupported._MOUNTS


def test_what_is_there_is_not_refused() -> None:
    text = "ARG A\nENV B=c\nLABEL d=e\nRUN f\nCOPY --from=g --chown=1 --chmod=755 h /i\nWORKDIR /j\nUSER k\nCMD l\nENTRYPOINT m"
    assert refusal(f'{text}\nEXPOSE 1\nVOLUME /n\nSHELL ["o"]\nSTOPSIGNAL 9') is None
