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


@pytest.mark.parametrize("recipe", ["Dockerfile", "docker/Dockerfile"])
@pytest.mark.parametrize("target", ["shared/ignore", "/shared/ignore", "../../shared/ignore"])
def test_links_are_followed_inside_the_context(tmp_path: Path, recipe: str, target: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "docker").mkdir()
    (tmp_path / "shared/ignore").write_text("shared")
    for name in (".dockerignore", f"{recipe}.dockerignore"):
        path = tmp_path / name
        path.symlink_to(f"../{target}" if path.parent != tmp_path and target[0] == "s" else target)
        assert read_ignore_file(str(tmp_path), str(tmp_path / recipe)) == IgnoreText(str(path), "shared")


def test_links_next_to_a_recipe_elsewhere_stay_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/shared").write_text("shared")
    link = tmp_path / "recipes/r.dockerignore"
    link.symlink_to("shared")
    recipe = str(tmp_path / "recipes/r")
    assert read_ignore_file(str(tmp_path / "context"), recipe) == IgnoreText(f"{recipe}.dockerignore", "shared")
    link.unlink()
    link.symlink_to("../context/.dockerignore")
    (tmp_path / "context/.dockerignore").write_text("theirs")
    with pytest.raises(BuildError, match=r"which is not in the directory of the recipe$"):
        read_ignore_file(str(tmp_path / "context"), recipe)


@pytest.mark.parametrize("target", ["/etc/passwd", "nowhere", "../elsewhere", "file/below"])
@pytest.mark.parametrize("name", [".dockerignore", "Buildfile.dockerignore"])
def test_a_link_that_leads_nowhere_is_not_taken_for_a_missing_file(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / "elsewhere").write_text("")
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("")
    (context / name).symlink_to(target)
    with pytest.raises(BuildError, match=f"ignore file {name}: a symbolic link to {target}, which is not in the"):
        read_ignore_file(str(context), str(context / "Buildfile"))


@pytest.mark.parametrize(
    ("kind", "reason"), [("directory", "not a regular file"), ("fifo", "not a regular file"), ("loop", "Too many")]
)
def test_an_ignore_file_is_a_regular_file(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / ".dockerignore"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case _:
            path.symlink_to(".dockerignore")
    with pytest.raises(BuildError, match=rf"ignore file \.dockerignore: {reason}"):
        read_ignore_file(str(tmp_path), str(tmp_path / "Buildfile"))
