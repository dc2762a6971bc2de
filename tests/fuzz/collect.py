"""Adds to the corpus in the tree what a run of the fuzzer has learned: `python -m tests.fuzz.collect TARGET...`

It takes small inputs, the smallest first, and of them only those that reach a line of pybuild that no seed and no input
before them reaches. So the corpus stays small, and `make test` reaches the lines that the fuzzer has found.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from tests.fuzz.__main__ import CHECKOUT, WORK
from tests.fuzz.target import CORPUS, FuzzTarget, inputs, load

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

LONGEST = 1024  # bytes of an input that is worth keeping
Line = tuple[str, int]


class Tracer:
    """Collects the lines of pybuild that run."""

    def __init__(self) -> None:
        self.lines: set[Line] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(str(CHECKOUT / "pybuild")):
            return None
        if event == "line":
            self.lines.add((name, frame.f_lineno))
        return self


def lines_of(target: FuzzTarget, data: bytes) -> set[Line]:
    """The lines that reading an input runs."""
    tracer = Tracer()
    sys.settrace(tracer)
    try:
        target.read(data)
    finally:
        sys.settrace(None)
    return tracer.lines


def collect(name: str) -> int:
    """Add to the corpus of one target; return the number of new files."""
    target = load(name)
    known: set[Line] = set()
    for _, data in inputs(name, target):
        known |= lines_of(target, data)
    count = 0
    for path in sorted((WORK / name / "corpus").iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        if len(data) > LONGEST or not (new := lines_of(target, data) - known):
            continue
        known |= new
        count += 1
        place = CORPUS / name / hashlib.sha256(data).hexdigest()[:12]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
    print(f"{name}: {count} new inputs, {len(known)} lines reached")
    return count


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.fuzz.collect TARGET...")
    for one in sys.argv[1:]:
        collect(one)
