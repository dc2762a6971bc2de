"""The process that fuzzes one target: `python -m tests.fuzz.fuzz TARGET [option or directory of libFuzzer]...`"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pybuild"]):
    from tests.fuzz.target import load

    target = load(sys.argv[1])


def read(data: bytes) -> None:
    target.read(data)


atheris.Setup([sys.argv[0], *sys.argv[2:]], read)
atheris.Fuzz()
