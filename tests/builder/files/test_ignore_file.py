"""The ignore file of a build: which file it is, and which kinds of files are refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.errors import BuildError
from pybuild.builder.files.ignore_file import IgnoreText, read_ignore_file

if TYPE_CHECKING:
    from pathlib import Path


def test_the_ignore_file_of_the_recipe_comes_before_that_of_the_context(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/.dockerignore").write_text("context")
    recipe = tmp_path / "My.recipe"
    theirs = IgnoreText(str(tmp_path / "context/.dockerignore"), "context")
    assert read_ignore_file(str(tmp_path / "context"), str(recipe)) == theirs
    (tmp_path / "My.recipe.dockerignore").write_text("own")
    assert read_ignore_file(str(tmp_path / "context"), str(recipe)) == IgnoreText(f"{recipe}.dockerignore", "own")


def test_a_context_can_have_no_ignore_file(tmp_path: Path) -> None:
    assert read_ignore_file(str(tmp_path), str(tmp_path / "Buildfile")) is None


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "dangling"])
def test_an_ignore_file_must_be_a_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".dockerignore"
    match kind:
        case "link":
            path.symlink_to("/etc/passwd")
        case "dangling":
            path.symlink_to("nowhere")
        case "directory":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(BuildError, match=r"ignore file \.dockerignore: must be a regular file"):
        read_ignore_file(str(tmp_path), str(tmp_path / "Buildfile"))
