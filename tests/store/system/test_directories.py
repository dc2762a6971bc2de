"""Replacing the content of a directory: a kill at any moment leaves each name with its old content or its new one."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.store.system import directories, syscalls
from pybuild.store.system.directories import opened_directory, replace_content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = {"file": "old", "tree/file": "old", "tree/gone": "old", "was-tree/file": "old", "was-file": "old", "removed/file": "old"}
NEW = {"file": "new", "tree/file": "new", "tree/added": "new", "was-tree": "new", "was-file/file": "new", "added": "new"}
NAMES = {name.partition("/")[0] for name in OLD | NEW}


def make(place: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files_of(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


def below(files: dict[str, str], name: str) -> dict[str, str]:
    return {path: text for path, text in files.items() if path.partition("/")[0] == name}


def replace(place: Path, steps: int) -> bool:
    """Replace old files by new ones in a child that is killed before one of its changes; whether it was."""
    place.mkdir()
    make(place / "old", OLD)
    make(place / "new", NEW)
    child = os.fork()
    if child == 0:
        left = steps

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                if not left:
                    os._exit(7)
                left -= 1
                return function(*arguments, **named)

            return call

        os.rename, syscalls.exchange = counted(os.rename), counted(syscalls.exchange)
        directories.remove_tree = counted(directories.remove_tree)
        with opened_directory(str(place / "old")) as old, opened_directory(str(place / "new")) as new:
            replace_content(old, new)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_kill_leaves_each_name_old_or_new(tmp_path: Path) -> None:
    steps = 0
    while replace(tmp_path / str(steps), steps):
        found = files_of(tmp_path / str(steps) / "old")
        assert below(found, "removed") == below(OLD, "removed")
        for name in NAMES:
            assert below(found, name) in (below(OLD, name), below(NEW, name)), (steps, name)
        steps += 1
    assert steps > len(NEW)
    assert files_of(tmp_path / str(steps) / "old") == NEW


def test_a_filesystem_that_cannot_exchange_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(syscalls, "exchange", refuse)
    assert not replace(tmp_path / "place", 99)
    assert files_of(tmp_path / "place" / "old") == NEW
