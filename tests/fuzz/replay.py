"""Reads files as the inputs of a target, without a fuzzer: `python -m tests.fuzz.replay TARGET FILE...`

A fault ends it with its traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.target import load


def main(name: str, *paths: str) -> None:
    target = load(name)
    for path in paths:
        print(f"{path}: {'read' if target.read(Path(path).read_bytes()) else 'refused'}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m tests.fuzz.replay TARGET FILE...")
    main(*sys.argv[1:])
