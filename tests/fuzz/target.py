"""What a fuzz target is, and where its inputs lie.

A target is a module in tests/fuzz/targets with a value TARGET. Its function reads any bytes as one kind of input that
pybuild gets from outside, and checks what has to hold for each of them: the input is read, or refused with an error of
pybuild of bounded length; and where there is a second way to the same answer, both ways agree.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"  # TARGET/NAME: inputs that once mattered, one in each file


@dataclass(frozen=True)
class FuzzTarget:
    """One kind of input.

    `read` returns whether it read the bytes (true) or refused them (false), and raises whatever is a fault. `seeds` are
    valid inputs from which the fuzzer starts, `words` are parts that it inserts, `longest` is the length of its inputs.
    """

    read: Callable[[bytes], bool]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = field(default=())
    longest: int = 4096  # bytes


def names() -> list[str]:
    """The names of all targets."""
    return sorted(path.stem for path in (HERE / "targets").glob("*.py"))


def load(name: str) -> FuzzTarget:
    """The target of this name. Raises ModuleNotFoundError."""
    target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(target, FuzzTarget), name
    return target


def inputs(name: str, target: FuzzTarget) -> Iterator[tuple[str, bytes]]:
    """The seeds of a target and the files of its corpus, each with a name."""
    for number, seed in enumerate(target.seeds):
        yield f"seed {number}", seed
    for path in sorted((CORPUS / name).glob("*")):
        yield path.name, path.read_bytes()


def check_refusal(error: PybuildError) -> bool:
    """Check that an error can be shown to a user; return false, for `return check_refusal(error)` in a target."""
    assert isinstance(error, PybuildError)
    for text in (str(error), error.hint):
        assert text is None or text.strip(), type(error)
        assert text is None or len(text) < 4096, (type(error), len(text))
    return False
