"""Listing a context: everything that COPY finds is sent, and every excluded path names the line that excludes it."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.builder.errors import BuildError
from pybuild.builder.files.context_directory import ContextTree
from pybuild.builder.sources import context_listing
from pybuild.builder.sources.context_listing import Listing, list_directory
from pybuild.parser import IgnoreFile
from pybuild.store.formats.toc import Kind
from pybuild.values.limits import applied

PATHS = (
    ".git/config", "a.log", "b/b.log", "b/c/a.log", "b/c/keep", "b/x", "c/a/b/x", "c/a.log", "node/m/x", "node/m/b/x", "x",
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "c", "x", "m", "node", "*", "**", "*.log", "b*", "?", "keep"])
LINES = st.builds(
    lambda mark, parts: mark + "/".join(parts), st.sampled_from(["", "", "!"]), st.lists(NAMES, min_size=1, max_size=3)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path)
    return tmp_path


def make(root: Path) -> None:
    for path in PATHS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def sent(found: Listing) -> list[str]:
    return [os.fsdecode(row.entry.path) + ("/" if row.entry.kind is Kind.DIRECTORY else "") for row in found.sent]


def excluded(found: Listing) -> dict[str, int]:
    return {os.fsdecode(row.entry.path): row.line.number for row in found.excluded}


def test_without_an_ignore_file_everything_is_sent(root: Path) -> None:
    found = list_directory(str(root), None)
    assert (found.excluded, found.ignore_file, found.exceeds) == ((), None, None)
    assert sent(found) == sorted(sent(found), key=lambda path: path.split("/"))
    assert {path for path in sent(found) if not path.endswith("/")} == set(PATHS)
    assert found.size == sum(map(len, PATHS))


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        pytest.param("node\n", {"node": 1}, id="a directory is named once"),
        pytest.param("# logs\n\n**/*.log\nb/c\n", {"a.log": 3, "b/b.log": 3, "b/c": 4, "c/a.log": 3}, id="lines count"),
        pytest.param("*.log\n*.log\n", {"a.log": 2}, id="the last line decides"),
        pytest.param("b\n!b/c/keep\n", {"b/b.log": 1, "b/c/a.log": 1, "b/x": 1}, id="files next to an exception"),
        pytest.param("node\n!**/*.none\n", {"node": 1}, id="named once, though an exception might have matched"),
        pytest.param("c\n!c/a/*.none\n", {"c": 1}, id="named once, with an exception deeper in it"),
        pytest.param(
            "*\n!c/a\n", {".dockerignore": 1, ".git": 1, "a.log": 1, "b": 1, "c/a.log": 1, "node": 1, "x": 1}, id="everything except one"
        ),
    ],
)  # fmt: skip
def test_each_excluded_path_has_its_line(root: Path, text: str, gone: dict[str, int]) -> None:
    (root / ".dockerignore").write_text(text)
    found = list_directory(str(root), None)
    assert excluded(found) == gone
    assert found.ignore_file == str(root / ".dockerignore")
    assert all(row.line.text == text.split("\n")[row.line.number - 1] for row in found.excluded)


def test_excluded_directories_are_not_opened(root: Path) -> None:
    """The test records which directories are opened, because root could read them all."""
    (root / ".dockerignore").write_text("node\n")
    opened: list[bytes] = []

    class Watched(ContextTree):
        def _open(self, path: bytes) -> int:
            opened.append(path)
            return super()._open(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_listing, "ContextTree", Watched)
        list_directory(str(root), None)
    assert b"b/c" in opened
    assert not [path for path in opened if path.startswith(b"node")]


@settings(max_examples=200)
@given(st.lists(LINES, max_size=5))
def test_every_path_is_either_sent_or_excluded(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        make(root)
        (root / ".dockerignore").write_text("\n".join(lines))
        found = list_directory(directory, None)
    there, gone = sent(found), excluded(found)
    ignore = IgnoreFile.parse("\n".join(lines))
    for path in (*PATHS, ".dockerignore"):
        parts = path.split("/")
        above = [name for name in ("/".join(parts[:count]) for count in range(1, len(parts) + 1)) if name in gone]
        assert len(above) == (0 if path in there else 1)
        assert ignore.excludes(path) is bool(above)
    assert not [path for path in gone if path + "/" in there]


def test_the_ignore_file_is_that_of_the_recipe(root: Path) -> None:
    (root / ".dockerignore").write_text("x\n")
    (root / "Dockerfile").write_text("FROM scratch\n")
    assert excluded(list_directory(str(root), None)) == {"x": 1}
    (root / "Dockerfile.dockerignore").write_text("\nnode\n")
    found = list_directory(str(root), None)
    assert (excluded(found), found.ignore_file) == ({"node": 2}, f"{root}/Dockerfile.dockerignore")
    (root / "Buildfile").write_text("FROM scratch\n")
    assert excluded(list_directory(str(root), None)) == {"x": 1}
    assert excluded(list_directory(str(root), str(root / "Dockerfile"))) == {"node": 2}
    assert excluded(list_directory(str(root), "-")) == {"x": 1}
    with pytest.raises(BuildError, match="no such file"):
        list_directory(str(root), str(root / "none"))


def test_a_malformed_pattern_is_reported_as_by_a_build(root: Path) -> None:
    (root / ".dockerignore").write_text("a\n[b\n")
    with pytest.raises(BuildError, match=r"ignore file, line 2: malformed"):
        list_directory(str(root), None)


def test_a_context_with_too_many_files_is_listed_in_full(root: Path) -> None:
    with applied({"context-entries": 5}):
        assert list_directory(str(root), None).exceeds == "5 entries"
    assert list_directory(str(root), None).exceeds is None


def test_a_socket_is_listed_as_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        (row,) = list_directory(str(tmp_path), None).sent
    assert (row.socket, row.entry.kind, row.entry.size) == (True, Kind.FILE, 0)
