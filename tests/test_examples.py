"""The projects in examples/, as far as a machine without a network can try them; `make examples` tries all of it."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.examples.bases import NAME
from tests.examples.table import EXAMPLES
from tests.examples.trial import EXAMPLES as PLACE
from tests.support.cli import BASE, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

NAMES = sorted(path.name for path in PLACE.iterdir() if path.is_dir())
INDEX = (PLACE / "README.md").read_text()


def test_each_directory_is_tried() -> None:
    assert sorted(EXAMPLES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_passes_the_checks(name: str, pybuild: Pybuild) -> None:
    pybuild("tag", BASE, NAME)
    done = pybuild("build", "--check", PLACE / name)
    assert "no warnings found" in done.err + done.out
    assert "note:" not in done.err, "a check needs something that the store does not have"


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_complete(name: str) -> None:
    page = (PLACE / name / "README.md").read_text()
    assert f"examples/{name}\n" in page, "its README does not have the command"
    assert re.search(r"^What comes out: \d", page, re.MULTILINE), "its README does not say what comes out"
    assert f"| [{name}]({name}/README.md) | " in INDEX
    assert re.search(rf"^\| {name} \| [\d.]+ \| ", INDEX, re.MULTILINE), "its figures are not in the index"
    assert (PLACE / name / ".dockerignore").exists()
    recipe = (PLACE / name / "Dockerfile").read_text()
    assert re.search(r"^USER (?!root|0)", recipe, re.MULTILINE), "the image runs as root"
    assert "org.opencontainers.image.title" in recipe


@pytest.mark.parametrize("name", NAMES)
def test_the_edit_is_of_one_place(name: str) -> None:
    file, old, new = EXAMPLES[name].edit
    assert (PLACE / name / file).read_text().count(old) == 1
    assert old != new


def test_no_page_names_an_example_that_is_gone() -> None:
    assert set(re.findall(r"\]\(([\w-]+)/README\.md\)", INDEX)) == set(NAMES)


def test_the_site_is_built_served_and_built_again(pybuild: Pybuild, tmp_path: Path) -> None:
    """The stage of the nginx example that needs no package, on the base of the tests."""
    pybuild("tag", BASE, NAME)
    context = tmp_path / "nginx"
    shutil.copytree(PLACE / "nginx", context)
    build = ("build", "--progress=json", "--target=site", "-t", "site", context)
    first = pybuild(*build)
    assert set(first.finished().values()) == {False}
    serve = "httpd -p 127.0.0.1:8080 -h /site && wget -q -O - http://127.0.0.1:8080/ && zcat /site/style.css.gz"
    visit = write_context(tmp_path / "visit", f"FROM site\nRUN --network=none {serve}\n")
    done = pybuild("build", "--progress=plain", visit)
    assert "<h1>A site</h1>" in done.err and "sans-serif" in done.err

    assert set(pybuild(*build).finished().values()) == {True}
    file, old, new = EXAMPLES["nginx"].edit
    (context / file).write_text((context / file).read_text().replace(old, new))
    (context / "README.md").write_text("changed, and not part of the context\n")
    assert set(pybuild(*build).finished().values()) == {False}
    assert "<h1>Another site</h1>" in pybuild("build", "--progress=plain", visit).err
