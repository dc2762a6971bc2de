"""What an installation has besides Python packages, made from the commands: manual pages, completions. And the self-test."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import click
import pytest

from pybuild.cli import cli
from pybuild.completion_scripts import SHELLS, completion_script
from pybuild.installation.files import installed_files
from pybuild.verbs import VERBS
from tests.support.cli import BASE, SCRIPT, Pybuild, write_context
from tests.support.people import Person
from tests.support.tools import run

FILES = dict(installed_files())
RECIPE = f"FROM {BASE} AS first\nFROM {BASE} AS second\nRUN true\n"
BASH = """\
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COMP_KEY=9
compopt() { echo "compopt $*"; }
_pybuild_completion pybuild
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_every_command_has_a_page() -> None:
    pages = {path for path in FILES if "/man1/" in path}
    assert pages == {"share/man/man1/pybuild.1", *(f"share/man/man1/pybuild-{verb}.1" for verb in VERBS)}


def test_pages_are_valid(tmp_path: Path) -> None:
    for path, text in FILES.items():
        if "/man1/" in path:
            page = tmp_path / Path(path).name
            page.write_text(text)
            done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
            assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


def test_pages_show_every_option(tmp_path: Path) -> None:
    context = click.Context(cli, info_name="pybuild")
    for verb in VERBS:
        page = tmp_path / "page.1"
        page.write_text(FILES[f"share/man/man1/pybuild-{verb}.1"])
        shown = re.sub(".\b", "", run("mandoc", "-T", "utf8", page))  # bold is written twice
        command = cli.get_command(context, verb)
        assert command is not None
        inner = click.Context(command, context, verb)
        for option in command.get_params(inner):
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[0] in shown, f"{verb}: {option.opts[0]}"


def test_pages_for_another_name_do_not_own_ours() -> None:
    other = dict(installed_files("pybuild-image"))
    assert not set(other) & set(FILES)
    assert "pybuild\\-image\\-build" in other["share/man/man1/pybuild-image.1"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_valid(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(completion_script(cli, shell))
    assert run(shell, "-n", script) == ""


def completed(pybuild: Pybuild, line: str, tmp_path: Path, cwd: Path) -> list[str]:
    """What bash completes at the end of a line."""
    script = tmp_path / "completion.bash"
    script.write_text(completion_script(cli, "bash"))
    environment = {**pybuild.env(), "PATH": f"{Path(SCRIPT).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", script, line], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split("\n")[:-1]


def test_bash_completes(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", RECIPE)
    pybuild("tag", BASE, "127.0.0.1:5000/team/app:1")
    for line, expected in {
        "pybuild che": ["compopt -o dirnames", "check-image"],
        "pybuild --ro": ["--root"],
        "pybuild build --max-l": ["--max-layer-size", "--max-layers"],
        "pybuild history pyb": [f"{BASE}:latest"],
        "pybuild history 127.0.0.1:": ["5000/team/app:1"],  # bash has taken what is before the colon
        "pybuild history 127.0.0.1:5000/team/app:": ["1"],
        f"pybuild rmi {BASE}:latest pyb": [""],
        "pybuild build --target ": ["first", "second"],
        "pybuild build --target=s": ["second"],
        "pybuild --target f": ["first"],
        f"pybuild build -f {context}/Buildfile --target s": ["second"],
        "pybuild build --progress=q": ["quiet"],
        "pybuild --tar": ["--target"],
        "pybuild build x": ["compopt -o dirnames", ""],
        "pybuild build -f x": ["compopt -o default", ""],
        "pybuild import x": ["compopt -o default", ""],
        "pybuild completion z": ["zsh"],
    }.items():
        assert completed(pybuild, line, tmp_path, context) == expected, line


def test_completion_says_nothing_about_a_broken_store(pybuild: Pybuild, tmp_path: Path) -> None:
    (pybuild.root / "metadata.db").write_bytes(b"broken")
    assert completed(pybuild, "pybuild history x", tmp_path, tmp_path) == [""]
    missing = Pybuild(tmp_path / "none")
    assert completed(missing, "pybuild history x", tmp_path, tmp_path) == [""]
    assert not missing.root.exists()
    (tmp_path / "Buildfile").write_text("FROM\n\0")
    assert completed(missing, "pybuild build --target ", tmp_path, tmp_path) == [""]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell: str) -> None:
    assert run(SCRIPT, "completion", shell) == completion_script(cli, shell)


@pytest.mark.parametrize("person", ["root", "range", "single"], indirect=True)
def test_the_self_test(person: Person) -> None:
    pybuild = person.pybuild()
    before = sorted(path.name for path in person.home.iterdir())
    done = pybuild("self-test")
    assert [line.split()[:2] for line in done.out.splitlines()] == [["ok", "COPY"], ["ok", "cache"], ["ok", "RUN"]]
    assert done.err == ""
    assert sorted(path.name for path in person.home.iterdir()) == before


def test_the_self_test_without_namespaces(tmp_path: Path) -> None:
    inside = ("unshare", "--user", SCRIPT)  # with no id map nothing can be mounted
    done = Pybuild(tmp_path / "store", command=inside).run("self-test")
    assert done.status == 1
    assert [line.split()[0] for line in done.out.splitlines()] == ["ok", "ok", "fail"]
    assert "hint: pybuild doctor" in done.err
    assert list(tmp_path.iterdir()) == []
