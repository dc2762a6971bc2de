"""The documents are true: their shell blocks run as they stand, and the files, modules and options that they name exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from pybuild.cli import cli
from pybuild.parser.flags import FLAGS
from pybuild.remote.registry.config import Config
from pybuild.values.limits import LIMITS
from pybuild.verbs import VERBS
from tests.test_house import ROOMS

CHECKOUT = Path(__file__).resolve().parent.parent
README = CHECKOUT / "README.md"
USER = sorted((CHECKOUT / "docs" / "user").glob("*.md"))
DOCUMENTS = [README, *sorted((CHECKOUT / "docs").rglob("*.md"))]
PACKAGES = ("parser", "store", "remote", "builder", "values", "pybuild")
DIRECTORIES = (*PACKAGES, "docs", "examples", "fixtures", "tests", "bench")
# Options of other programs, and those of docker that pybuild refuses.
FOREIGN = {"--tmpfs", "--no-deps", "--push", "--docker-server", "--security-opt", "--user", "--scope", "--variant"}


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def blocks(path: Path) -> str:
    """The shell blocks of a document, as one script."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE))


def quoted(path: Path) -> list[str]:
    """What stands between single backticks in a document, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE))


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1200


@pytest.mark.parametrize("page", [page for page in (README, *USER) if blocks(page)], ids=name_of)
def test_the_shell_blocks_of_a_document_run(page: Path, tmp_path: Path) -> None:
    """They run in the order of the page, after those of the README, in a directory with what a checkout has of them."""
    shutil.copytree(CHECKOUT / "fixtures", tmp_path / "fixtures")
    script = blocks(README) if page == README else f"{blocks(README)}\n{blocks(page)}"
    assert script.count("pybuild") > 5
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), "PYBUILD_ROOT": str(tmp_path / "store"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["sh", "-eux"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/srv/page" in done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_a_document_names_exist(path: Path) -> None:
    """Paths from the checkout on, paths from a package on, and file names alone."""
    for text in quoted(path):
        if re.fullmatch(rf"(?:{'|'.join(DIRECTORIES)})/[\w./-]*", text):
            assert (CHECKOUT / text).exists(), f"{name_of(path)} names {text}"
        elif re.fullmatch(r"[\w/]+\.(?:py|lark)", text):
            found = [found for package in PACKAGES for found in (CHECKOUT / package).rglob(text)]
            assert found, f"{name_of(path)} names {text}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_modules_that_a_document_names_exist(path: Path) -> None:
    """`builder.plan.graph` and `pybuild.builder.plan.graph`, each perhaps with the name of something in the module."""
    for text in quoted(path):
        if re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+", text) and not text.endswith((".py", ".md", ".json")):
            name = text if text.startswith("pybuild.") else f"pybuild.{text}"
            assert resolves(name), f"{name_of(path)} names {text}"


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    found: object = import_module("pybuild")
    module = "pybuild"
    for part in name.split(".")[1:]:
        module = f"{module}.{part}"
        try:
            found = import_module(module)
        except ModuleNotFoundError:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
    return True


def test_names_in_files_that_the_guide_names_exist() -> None:
    """CONTRIBUTING.md writes `directory/file.py::name` and `directory/file.py::Class.name`."""
    for path, name in re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", (CHECKOUT / "CONTRIBUTING.md").read_text()):
        if path == "pybuild/commands/foo.py":
            continue  # the example of a new file
        assert (CHECKOUT / path).exists(), f"CONTRIBUTING.md names {path}"
        text = (CHECKOUT / path).read_text()
        for part in name.split(".") if name else ():
            assert re.search(rf"^ *(?:async )?(?:def |class )?{part}\b", text, re.MULTILINE), f"CONTRIBUTING.md names {path}::{name}"


def test_classes_that_a_document_for_maintainers_names_exist() -> None:
    """`ClassName` and `ClassName.member`, unless the class is one of OCI's, Python's, or a name in an example."""
    found: dict[str, str] = {}
    for file in (file for package in PACKAGES for file in (CHECKOUT / package).rglob("*.py")):
        text = file.read_text()
        found |= dict.fromkeys(re.findall(r"^ *class (\w+)", text, re.MULTILINE), text)
    for path in [*(CHECKOUT / "docs" / "dev").rglob("*.md"), CHECKOUT / "docs" / "user" / "api.md"]:
        if path.name == "language-rules.md":
            continue  # names of BuildKit's checks
        for text in quoted(path):
            if match := re.fullmatch(r"([A-Z][a-z]+[A-Z]\w+)(?:\.(\w+))?", text):
                assert match[1] in found, f"{name_of(path)} names {text}"
                assert not match[2] or match[2] in found[match[1]], f"{name_of(path)} names {text}"


def options(command: click.Command) -> set[str]:
    """The options of a command and of its subcommands."""
    found = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            found |= options(sub)
    return found | {"--help", "--version"}


@pytest.mark.parametrize("path", [README, *(CHECKOUT / "docs" / "user").rglob("*.md")], ids=name_of)
def test_options_that_a_document_names_exist(path: Path) -> None:
    """Options of the command line, and flags of instructions."""
    known = options(cli) | {f"--{name}" for flags in FLAGS.values() for name in flags} | FOREIGN
    if path.name in ("kaniko.md", "docker-build.md", "buildah.md"):  # tables whose first column has the options of other programs
        rows = [line.split("|")[1] for line in path.read_text().splitlines() if line.startswith("| `")]
        known |= set(re.findall(r"--[a-zA-Z][a-z-]*", " ".join(rows)))
    named = {word for text in quoted(path) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert sorted(named - known) == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *CHECKOUT.glob("*.md")], ids=name_of)
def test_nobody_is_told_to_install_another_project(path: Path) -> None:
    """The name pybuild on PyPI belongs to another project."""
    assert not re.search(r"(?:pip|pipx) install (?:-\S+ )*pybuild(?!-oci)\b", path.read_text())


def test_the_configuration_that_is_shown_can_be_read() -> None:
    text = (CHECKOUT / "docs" / "user" / "configuration.md").read_text()
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert set(Config().updated(shown.encode(), "shown").registries) == {"docker.io", "registry.example:5000"}


def test_the_table_of_limits_is_complete() -> None:
    text = (CHECKOUT / "docs" / "user" / "configuration.md").read_text().partition("## Limits")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(limit.name, limit.shown(limit.default), limit.what) for limit in LIMITS.values()]


def test_the_table_of_commands_is_complete() -> None:
    table = (CHECKOUT / "docs" / "user" / "commands.md").read_text().partition("\n## ")[0]
    named = set(re.findall(r"`(?:pybuild )?([a-z-]+)", table))
    assert set(VERBS) - {"build"} <= named


def test_the_index_names_every_document() -> None:
    index = (CHECKOUT / "docs" / "README.md").read_text()
    for path in DOCUMENTS[1:]:
        name = name_of(path)
        assert name == "docs/README.md" or "/decisions/" in name or f"`{name}`" in index, f"docs/README.md lacks {name}"


def test_the_picture_of_the_house_is_the_house() -> None:
    """docs/dev/architecture.md lists the rooms of each package in the order that tests/test_house.py enforces."""
    text = (CHECKOUT / "docs" / "dev" / "architecture.md").read_text()
    drawn: dict[str, list[str]] = {}
    rooms: list[str] = []
    for line in text.splitlines():
        if package := re.match(r"(\w+)/  \S", line):
            rooms = drawn.setdefault(package[1], [])
        elif room := re.match(r"  (\w+)  +\S", line):
            rooms.append(room[1])
        elif line.startswith("```"):
            rooms = []
    assert drawn == {package: " ".join(lines).split() for package, lines in ROOMS.items()}
