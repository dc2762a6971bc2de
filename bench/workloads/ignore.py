"""An ignore file with 1,000 patterns and a context with 100,000 paths; smaller sizes show how the time grows."""

from __future__ import annotations

import random
import shlex
import sys
from typing import TYPE_CHECKING

from bench.row import Contender, Row, floor

if TYPE_CHECKING:
    from pathlib import Path

    from bench.world import World

_PATTERNS, _PATHS = 1000, 100_000
_CURVE = ((100, 100_000), (300, 100_000), (1000, 10_000), (1000, 30_000))
_SUFFIXES = ("py", "c", "h", "o", "txt", "js", "map", "log", "md", "so")


def row(world: World) -> Row:
    """The floor is git with the same patterns as .gitignore, where they mean nearly the same."""
    directory = world.fresh("ignore")
    _write(directory / "paths", _paths())
    _write(directory / "patterns", _patterns())
    world.setup("git", "init", "-q", directory / "git")
    _write(directory / "git/.gitignore", _patterns())
    git = f"git -C {shlex.quote(str(directory / 'git'))} check-ignore --no-index --stdin"
    contenders = [
        _matching(directory, "pybuild", "patterns", "paths"),
        floor(f"{git} < {shlex.quote(str(directory / 'paths'))} | wc -l"),
    ]
    for patterns, paths in _CURVE:
        _write(directory / f"patterns-{patterns}", _patterns()[:patterns])
        _write(directory / f"paths-{paths}", _paths()[:paths])
        name = f"{patterns} x {paths}"
        contenders.append(_matching(directory, name, f"patterns-{patterns}", f"paths-{paths}"))
    return Row("ignore", f"{_PATTERNS} patterns x {_PATHS} paths", tuple(contenders))


def _matching(directory: Path, name: str, patterns: str, paths: str) -> Contender:
    command = (sys.executable, "-m", "bench.match_paths", str(directory / patterns), str(directory / paths))
    return Contender(name, command)


def _paths() -> list[str]:
    numbers = random.Random(100_000)
    return [
        f"dir{numbers.randrange(40)}/sub{numbers.randrange(200)}/part{numbers.randrange(50)}"
        f"/file{numbers.randrange(10_000)}.{numbers.choice(_SUFFIXES)}"
        for _ in range(_PATHS)
    ]


def _patterns() -> list[str]:
    """The common kinds of patterns in alternation: literal paths, wildcards, any depth, and exceptions with !."""
    numbers = random.Random(1000)
    kinds = (
        lambda: f"dir{numbers.randrange(40)}/sub{numbers.randrange(200)}",
        lambda: f"dir{numbers.randrange(40)}/*/part{numbers.randrange(50)}/file{numbers.randrange(1000)}*",
        lambda: f"**/file{numbers.randrange(10_000)}.{numbers.choice(_SUFFIXES)}",
        lambda: f"**/part{numbers.randrange(50)}/*{numbers.randrange(1000)}.{numbers.choice(_SUFFIXES)}",
        lambda: f"**/node_modules{numbers.randrange(100)}/**",
        lambda: f"!dir{numbers.randrange(40)}/sub{numbers.randrange(200)}/part{numbers.randrange(50)}/file1*",
    )
    return [kinds[number % len(kinds)]() for number in range(_PATTERNS)]


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
