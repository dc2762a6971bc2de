"""The documents say what is: the code blocks of the README run as they stand, and links inside the project lead somewhere."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.config import Config

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text()
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_blocks_of_the_readme_run(tmp_path: Path) -> None:
    """One after the other in a directory that holds what a checkout has of them, as a reader would paste them."""
    shutil.copytree(CHECKOUT / "fixtures", tmp_path / "fixtures")
    script = "\n".join(blocks(README))
    assert script.count("pybuild") > 5
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), "PYBUILD_ROOT": str(tmp_path / "store"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["sh", "-eux"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/srv/page" in done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(path: Path) -> None:
    for found in re.findall(
        r"`((?:parser|store|builder|pybuild|docs|fixtures|tests|bench)/[\w./-]*)`", path.read_text()
    ):
        assert (CHECKOUT / found).exists() or list(CHECKOUT.glob(f"*/{found}")), f"{path.name} names {found}"


def test_the_configuration_that_is_shown_can_be_read() -> None:
    text = (CHECKOUT / "docs" / "user" / "configuration.md").read_text()
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert set(Config().updated(shown.encode(), "shown").registries) == {"docker.io", "registry.example:5000"}
    table = dict(re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| ([0-9, ]+) \|", text, re.MULTILINE))
    told = {
        key: float(value)
        for keys, values in table.items()
        for key, value in zip(re.findall(r"`([a-z-]+)`", keys), values.split(", "), strict=True)
    }
    assert told == {field.name.replace("_", "-"): field.default for field in dataclasses.fields(RemoteLimits)}


def test_the_verbs_of_the_readme_are_those_of_the_command() -> None:
    from pybuild.verbs import VERBS

    table = README.partition("## The commands")[2].partition("## ")[0]
    named = set(re.findall(r"`(?:pybuild )?([a-z]+)", table))
    assert set(VERBS) - {"build"} <= named
