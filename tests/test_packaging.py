"""Every way to install pybuild: from the sdist, as a wheel, editable, as a zipapp, and straight from the checkout.

Nothing here uses the network. A fresh virtual environment sees the dependencies that pyproject.toml
names, as links to those of the environment that runs the tests, and nothing else of that environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from pybuild.installation.files import installed_files

CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
ROOMS = ("builder", "parser", "remote", "store", "values")  # pybuild/ holds a link to each
TEXTS = ("LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
RECIPE = "FROM scratch\nCOPY file /copied\n"
MINE = 'OWNER = "the user"\n'  # what each module in the user's own directory says


def run(*command: object, cwd: Path, **environment: str) -> str:
    """The standard output of a command that must succeed. Its environment is ours in PATH only."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8", "PIP_NO_INDEX": "1"}
    clean |= {"PYBUILD_ROOT": str(cwd / "store.d"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.root / "bin" / "pybuild"

    @property
    def site_packages(self) -> Path:
        (found,) = self.root.glob("lib/python*/site-packages")
        return found

    def installed(self) -> set[str]:
        """The names in site-packages, without metadata and the links to the dependencies."""
        names = {path.name for path in self.site_packages.iterdir()}
        return {name for name in names if not name.endswith(".dist-info")} - {"__pycache__", "dependencies.pth"}


def make_environment(root: Path, *build_tools: str) -> Environment:
    """A virtual environment with links to the dependencies, in a directory of their own."""
    venv.create(root, with_pip=False, symlinks=True)
    links = root / "dependencies"
    links.mkdir()
    names = [re.split(r"[^\w-]", requirement)[0] for requirement in PROJECT["project"]["dependencies"]]
    for distribution in map(metadata.distribution, [*names, *build_tools]):
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if name != "__pycache__":
                (links / name).symlink_to(Path(str(distribution.locate_file(name))))
    made = Environment(root)
    (made.site_packages / "dependencies.pth").write_text(f"{links}\n")
    return made


def copy_sources(target: Path) -> Path:
    """The files that an sdist is made of, with the links. Builds leave files in this copy, not in the checkout."""
    target.mkdir()
    for name in ("pybuild", *ROOMS, "docs"):
        shutil.copytree(CHECKOUT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", *TEXTS):
        shutil.copy(CHECKOUT / name, target)
    return target


def pip_install(environment: Environment, *arguments: object) -> None:
    """Install with the pip of the environment that runs the tests."""
    pip = (sys.executable, "-m", "pip", "--python", environment.python)
    run(*pip, "install", "--no-deps", "--no-build-isolation", *arguments, cwd=environment.root)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    place = tmp_path_factory.mktemp("distributions")
    sources = copy_sources(place / "sources")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", sources, cwd=place)
    return place / "dist"


@pytest.fixture(scope="module")
def sdist(distributions: Path) -> Path:
    (found,) = distributions.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="module", params=["wheel", "editable", "editable compat"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with pybuild installed in one of the ways."""
    place = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    if request.param == "wheel":
        environment = make_environment(place / "venv")
        pip_install(environment, request.getfixturevalue("wheel"))
        return environment
    environment = make_environment(place / "venv", "setuptools")
    settings = ["--config-settings=editable_mode=compat"] if request.param == "editable compat" else []
    pip_install(environment, *settings, "--editable", copy_sources(place / "sources"))
    return environment


def make_context(directory: Path, recipe: str = RECIPE, modules: tuple[str, ...] = ()) -> Path:
    """A context that also holds Python modules of the user's own."""
    directory.mkdir()
    (directory / "Buildfile").write_text(recipe)
    (directory / "file").write_text("content\n")
    for name in modules:
        (directory / f"{name}.py").write_text(MINE)
    return directory


def assert_builds(*command: object, context: Path, path: str = ".") -> None:
    """Run from inside the context: the command builds it, and the result holds the file."""
    run(*command, "-q", "--output", "type=local,dest=result", path, cwd=context)
    assert (context / "result" / "copied").read_text() == "content\n"


def test_the_wheel_holds_every_module_below_one_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    links = {CHECKOUT / "pybuild" / room for room in ROOMS}
    files = [
        path for room in ROOMS for path in (CHECKOUT / room).rglob("*") if path.suffix in (".py", ".lark", ".json")
    ]
    modules = {f"pybuild/{path.relative_to(CHECKOUT)}" for path in files}
    modules |= {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "pybuild/pages/static").iterdir()}
    for path in (CHECKOUT / "pybuild").rglob("*.py"):
        if not links & set(path.parents):  # newer Pythons follow links
            modules.add(str(path.relative_to(CHECKOUT)))
    code = {name for name in names if not name.split("/")[0].endswith((".dist-info", ".data"))}
    assert code == {*modules, "pybuild/py.typed"}


def test_the_wheel_holds_manual_pages_and_completions(wheel: Path) -> None:
    """They are made from the commands while the wheel is built, here by way of the sdist."""
    archive = zipfile.ZipFile(wheel)
    found = {name.partition(".data/data/")[2]: name for name in archive.namelist() if ".data/data/" in name}
    documents = {"share/doc/pybuild-oci/README.md", "share/doc/pybuild-oci/CHANGELOG.md"}
    assert {path: archive.read(name).decode() for path, name in found.items() if path not in documents} == dict(installed_files())
    assert documents <= set(found)


def test_the_sdist_holds_the_sources_and_the_texts(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
        assert all(member.isfile() or member.isdir() for member in archive), "links are files in an sdist"
    code = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pybuild/")}
    assert code | set(TEXTS) <= files
    assert not {name for name in files if name.startswith("tests/")}


def test_the_metadata_names_the_licence_and_its_texts(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(name).decode().splitlines()
    assert {"Name: pybuild-oci", "License-Expression: Apache-2.0", "License-File: NOTICE"} <= set(lines)
    assert name.replace("METADATA", "licenses/LICENSE") in archive.namelist()


def test_an_installation_adds_one_name(installed: Environment) -> None:
    names = installed.installed()
    if any(name.startswith("__editable__") for name in names):
        assert {name.split("pybuild")[0] for name in names} <= {"__editable__.", "__editable___"}
    else:
        assert names == {"pybuild"}
        found = "import importlib.util as i; print([n for n in {names} if i.find_spec(n)])"
        assert run(installed.python, "-c", found.format(names=ROOMS), cwd=installed.root) == "[]\n"


def test_an_installation_has_manual_pages_and_completions(installed: Environment) -> None:
    for path, text in installed_files():
        assert (installed.root / path).read_text() == text


def test_every_module_can_be_imported(installed: Environment) -> None:
    code = (
        "import importlib, pkgutil, pybuild\n"
        "names = [m.name for m in pkgutil.walk_packages(pybuild.__path__, 'pybuild.')]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "print(len(names))"
    )
    assert int(run(installed.python, "-c", code, cwd=installed.root)) > 200


def test_the_command_and_the_module_build(installed: Environment, tmp_path: Path) -> None:
    assert_builds(installed.command, context=make_context(tmp_path / "one"))
    assert_builds(installed.python, "-m", "pybuild", context=make_context(tmp_path / "two"))


def test_a_script_keeps_its_own_modules(installed: Environment, tmp_path: Path) -> None:
    """A script's directory comes first in sys.path: modules there with the names of ours are not taken for ours."""
    here = make_context(tmp_path / "project", modules=("parser", "store", "values", "remote"))
    (here / "builder").mkdir()
    (here / "builder" / "__init__.py").write_text(MINE)
    (here / "script.py").write_text(
        "import subprocess, sys\n"
        "import pybuild\n"
        "image = pybuild.build('.')\n"
        "import builder, parser, remote, store, values\n"
        "assert {m.OWNER for m in (builder, parser, remote, store, values)} == {'the user'}\n"
        "said = subprocess.run([sys.argv[1], '-q', '.'], stdout=subprocess.PIPE, text=True, check=True).stdout\n"
        "print(str(image.digest) == said.strip())\n"
    )
    assert run(installed.python, "script.py", installed.command, cwd=here) == "True\n"


def test_the_modules_of_a_context_are_not_imported(installed: Environment, tmp_path: Path) -> None:
    """`python -m` puts the working directory first in sys.path; pybuild/__main__.py takes it out."""
    foreign = ("click", "zstandard", "isal", "lark", "urllib3", "json", "parser", "store", "values", "remote")
    assert_builds(installed.python, "-m", "pybuild", context=make_context(tmp_path / "context", modules=foreign))


def test_a_checkout_runs_without_being_installed(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    context = make_context(tmp_path / "context")
    environment = make_environment(tmp_path / "venv")
    out = f"--output=type=local,dest={context / 'result'}"
    run(environment.python, "-m", "pybuild", "-q", out, context, cwd=sources)
    assert (context / "result" / "copied").read_text() == "content\n"


def test_a_zipapp_builds(wheel: Path, base_archive: Path, tmp_path: Path) -> None:
    """Our code is in the archive; the dependencies, two of which are C extensions, are in the environment."""
    environment = make_environment(tmp_path / "venv")
    app = tmp_path / "app"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--target", app, wheel, cwd=tmp_path)
    run(sys.executable, "-m", "zipapp", app, "-m", "pybuild.__main__:main", "-o", "pybuild.pyz", cwd=tmp_path)
    context = make_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY file /\nRUN cat /file > /copied\n")
    shutil.move(tmp_path / "pybuild.pyz", context)
    run(environment.python, "pybuild.pyz", "import", base_archive, cwd=context)
    assert_builds(environment.python, "pybuild.pyz", "build", "--network=none", context=context)
