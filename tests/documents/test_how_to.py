"""The shell blocks of the start page and of each how-to run as they stand, and say what the page shows.

A page is one script, of root and of an ordinary user, which begins in an empty directory with a store that has the base images of the
page: each is this machine's busybox under another name. `registry.example` is a registry with a password, `git.example` a server of git repositories that asks
for a token. What a block of ```text shows has to be in the output, line by line and in this order; … stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, CHECKOUT, MEASURING
from tests.support.gits import GitServer, git_server, make_repository
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.people import Person

HOW_TO = CHECKOUT / "docs/user/how-to"
PAGES = [CHECKOUT / "docs/index.md", *(page for page in sorted(HOW_TO.glob("*.md")) if page.name != "index.md")]
BASES = ("debian:bookworm-slim", "alpine:3.22", "golang:1.25", "python:3.13-slim")
USER, TOKEN = "ci", "s3cret-token"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), login=(USER, TOKEN)) as found:
        found.push(base_archive, "library/debian:bookworm-slim")
        yield found


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    root = tmp_path_factory.mktemp("git")
    recipe = "FROM debian:bookworm-slim\nCOPY src /srv\n"
    files: dict[str, str | bytes] = {
        "Dockerfile": recipe, "src/main.txt": "main\n", "services/web/Dockerfile": recipe, "services/web/src/web.txt": "web\n",
    }  # fmt: skip
    repository = make_repository(root / "team/app.git")
    repository.git("tag", "v1.0", repository.commit(files))
    with git_server(root) as server:
        server.login = f"x-access-token:{TOKEN}"
        yield server


def run(page: Path, person: Person, registry: DockerRegistry, git: GitServer) -> str:
    """The output of the script of a page, which has to succeed."""
    for name in BASES:
        person.pybuild()("tag", BASE, name)
    start = f"export HOME={person.home}\nmkdir $HOME/work\ncd $HOME/work\n"  # the prefix has the home of the account
    script = (start + "\n".join(blocks(page, "sh"))).replace("registry.example", registry.host)
    script = script.replace("https://git.example", git.url).replace("git.example", git.host)
    done = subprocess.run(
        [*person.prefix, "sh", "-eu"],
        input=script,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
            "PYBUILD_ROOT": str(person.home / "store"), "TOKEN": TOKEN, **MEASURING,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    output = done.stdout.replace(registry.host, "registry.example").replace(git.url, "https://git.example")
    assert done.returncode == 0, f"{script}\n{output}"
    return output


def missing(shown: list[str], output: str) -> list[str]:
    """The lines that the page shows and that do not come in this order in the output."""
    rest = iter(output.splitlines())
    patterns = {line: re.compile(".*".join(map(re.escape, line.strip().split("…")))) for line in shown}
    return [line for line in shown if not any(patterns[line].fullmatch(each.strip()) for each in rest)]


def runs() -> Iterator[tuple[Path, str]]:
    """Who runs which page: `make thorough` tries both, `make test` takes turns."""
    for number, page in enumerate(PAGES):
        people = ("root", "range") if "PYBUILD_EVERYBODY" in os.environ else (("root", "range")[number % 2],)
        yield from ((page, person) for person in people)


@pytest.mark.parametrize(
    ("page", "person"), list(runs()), indirect=["person"], ids=lambda value: value.stem if isinstance(value, Path) else value
)
def test_a_page_does_what_it_says(page: Path, person: Person, registry: DockerRegistry, git: GitServer) -> None:
    output = run(page, person, registry, git)
    shown = [line for block in blocks(page, "text") for line in block.splitlines() if line.strip("… ")]
    assert shown, f"{page.name} shows no output"
    lost = missing(shown, output)
    assert not lost, f"{page.name} shows {lost[0]!r}, the output has\n{output}"
    assert TOKEN not in output


def test_lines_out_of_order_are_missed() -> None:
    assert missing(["a… b", "c"], "x\n  a 1 b\nd\nc\n") == []
    assert missing(["c", "a"], "a\nc\n") == ["a"]


def test_the_list_of_how_tos_is_complete() -> None:
    named = re.findall(r"\(([\w-]+\.md)\)", (HOW_TO / "index.md").read_text())
    assert sorted(named) == sorted(page.name for page in HOW_TO.glob("*.md") if page.name != "index.md")
