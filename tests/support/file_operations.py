"""Arbitrary changes of files, for property tests."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

OLD = 1_000_000_000

def rewrite(path: Path, data: bytes, at: int = OLD) -> None:
    """Write a file and set its time."""
    path.write_bytes(data)
    os.utime(path, (at, at))


NAMES = st.sampled_from(["a", "b", "c", "\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
VERBS = ["write", "mkdir", "remove", "symlink", "link", "rename", "chmod", "touch", "fifo", "chown"]
Operation: TypeAlias = tuple[str, str, str, int]  # a verb, a path, a second path, a number


def operations(verbs: list[str], paths: st.SearchStrategy[str] = PATHS) -> st.SearchStrategy[list[Operation]]:
    """Lists of operations for `perform`."""
    return st.lists(st.tuples(st.sampled_from(verbs), paths, paths, st.integers(0, 3)), max_size=14)


OPERATIONS = operations(VERBS)


def perform(root: Path, operations: list[Operation]) -> None:
    """Do the operations below a directory; those that the kernel refuses do nothing."""
    for verb, one, two, number in operations:
        first, second = root / one, root / two
        try:
            match verb:
                case "write":
                    if first.is_symlink() or first.is_fifo():  # opening a FIFO waits for a reader
                        continue
                    rewrite(first, b"x" * number, OLD + number % 2)
                case "mkdir":
                    first.mkdir()
                case "remove":
                    shutil.rmtree(first) if first.is_dir() and not first.is_symlink() else first.unlink()
                case "symlink":
                    first.symlink_to(two)
                    os.utime(first, (OLD, OLD), follow_symlinks=False)
                case "link":
                    os.link(first, second, follow_symlinks=False)
                case "rename":
                    first.rename(second)
                case "chmod":
                    os.chmod(first, 0o700 + number)
                case "touch":
                    os.utime(first, (OLD, OLD + number), follow_symlinks=False)
                case "fifo":
                    os.mkfifo(first)
                    os.utime(first, (OLD, OLD))
                case "chown":
                    os.chown(first, number, number, follow_symlinks=False)
        except (OSError, shutil.Error):
            continue
